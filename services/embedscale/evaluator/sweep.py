"""The same vectors searched in other ways: what shorter vectors, coarser numbers and approximate indexes cost."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeVar

import numpy as np

from embedscale.core.embedding import Encoding, Matrix
from embedscale.core.errors import InvalidField
from embedscale.core.evaluation import EvaluationSpec, Loss, Metric, QueryResult, Variant
from embedscale.core.ports import BuildIndex, VectorIndex
from embedscale.core.vector_index import IndexKind, IndexSpec, Similarity
from embedscale.core.vectors import as_compared, bytes_per_vector, cut, l2_normalized
from embedscale.evaluator.index_parameters import resolve
from embedscale.evaluator.metrics import judged, measure, values_of
from embedscale.evaluator.retrieval import Retrieval
from embedscale.evaluator.uncertainty import Values, group_numbers
from embedscale.evaluator.vector_rows import in_file

TIMED_QUERIES = 200
_ROWS_AT_ONCE = 16_384
_QUERIES_AT_ONCE = 256
_UNIT = 1e-3

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Space:
    """What is compared: vectors cut to a length, in an encoding, by a similarity."""

    dimensions: int
    encoding: Encoding
    similarity: Similarity


def check_sweep(spec: EvaluationSpec, documents: int, dimensions: int) -> None:
    """Refuse what does not fit the vectors, before all of them are computed. Raises InvalidField."""
    for place, length in enumerate(spec.sweep_dimensions):
        if length > dimensions:
            field = f"spec.sweep_dimensions[{place}]"
            raise InvalidField(f"{field} is {length} and the vectors have {dimensions}", field=field)
    for length in (dimensions, *spec.sweep_dimensions):
        for place, index in enumerate(spec.indexes):
            resolve(index, documents, length, f"spec.indexes[{place}]")


@dataclass(frozen=True)
class Sweep:
    """All combinations of a specification over rows (n, d) and queries (m, d) that may be memory maps.

    `exact` is what exact search of the full vectors scored: `values_of` each query.
    """

    spec: EvaluationSpec
    retrieval: Retrieval
    build_index: BuildIndex
    rows: Matrix
    queries: Matrix
    results: Sequence[QueryResult]
    exact: Values

    @property
    def total(self) -> int:
        """How many variants there are."""
        return sum(1 + len(self._indexes(space)) for space in self._spaces)

    async def variants(self) -> AsyncGenerator[Variant, None]:
        """Measure one after the other: the exact one of the full vectors first, then by space, each exact first."""
        stop = threading.Event()
        try:
            for space in self._spaces:
                rows, queries = await asyncio.to_thread(self._in_space, space)
                compressed: Values | None = None
                for spec in (IndexSpec(similarity=space.similarity), *self._indexes(space)):
                    filled = resolve(spec, len(rows), space.dimensions, "spec.indexes")
                    index, seconds = await asyncio.to_thread(_timed, self.build_index, filled, rows, stop)
                    values = await asyncio.to_thread(self._values, index, queries)
                    compressed = values if compressed is None else compressed
                    yield await asyncio.to_thread(
                        self._variant, filled, space, index, seconds, queries, compressed, values
                    )
        finally:
            stop.set()

    @cached_property
    def _spaces(self) -> list[Space]:
        lengths = dict.fromkeys((self.rows.shape[1], *self.spec.sweep_dimensions))
        encodings = dict.fromkeys((Encoding.FLOAT32, *self.spec.sweep_encodings))
        similarities = dict.fromkeys((Similarity.INNER_PRODUCT, *(index.similarity for index in self.spec.indexes)))
        return [Space(*parts) for parts in product(lengths, encodings, similarities)]

    def _indexes(self, space: Space) -> list[IndexSpec]:
        wanted = (index for index in self.spec.indexes if index.similarity is space.similarity)
        return [index for index in dict.fromkeys(wanted) if index.kind is not IndexKind.FLAT]

    @cached_property
    def _unit_length(self) -> bool:
        return bool(np.abs(np.linalg.norm(self.rows[:_QUERIES_AT_ONCE], axis=1) - 1).max() < _UNIT)

    @cached_property
    def _groups(self) -> "np.typing.NDArray[np.int64]":
        return group_numbers([result.source for result in self.results])

    def _in_space(self, space: Space) -> tuple[Matrix, Matrix]:
        if space == self._spaces[0]:
            return self.rows, self.queries
        return self._converted(self.rows, space), self._converted(self.queries, space)

    def _converted(self, vectors: Matrix, space: Space) -> Matrix:
        converted = in_file(len(vectors), space.dimensions)
        for part in _parts(len(vectors), _ROWS_AT_ONCE):
            shorter = cut(np.asarray(vectors[part]), space.dimensions, normalize=self._unit_length)
            compared = as_compared(shorter, space.encoding)
            converted[part] = l2_normalized(compared) if space.similarity is Similarity.COSINE else compared
        return converted

    def _values(self, index: VectorIndex, queries: Matrix) -> Values:
        parts = []
        for part in _parts(len(queries), _QUERIES_AT_ONCE):
            results = self.results[part]
            rankings = self.retrieval.rankings(index, [one.query_id for one in results], queries[part])
            found = [[document for document, _ in ranking] for ranking in rankings]
            judgements = [one.judgements for one in results]
            parts.append(values_of(judged(found, judgements, self.retrieval.cutoff), self.spec.cutoffs))
        return np.hstack(parts)

    def _variant(
        self,
        spec: IndexSpec,
        space: Space,
        index: VectorIndex,
        build_seconds: float,
        queries: Matrix,
        compressed: Values,
        values: Values,
    ) -> Variant:
        metrics = measure(values, self._groups, self.spec.cutoffs)
        flat = spec.kind is IndexKind.FLAT
        p50, p95 = np.percentile(self._search_seconds(index, queries), (50, 95))
        return Variant(
            index=spec,
            dimensions=space.dimensions,
            encoding=space.encoding,
            metrics=metrics,
            losses=_losses(metrics, self.exact.mean(axis=1), compressed.mean(axis=1)),
            build_seconds=build_seconds,
            bytes_per_vector=bytes_per_vector(space.dimensions, space.encoding) if flat else index.bytes_per_vector,
            search_p50_seconds=float(p50),
            search_p95_seconds=float(p95),
        )

    def _search_seconds(self, index: VectorIndex, queries: Matrix) -> list[float]:
        """Time of each of the first queries, alone, ties left unresolved."""
        depth = self.retrieval.cutoff
        return [_timed(index.search, queries[i : i + 1], depth)[1] for i in range(min(len(queries), TIMED_QUERIES))]


def _losses(metrics: Sequence[Metric], exact: Values, compressed: Values) -> list[Loss]:
    return [
        Loss(metric.name, metric.cutoff, float(full - short), float(short - metric.value))
        for metric, full, short in zip(metrics, exact, compressed, strict=True)
    ]


def _parts(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))


def _timed(work: Callable[..., ResultT], *arguments: object) -> tuple[ResultT, float]:
    started = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - started
