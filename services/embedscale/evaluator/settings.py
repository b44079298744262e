"""Settings of the evaluator."""

from pathlib import Path

from pydantic import Field

from embedscale.servicekit.settings import ServerSettings


class EvaluatorSettings(ServerSettings):
    """Where models and data sets are, and how much runs at once."""

    embedding_addresses: list[str] = Field(default=[], min_length=1, validate_default=True)
    """Addresses (host:port) of EmbeddingService; a model is found at whichever lists it."""
    embedder_patience_seconds: float = Field(default=300.0, ge=0)
    """How long a block of texts is sent again to an embedding service that is busy or away."""
    dataset_roots: list[Path] = []
    """Folders under which data set files may be read; none when empty."""
    dataset_hosts: list[str] = []
    """Hosts that data sets may be fetched from; "*" for any, none when empty."""
    dataset_max_bytes: int = Field(default=512 * 2**20, ge=1)
    """Size of a data set at most."""
    running_evaluations: int = Field(default=2, ge=1)
    """Evaluations that run at once; others wait in the order they came."""
    queued_evaluations: int = Field(default=1000, ge=0)
    """Evaluations that wait at most; more are refused with RESOURCE_EXHAUSTED."""
    kept_evaluations: int = Field(default=1000, ge=1)
    """Ended evaluations that are kept; the oldest are forgotten beyond it."""
