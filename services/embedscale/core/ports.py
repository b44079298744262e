"""What use cases need from the world. Concrete classes are named only in the `bootstrap` modules.

Ports that have their values beside them: `dataset.Dataset` and `chat.ChatModel`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedscale.core.dataset import Dataset, DatasetCard, Imported
from embedscale.core.dataset_audit import TokenLimits
from embedscale.core.embedding import (
    EmbeddedTexts,
    Embedding,
    EngineBatch,
    EngineLoad,
    InputType,
    Matrix,
    ModelInfo,
    PreparedText,
    Truncation,
    VectorSpace,
)
from embedscale.core.evaluation import EvaluationSpec
from embedscale.core.vector_index import IndexSpec


class Engine(Protocol):
    """Computes one model's vectors."""

    @property
    def info(self) -> ModelInfo:
        """The model as it stands now."""

    @property
    def load(self) -> EngineLoad | None:
        """Tokens queued and speed; None for an engine that has no queue of its own, such as a remote one."""

    async def prime(self) -> None:
        """Before anything is served: do what would hold up other models later. What fails is left to `start`."""

    async def start(self) -> None:
        """Load or reach the model and let it answer once; returns when it has, or has failed for good."""

    async def wake(self) -> None:
        """Before a request: wait where waiting helps, as for a model that is being loaded; `info` tells the rest."""

    async def close(self) -> None:
        """Give back threads, memory and connections."""

    def fingerprint(self, truncation: Truncation) -> str:
        """Name of the vector space under a policy for long texts; empty as long as it is not known."""

    def prepare(self, text: str, input_type: InputType) -> PreparedText:
        """Apply the prompt."""

    async def embed(
        self, texts: Sequence[PreparedText], truncation: Truncation, deadline: float | None = None
    ) -> EngineBatch:
        """Return the full vectors; what would come after the deadline, in time.monotonic's seconds, is worth nothing.

        Raises InputTooLong, under ERROR, or InputRejected, each with the position in `texts`.
        """

    async def count_tokens(self, texts: Sequence[PreparedText]) -> Sequence[int]:
        """Tokens of each text before truncation, special tokens included."""


class UnloadableEngine(Engine, Protocol):
    """An engine whose model can leave memory and come back; its fingerprint and its vectors stay the same."""

    async def unload(self) -> None:
        """Give back the memory of the weights; `start` loads them again. Nobody may await a vector."""


class VectorCache(Protocol):
    """Keeps full vectors by space and content. It never fails: what it cannot answer is a miss."""

    async def start(self) -> None:
        """Reach what is behind the cache, if it answers soon; whether it does or not, the cache can be used."""

    async def get(self, space: VectorSpace, texts: Sequence[PreparedText]) -> Sequence[Embedding | None]:
        """Embedding i, or None, for text i."""

    def put(self, space: VectorSpace, entries: Mapping[PreparedText, Embedding]) -> None:
        """Keep the entries, if possible and if they are sound vectors of the space; never waits."""

    async def close(self) -> None:
        """Write what is left to write, for a limited time, and close connections."""


class ComputeLeases(Protocol):
    """Keeps replicas from computing the same text at the same time. It never fails: in doubt, everybody computes."""

    async def claim(self, space: VectorSpace, texts: Sequence[PreparedText]) -> Sequence[bool]:
        """Whether text i is this replica's to compute."""

    async def awaited(self, space: VectorSpace, texts: Sequence[PreparedText]) -> Mapping[PreparedText, Embedding]:
        """Wait for texts that others hold; what is not returned is to be computed here after all."""

    def release(self, space: VectorSpace, texts: Sequence[PreparedText]) -> None:
        """Give up claims on texts that were not computed; never waits."""


class TextEmbedder(Protocol):
    """What the evaluator needs of embedding services."""

    async def embed(self, spec: EvaluationSpec, texts: Sequence[str], input_type: InputType) -> EmbeddedTexts:
        """Vectors of texts with the model, dimensions and truncation that are evaluated.

        Raises TextTooLong with the place in `texts` as its field.
        """


class TokenCounter(Protocol):
    """Counts tokens as a model does."""

    async def limits(self, model: str) -> TokenLimits:
        """What the model does with long texts; raises ModelNotFound."""

    async def count_tokens(self, model: str, texts: Sequence[str], input_type: InputType) -> Sequence[int]:
        """Tokens of each text before truncation, prompt included; raises InvalidField where the model cannot count."""


class DatasetSource(Protocol):
    """Finds data sets by URI."""

    async def load(self, uri: str) -> Dataset:
        """Read and check; raises DatasetNotFound, DatasetForbidden or DatasetInvalid."""

    async def take_in(self, uri: str, *, lenient: bool) -> Imported:
        """Read and check anew and keep; where `lenient`, faults are left out and told. Raises as `load` does."""

    def manifest(self, digest: str) -> str:
        """JSON of all that a generated set was made from; empty for any other."""

    def cards(self) -> Sequence[DatasetCard]:
        """Cards of the data sets that need no path: those that ship, then the imported ones. Looks at the disk."""


class VectorIndex(Protocol):
    """Finds the nearest of its vectors by inner product."""

    @property
    def exhaustive(self) -> bool:
        """Whether every vector is compared, so that what is found does not depend on `depth`."""

    @property
    def bytes_per_vector(self) -> float:
        """Size of the index by the number of its vectors."""

    def search(self, queries: Matrix, depth: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Scores and row numbers, each of shape (n, min(depth, rows)), the best first; -1 where no more was found."""


BuildIndex = Callable[[IndexSpec, Matrix, threading.Event], VectorIndex]
"""Builds an index over rows, all parameters given; ends early, of no use to anybody, once the event is set."""
