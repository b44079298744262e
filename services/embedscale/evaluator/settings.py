"""Settings of the evaluator."""

from pathlib import Path

from pydantic import Field

from embedscale.servicekit.settings import ServerSettings


class EvaluatorSettings(ServerSettings):
    """Where models and data sets are, and how much runs at once."""

    embedding_addresses: list[str] = Field(default=[], min_length=1, validate_default=True)
    """Addresses (host:port) of EmbeddingService; a model is found at whichever lists it."""
    dataset_roots: list[Path] = []
    """Folders under which data set files may be read; none when empty."""
    dataset_hosts: list[str] = []
    """Hosts and buckets that data sets may be fetched from; "*" for any, none when empty."""
    dataset_max_bytes: int = Field(default=16 * 2**30, ge=1)
    """Size of a data set at most, unpacked, in bytes."""
    data_folder: Path | None = None
    """Folder of imported data sets; without it, one in the user's cache folder."""
    kept_datasets: int = Field(default=100, ge=1, le=10_000)
    """Imported data sets that are kept; the least recently used are dropped beyond it."""
    running_evaluations: int = Field(default=2, ge=1)
    """Evaluations that run at once; others wait in the order they came."""
    queued_evaluations: int = Field(default=1000, ge=0)
    """Evaluations that wait at most; more are refused with RESOURCE_EXHAUSTED."""
    kept_evaluations: int = Field(default=1000, ge=1)
    """Ended evaluations that are kept; the oldest are forgotten beyond it."""
