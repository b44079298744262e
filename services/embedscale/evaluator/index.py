"""Exact search with FAISS; the only module that knows it."""

import faiss
import numpy as np
from numpy.typing import NDArray

from embedscale.core.embedding import Matrix


class FlatIndex:
    """Compares each query with every vector by inner product (`IndexFlatIP`)."""

    def __init__(self, dimensions: int) -> None:
        self._index = faiss.IndexFlatIP(dimensions)

    def add(self, vectors: Matrix) -> None:
        """See `VectorIndex`."""
        self._index.add(np.ascontiguousarray(vectors))

    def search(self, queries: Matrix, depth: int) -> tuple[Matrix, NDArray[np.int64]]:
        """See `VectorIndex`."""
        scores, rows = self._index.search(np.ascontiguousarray(queries), min(depth, self._index.ntotal))
        return scores, rows
