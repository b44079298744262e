"""Settings of the evaluator."""

from pathlib import Path

from pydantic import Field

from embedscale.servicekit.embedding_access import EmbeddingAccess
from embedscale.servicekit.settings import RedisUrlSetting, ServerSettings


class EvaluatorSettings(EmbeddingAccess, ServerSettings):
    """Settings of the evaluator, which measures models on data sets."""

    service = "evaluator"

    embedder_patience_seconds: float = Field(default=300.0, ge=0)
    """How long a block of texts is sent again to an embedding service that is busy or away."""
    dataset_roots: list[Path] = []
    """Folders under which data set files may be read; none when empty."""
    dataset_hosts: list[str] = []
    """Hosts and buckets that data sets may be fetched from; "*" for any, none when empty."""
    dataset_private_hosts: list[str] = []
    """Hosts of dataset_hosts whose names may lead to private and loopback addresses; "*" for any. An address that
    dataset_hosts itself lists is allowed anyway."""
    dataset_proxy: str = Field(default="", pattern="^(https?://.+)?$")
    """URL of the proxy through which http(s) data sets are fetched; private addresses are then its to refuse."""
    dataset_max_bytes: int = Field(default=16 * 2**30, ge=1)
    """Size of a data set at most, unpacked, in bytes."""
    kept_datasets: int = Field(default=100, ge=1, le=10_000)
    """Imported data sets that are kept; the least recently used are dropped beyond it."""
    chat_models_file: Path | None = None
    """YAML file of the chat models that may write questions; without it no data set can be generated. The key of model
    NAME is in the environment variable EMBEDSCALE_CHAT_KEY_{NAME}, or in the file that ..._{NAME}_FILE names."""
    prompts_folder: Path | None = None
    """Folder of prompt templates (*.yaml) that are added to those that ship, or replace those of the same language."""
    chunk_tokenizer: str = "multilingual-e5-small-local"
    """Counts the tokens of chunks where a request names nothing: an embedding model, or "tiktoken:ENCODING"."""
    kept_answers_seconds: float = Field(default=90 * 86400.0, gt=0)
    """How long answers of chat models are kept, so that nothing is paid for twice."""
    redis_url: RedisUrlSetting = ""
    """URL of the Redis that keeps the evaluations, of the same kinds as the embedder's; all evaluators with the same
    Redis share their work. Without it they are kept in a file under the data folder."""
    data_folder: Path | None = None
    """Folder for what the evaluator keeps, by default one in the user's state folder: imported data sets, and without
    Redis its evaluations, in a file that no other process may share."""
    running_evaluations: int = Field(default=2, ge=1)
    """Evaluations that run at once in this process; others wait, or run in another replica."""
    running_per_caller: int = Field(default=0, ge=0)
    """Evaluations of one caller that run at once, in all replicas together; as many as there is room for with 0."""
    queued_evaluations: int = Field(default=1000, ge=0)
    """Evaluations that wait at most; more are refused with RESOURCE_EXHAUSTED."""
    kept_evaluations: int = Field(default=1000, ge=1)
    """Ended evaluations that are kept; the oldest are forgotten beyond it."""
    kept_seconds: float = Field(default=90 * 86400.0, gt=0)
    """How long an ended evaluation is kept."""
    lease_seconds: float = Field(default=10.0, ge=0.2, le=3600)
    """With Redis: how long an evaluator may not be heard of before another takes over its evaluations."""
    attempts_that_die: int = Field(default=3, ge=1)
    """An evaluation whose evaluators died so often has failed."""
