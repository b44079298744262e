"""An evaluation: what is measured, how far it is, and what came out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from embedscale.core.dataset import Judgements
from embedscale.core.embedding import Truncation


class State(Enum):
    """Where an evaluation is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Stage(Enum):
    """What a running evaluation is doing."""

    NONE = "none"
    READ_DATASET = "read_dataset"
    EMBED_CORPUS = "embed_corpus"
    SCORE_QUERIES = "score_queries"


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """What to evaluate; `dimensions` 0 means the model's own."""

    model: str
    dataset: str
    cutoffs: Sequence[int] = (5,)
    dimensions: int = 0
    truncation: Truncation = Truncation.END


@dataclass(frozen=True, slots=True)
class Metric:
    """A mean over queries with its 95 % bootstrap interval."""

    name: str
    cutoff: int
    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What an evaluation cost: tokens computed, texts embedded, texts from the cache, texts cut, US dollars."""

    tokens: int = 0
    inputs: int = 0
    cache_hits: int = 0
    truncated: int = 0
    cost: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.tokens + other.tokens,
            self.inputs + other.inputs,
            self.cache_hits + other.cache_hits,
            self.truncated + other.truncated,
            self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What was retrieved for a query, the best first; `rank` counts from 1, 0 means no relevant document was found."""

    query_id: str
    rank: int
    retrieved: Sequence[tuple[str, float]]
    judgements: Judgements

    @property
    def relevant(self) -> tuple[str, ...]:
        """Ids of the documents that answer the query, sorted: its source documents, for resampling."""
        return tuple(sorted(document for document, grade in self.judgements.items() if grade > 0))


@dataclass(frozen=True, slots=True)
class Result:
    """How a succeeded evaluation ended."""

    metrics: Sequence[Metric]
    query_count: int
    document_count: int
    usage: Usage
    fingerprint: str
    dimensions: int
    dataset_digest: str
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an evaluation is: `done` of `total` documents or queries of its stage."""

    stage: Stage = Stage.NONE
    done: int = 0
    total: int = 0
    running: Sequence[Metric] = ()
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an evaluation; `sequence` counts from 1, and so does `attempt` once it has run."""

    sequence: int
    time: datetime
    state: State
    progress: Progress
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an evaluation failed: the name of an ErrorReason of the wire, a sentence, the field at fault."""

    reason: str
    message: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation as it stands."""

    id: str
    spec: EvaluationSpec
    state: State
    created: datetime
    ended: datetime | None = None
    result: Result | None = None
    failure: Failure | None = None
    caller: str = ""
    ordinal: int = 0
    """Evaluations are numbered in the order they were created."""
    attempt: int = 0
    """How often an evaluator has begun it."""
    queue_position: int = 0
    """1 for the first that waits; 0 when it does not wait."""
