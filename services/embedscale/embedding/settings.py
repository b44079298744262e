"""Settings of every server that offers EmbeddingService."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from embedscale.servicekit.settings import RedisUrlSetting, ServerSettings


class EmbeddingServerSettings(ServerSettings):
    """What embedder and proxy share."""

    catalog: Path | None = None
    """YAML file of models that adds to the shipped catalog."""
    models: list[str] = []
    """Catalog names of the models to host. When empty: those that need no download, or whose upstream is set."""
    redis_url: RedisUrlSetting = ""
    """URL of the Redis that caches vectors: redis://, rediss:// (TLS), unix://,
    redis+sentinel://host:port,.../service/db or redis+cluster://host:port,...; none when empty."""
    redis_timeout_seconds: float = Field(default=0.045, gt=0)
    """How long a request may wait for the cache, in all, before it goes on without."""
    cache_ttl_seconds: int = Field(default=30 * 86400, ge=1)
    """How long a cached vector is kept, give or take a tenth."""
    cache_dtype: Literal["float32", "float16"] = "float32"
    """Number format of vectors in Redis; float16 takes half the memory, and vectors come back rounded."""
    cache_memory_bytes: int = Field(default=256 * 2**20, ge=0)
    """Bytes of vectors that are also kept in the server's own memory; none with 0."""
    cache_pending_writes: int = Field(default=16384, ge=1)
    """Vectors that may wait to be written to Redis; beyond it they are not cached."""
    cache_lease_seconds: float = Field(default=2.0, ge=0, le=60)
    """How long other replicas wait for a text that one of them computes; with 0 they do not."""
    max_inputs: int = Field(default=512, ge=1)
    """Inputs in one request at most."""
    max_text_characters: int = Field(default=16 * 2**20, ge=1)
    """Characters of one text at most."""
    max_queued_inputs: int = Field(default=8192, ge=1)
    """Inputs for remote models admitted and unanswered at most; beyond it requests get RESOURCE_EXHAUSTED."""
