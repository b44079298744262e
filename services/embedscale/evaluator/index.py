"""Search with FAISS by inner product; the only module that knows it.

Every index is built the same from the same rows: clustering is seeded, and what depends on the order of insertion is
built by one thread.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np
from numpy.typing import NDArray

from embedscale.core.embedding import Matrix
from embedscale.core.ports import VectorIndex
from embedscale.core.vector_index import IndexKind, IndexSpec

ADDED_AT_ONCE = 16_384
TRAINED_BY_EACH = 256
"""Rows that train each centroid at most, as in FAISS itself."""
_SEED = 20240229

Found = tuple[Matrix, NDArray[np.int64]]


class FlatIndex:
    """Compares each query with every row. Scores are summed in float64, so that no batch or place changes them."""

    exhaustive = True

    def __init__(self, rows: Matrix) -> None:
        self._rows = rows

    @property
    def bytes_per_vector(self) -> float:
        """See `VectorIndex`."""
        return float(self._rows[0].nbytes)

    def search(self, queries: Matrix, depth: int) -> Found:
        """See `VectorIndex`."""
        depth = min(depth, len(self._rows))
        _, nearest = faiss.knn(np.ascontiguousarray(queries), self._rows, depth, metric=faiss.METRIC_INNER_PRODUCT)
        scores = np.stack([_products(self._rows[found], query) for query, found in zip(queries, nearest, strict=True)])
        best = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(nearest, best, axis=1)


class FaissIndex:
    """An index that FAISS keeps; an approximate one may find less than is there, and fills up with the row -1."""

    def __init__(self, index: "faiss.Index", *, exhaustive: bool) -> None:
        self._index = index
        self.exhaustive = exhaustive

    @property
    def bytes_per_vector(self) -> float:
        """See `VectorIndex`."""
        written = 0

        def count(part: bytes) -> int:
            nonlocal written
            written += len(part)
            return len(part)

        faiss.write_index(self._index, faiss.PyCallbackIOWriter(count))  # type: ignore[attr-defined]
        return written / self._index.ntotal

    def search(self, queries: Matrix, depth: int) -> Found:
        """See `VectorIndex`."""
        scores, rows = self._index.search(np.ascontiguousarray(queries), min(depth, self._index.ntotal))
        return scores, rows


class BinaryIndex:
    """Keeps the signs of all numbers and scores by how many agree: the inner product of vectors of -1 and 1."""

    exhaustive = True

    def __init__(self, rows: Matrix, stop: threading.Event) -> None:
        self._dimensions = rows.shape[1]
        self._index = faiss.IndexBinaryFlat(-(-self._dimensions // 8) * 8)
        for chunk in _chunks(rows, stop):
            self._index.add(np.packbits(chunk > 0, axis=1))

    @property
    def bytes_per_vector(self) -> float:
        """See `VectorIndex`."""
        return float(self._index.code_size)

    def search(self, queries: Matrix, depth: int) -> Found:
        """See `VectorIndex`."""
        distances, rows = self._index.search(np.packbits(queries > 0, axis=1), min(depth, self._index.ntotal))
        return (self._dimensions - 2 * distances).astype(np.float32), rows


def build_index(spec: IndexSpec, rows: Matrix, stop: threading.Event) -> VectorIndex:
    """Build an index over `rows` (n, d), all parameters given; they may be a memory map. Ends early once `stop` is set.

    The similarity is the rows' own matter: for the cosine they have length 1.
    """
    if spec.kind is IndexKind.FLAT:
        return FlatIndex(rows)
    if spec.kind is IndexKind.BINARY:
        return BinaryIndex(rows, stop)
    index = _untrained(spec, rows.shape[1])
    with _threads(1 if spec.kind is IndexKind.HNSW else faiss.omp_get_max_threads()):
        if not index.is_trained:
            index.train(_sample(rows, TRAINED_BY_EACH * max(spec.nlist, 2**spec.pq_bits)))
        for chunk in _chunks(rows, stop):
            index.add(chunk)
    return FaissIndex(index, exhaustive=spec.kind is IndexKind.INT8)


def _untrained(spec: IndexSpec, dimensions: int) -> "faiss.Index":
    match spec.kind:
        case IndexKind.INT8:
            return faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        case IndexKind.HNSW:
            graph = faiss.IndexHNSWFlat(dimensions, spec.m, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction, graph.hnsw.efSearch = spec.ef_construction, spec.ef_search
            return graph
        case IndexKind.IVF_FLAT:
            centroids = faiss.IndexFlatIP(dimensions)
            return _lists(faiss.IndexIVFFlat(centroids, dimensions, spec.nlist, faiss.METRIC_INNER_PRODUCT), spec)
        case _:
            parameters = (faiss.IndexFlatIP(dimensions), dimensions, spec.nlist, spec.pq_m, spec.pq_bits)
            quantized = faiss.IndexIVFPQ(*parameters, faiss.METRIC_INNER_PRODUCT)
            _seeded(quantized.pq.cp)
            return _lists(quantized, spec)


def _lists(index: "faiss.IndexIVF", spec: IndexSpec) -> "faiss.IndexIVF":
    _seeded(index.cp)
    index.nprobe = spec.nprobe
    return index


def _seeded(clustering: "faiss.ClusteringParameters") -> None:
    clustering.seed = _SEED
    clustering.min_points_per_centroid = 1  # what does not fit is refused before; FAISS would write to the terminal


def _products(rows: Matrix, query: Matrix) -> Matrix:
    products: Matrix = (rows.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
    return products


def _sample(rows: Matrix, size: int) -> Matrix:
    if size >= len(rows):
        return np.ascontiguousarray(rows)
    chosen = np.random.default_rng(_SEED).choice(len(rows), size, replace=False)
    return np.ascontiguousarray(rows[np.sort(chosen)])


def _chunks(rows: Matrix, stop: threading.Event) -> Iterator[Matrix]:
    for start in range(0, len(rows), ADDED_AT_ONCE):
        if stop.is_set():
            return
        yield np.ascontiguousarray(rows[start : start + ADDED_AT_ONCE])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """OpenMP counts threads for each thread that starts them, so no other search is slowed."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
