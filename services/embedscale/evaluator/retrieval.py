"""Ranked documents of queries: an index's rows, with ties in the order of trec_eval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedscale.core.embedding import Matrix
from embedscale.core.ports import VectorIndex

Ranking = list[tuple[str, float]]

_ROUNDING = 1e-6
"""Scores that differ by less, relative to the greatest, may have come in the wrong order from an index."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Finds the documents of queries up to a cutoff.

    With `ignore_identical_ids`, a document with the query's own id is left out: right where queries are documents of
    the corpus, as in BEIR's ArguAna, and wrong where ids merely collide.
    """

    documents: Sequence[str]
    cutoff: int
    ignore_identical_ids: bool = False

    def rankings(self, index: VectorIndex, ids: Sequence[str], queries: Matrix) -> list[Ranking]:
        """Documents and scores for each query, the best first; row i of `queries` belongs to `ids[i]`."""
        found = search(index, queries, self.documents, self.cutoff + self.ignore_identical_ids)
        return [self._kept(ranking, query) for ranking, query in zip(found, ids, strict=True)]

    def _kept(self, ranking: Ranking, query: str) -> Ranking:
        if self.ignore_identical_ids:
            ranking = [(document, score) for document, score in ranking if document != query]
        return ranking[: self.cutoff]


def search(index: VectorIndex, queries: Matrix, documents: Sequence[str], cutoff: int, depth: int = 0) -> list[Ranking]:
    """Documents and scores of each query up to the cutoff, ties ordered by document id.

    An exhaustive index is asked for more than the cutoff until no tie reaches over the end of what it returned, for the
    queries that have one; what an approximate one finds depends on how much it is asked for, so it is asked once.
    """
    depth = depth or cutoff + 1
    scores, rows = index.search(queries, depth)
    found = [_ranked(*one, documents, cutoff) for one in zip(scores, rows, strict=True)]
    if index.exhaustive and scores.shape[1] < len(documents) and (tied := _tied(scores, cutoff)).any():
        deeper = search(index, queries[tied], documents, cutoff, 2 * depth)
        for place, ranking in zip(np.flatnonzero(tied), deeper, strict=True):
            found[place] = ranking
    return found


def order(scores: Sequence[float], ids: Sequence[str]) -> list[int]:
    """Positions by (float32 score, id as UTF-8 bytes), both descending: the order of trec_eval, ties included."""
    single = np.asarray(scores, np.float32).tolist()
    return sorted(range(len(ids)), key=lambda i: (single[i], ids[i].encode()), reverse=True)


def _tied(scores: Matrix, cutoff: int) -> NDArray[np.bool_]:
    """Whether more documents than are known may tie with the last place of each query."""
    last = min(cutoff, scores.shape[1]) - 1
    tied: NDArray[np.bool_] = scores[:, last] - scores[:, -1] <= _ROUNDING * np.abs(scores).max(axis=1)
    return tied


def _ranked(scores: Matrix, rows: Sequence[int], documents: Sequence[str], cutoff: int) -> Ranking:
    """An index that finds too little fills up with the row -1."""
    known = [(documents[row], score) for row, score in zip(rows, scores.tolist(), strict=True) if row >= 0]
    ids = [document for document, _ in known]
    return [known[i] for i in order([score for _, score in known], ids)[:cutoff]]
