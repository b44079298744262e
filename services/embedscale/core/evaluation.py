"""An evaluation: what is measured, how far it is, and what came out."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from embedscale.core.dataset import Judgements
from embedscale.core.embedding import Encoding, Truncation
from embedscale.core.vector_index import IndexSpec


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
    SWEEP_INDEXES = "sweep_indexes"


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """What to evaluate; `dimensions` 0 means the model's own.

    `indexes`, `sweep_dimensions` and `sweep_encodings` are tried beside exact search of full float32 vectors, in all
    combinations. `ignore_identical_ids` leaves out of a query's ranking the document of the same id. `trace` is the
    caller's W3C traceparent, which whoever evaluates continues.
    """

    model: str
    dataset: str
    cutoffs: Sequence[int] = (5,)
    dimensions: int = 0
    truncation: Truncation = Truncation.END
    indexes: Sequence[IndexSpec] = ()
    sweep_dimensions: Sequence[int] = ()
    sweep_encodings: Sequence[Encoding] = ()
    ignore_identical_ids: bool = False
    trace: str = field(default="", compare=False)

    @property
    def sweeps(self) -> bool:
        """Whether anything but exact search of full vectors is asked for."""
        return bool(self.indexes or self.sweep_dimensions or self.sweep_encodings)


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
        """Ids of the documents that answer the query, sorted."""
        return tuple(sorted(document for document, grade in self.judgements.items() if grade > 0))

    @property
    def source(self) -> Hashable:
        """What the query was made of, for resampling: its relevant documents, or where it has none itself alone."""
        return self.relevant or self.query_id


@dataclass(frozen=True, slots=True)
class Loss:
    """What a metric lost against exact search of full vectors: by shorter or rounded vectors, and by the index."""

    name: str
    cutoff: int
    compression: float
    index: float


@dataclass(frozen=True, slots=True)
class Variant:
    """The same vectors searched in another way; `index` has all its parameters.

    `bytes_per_vector` is what the encoding takes with exact search, else the whole index by its number of vectors.
    The search times are of one query at a time.
    """

    index: IndexSpec
    dimensions: int
    encoding: Encoding
    metrics: Sequence[Metric]
    losses: Sequence[Loss]
    build_seconds: float
    bytes_per_vector: float
    search_p50_seconds: float
    search_p95_seconds: float


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
    variants: Sequence[Variant] = ()


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
