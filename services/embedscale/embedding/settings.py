"""Settings of every server that offers EmbeddingService."""

from pathlib import Path

from pydantic import Field

from embedscale.servicekit.settings import ServerSettings


class EmbeddingServerSettings(ServerSettings):
    """What embedder and proxy share."""

    catalog: Path | None = None
    """YAML file of models that adds to the shipped catalog."""
    models: list[str] = []
    """Catalog names of the models to host; all that this server can host when empty."""
    redis_url: str = Field(default="", pattern="^((rediss?|unix)://.*)?$")
    """URL of the Redis that caches vectors; no cache when empty."""
    redis_timeout_seconds: float = Field(default=0.25, gt=0)
    """How long the cache may take to answer before it is passed over."""
    cache_ttl_seconds: int = Field(default=30 * 86400, ge=1)
    """How long a cached vector is kept."""
    max_inputs: int = Field(default=512, ge=1)
    """Inputs in one request at most."""
    max_queued_inputs: int = Field(default=8192, ge=1)
    """Inputs for remote models admitted and unanswered at most; beyond it requests get RESOURCE_EXHAUSTED."""
