"""What embedding is about: texts, vectors, and what is known of a model. Frozen values without behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""Vectors as rows: float32, shape (n, dimensions)."""


class InputType(Enum):
    """What a text is for; picks the model's prompt."""

    UNSPECIFIED = "unspecified"
    QUERY = "query"
    DOCUMENT = "document"


class Truncation(Enum):
    """What happens to a text of more tokens than the model's maximum."""

    ERROR = "error"
    END = "end"
    WINDOWS = "windows"


class Encoding(Enum):
    """How the numbers of returned vectors are written."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"


class ModelState(Enum):
    """Whether a model can be used."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text as the model sees it.

    `variant` tells apart inputs that the text alone does not, such as the upstream's model name for queries.
    """

    prompted: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Embedding:
    """One full vector of a text, float32 of shape (dimensions,), and what its tokenisation showed.

    `token_count` counts the tokens before truncation; None where an upstream does not tell.
    """

    vector: NDArray[np.float32]
    token_count: int | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """What full vectors that may be compared with each other have in common."""

    fingerprint: str
    dimensions: int
    normalized: bool


@dataclass(frozen=True, slots=True)
class EngineBatch:
    """What an engine returns for a batch: embedding i belongs to text i."""

    embeddings: Sequence[Embedding]
    tokens_used: int
    compute_seconds: float


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine has still to compute, in tokens, and the most it takes.

    `tokens_per_second` is its measured speed under load; None while that is not known.
    """

    queued_tokens: int
    limit_tokens: int
    tokens_per_second: float | None

    @property
    def wait_seconds(self) -> float | None:
        """How long what is queued now will take; None as long as the speed is not known."""
        return self.queued_tokens / self.tokens_per_second if self.tokens_per_second else None


@dataclass(frozen=True, slots=True)
class EmbedCommand:
    """A validated request to embed `texts` with `model`; `dimensions` 0 means the model's own.

    `remaining_seconds` is the time to the caller's deadline when the request arrived; None if there is no deadline.
    """

    model: str
    texts: Sequence[str]
    input_type: InputType = InputType.UNSPECIFIED
    dimensions: int = 0
    truncation: Truncation = Truncation.ERROR
    encoding: Encoding = Encoding.FLOAT32
    remaining_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What happened to one input."""

    token_count: int | None
    truncated: bool
    cache_hit: bool


@dataclass(frozen=True, slots=True)
class EmbedOutcome:
    """The answer to an `EmbedCommand`: `rows` is the encoded matrix, row i for text i; `cost` is in US dollars."""

    rows: bytes
    dimensions: int
    encoding: Encoding
    facts: Sequence[InputFacts]
    fingerprint: str
    tokens_used: int
    cost: float
    queue_seconds: float
    compute_seconds: float


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """Vectors that a service returned, row i for text i, and what they cost in tokens and in US dollars."""

    vectors: Matrix
    fingerprint: str
    tokens_used: int
    cost: float
    cache_hits: int
    truncated: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as it is served; `dimensions` is 0 and `fingerprint` empty until it was ready once.

    `memory_bytes` is what its weights take while in memory, an estimate until it was loaded once; 0 for a remote model.
    """

    name: str
    engine: str
    source: str
    state: ModelState
    state_message: str = ""
    revision: str = ""
    dimensions: int = 0
    supported_dimensions: Sequence[int] = ()
    max_tokens: int = 0
    truncations: Sequence[Truncation] = ()
    fingerprint: str = ""
    pooling: str = ""
    normalized: bool = True
    dtype: str = ""
    license: str = ""
    parameters: int = 0
    price_per_million_tokens: float = 0.0
    requires_input_type: bool = False
    memory_bytes: int = 0
    quantization: str = ""
    tokenizer: str = ""
