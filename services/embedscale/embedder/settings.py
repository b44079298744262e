"""Settings of the embedder."""

from pydantic import ByteSize, Field

from embedscale.embedding.settings import EmbeddingServerSettings


class EmbedderSettings(EmbeddingServerSettings):
    """Settings of the embedder, which serves local models over gRPC."""

    service = "embedder"

    preload: list[str] = []
    """Names of the models to load at the start; when empty, the first of `models` that fit memory_budget together."""
    memory_budget: ByteSize | None = None
    """Memory for weights, such as 8GB: idle models leave it to make room for others; no limit by default."""
    device: str = Field(default="auto", pattern="^(auto|cpu|mps|cuda(:[0-9]+)?)$")
    """Where models run: "cpu", "cuda", "mps", or "auto" for the best there is."""
    threads: int | None = Field(default=None, ge=1)
    """Threads that models are computed with; all cores by default."""
    token_budget: int | None = Field(default=None, ge=1)
    """Padded tokens in one batch, of which a CPU computes one a thread; by default what is fastest when the model is
    loaded on a CPU, and 16384 elsewhere."""
    interactive_texts: int = Field(default=8, ge=0)
    """Requests of at most so many texts, windows of long texts counted, go before larger ones."""
    aging_seconds: float = Field(default=0.5, ge=0)
    """How long a large request waits before it takes turns with the small ones."""
    max_queued_tokens: int = Field(default=400_000, ge=1)
    """Tokens that wait for one model at most; beyond it requests are refused with RESOURCE_EXHAUSTED."""
