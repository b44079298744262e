"""Ranking metrics as trec_eval defines them, in numpy alone.

Every query of the data set counts, as with `trec_eval -c`: one for which nothing relevant was retrieved, or of which
no document is relevant, has the value 0 in every metric.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedscale.core.dataset import Judgements
from embedscale.core.evaluation import Metric
from embedscale.evaluator.uncertainty import Groups, Values, bootstrap_intervals

Grades = NDArray[np.int64]
Intervals = Callable[[Values, Groups], Values]


@dataclass(frozen=True, slots=True)
class JudgedRankings:
    """Rankings of n queries to a depth of k documents, as far as metrics care. Grades below 0 count as 0.

    `retrieved`, shape (n, k), has the grade of the document at each rank, 0 where it is not judged or there is none;
    `ideal`, shape (n, k), the highest grades judged, descending; `relevant`, shape (n,), how many are above 0.
    """

    retrieved: Grades
    ideal: Grades
    relevant: Grades


def judged(rankings: Sequence[Sequence[str]], judgements: Sequence[Judgements], depth: int) -> JudgedRankings:
    """Look up the grades of ranked document ids, cut or filled up to `depth`."""
    retrieved = np.zeros((len(rankings), depth), np.int64)
    ideal = np.zeros_like(retrieved)
    relevant = np.zeros(len(rankings), np.int64)
    for row, (ranking, grades) in enumerate(zip(rankings, judgements, strict=True)):
        found = [grades.get(document, 0) for document in ranking[:depth]]
        best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
        retrieved[row, : len(found)] = np.maximum(found, 0)
        ideal[row, : len(best)] = best[:depth]
        relevant[row] = len(best)
    return JudgedRankings(retrieved, ideal, relevant)


def reciprocal_rank(rankings: JudgedRankings, k: int) -> Values:
    """1/rank of the first relevant document, 0 if it is not among the first k: the mean of these is MRR@k."""
    hits = rankings.retrieved[:, :k] > 0
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0)


def hit_rate(rankings: JudgedRankings, k: int) -> Values:
    """1 where a relevant document is among the first k (trec_eval's `success`)."""
    return np.where((rankings.retrieved[:, :k] > 0).any(axis=1), 1.0, 0.0)


def recall(rankings: JudgedRankings, k: int) -> Values:
    """Share of all relevant documents that are among the first k."""
    return _share((rankings.retrieved[:, :k] > 0).sum(axis=1), rankings.relevant)


def precision(rankings: JudgedRankings, k: int) -> Values:
    """Share of k places that are taken by relevant documents, whether or not k were retrieved."""
    values: Values = (rankings.retrieved[:, :k] > 0).sum(axis=1) / k
    return values


def ndcg(rankings: JudgedRankings, k: int) -> Values:
    """Grades with a discount of log2(rank + 1), by those of the best ranking of all judged documents.

    The gain is the grade itself (Jarvelin and Kekalainen, TOIS 2002, as in trec_eval's `ndcg_cut`).
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return _share(rankings.retrieved[:, :k] @ discounts, rankings.ideal[:, :k] @ discounts)


def average_precision(rankings: JudgedRankings, k: int) -> Values:
    """Sum of the precision at each relevant document among the first k, by the number of all relevant documents."""
    hits = rankings.retrieved[:, :k] > 0
    precisions = hits * hits.cumsum(axis=1) / np.arange(1, k + 1)
    return _share(precisions.sum(axis=1), rankings.relevant)


METRICS: Mapping[str, Callable[[JudgedRankings, int], Values]] = {
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "map": average_precision,
}
"""Value of each query, shape (n,), at a cutoff k, by the metric's name on the wire."""


def values_of(rankings: JudgedRankings, cutoffs: Sequence[int]) -> Values:
    """Every metric at every cutoff of each query: shape (metrics x cutoffs, n), in the order of `measure`."""
    return np.stack([metric(rankings, cutoff) for metric in METRICS.values() for cutoff in cutoffs])


def measure(
    values: Values, groups: Groups, cutoffs: Sequence[int], intervals: Intervals = bootstrap_intervals
) -> list[Metric]:
    """Means of `values_of`, with their intervals; `groups[i]` numbers the source document of query i from 0."""
    names = [(name, cutoff) for name in METRICS for cutoff in cutoffs]
    ends = np.clip(intervals(values, groups), 0.0, 1.0)
    return [
        Metric(name, cutoff, float(row.mean()), float(lower), float(upper))
        for (name, cutoff), row, (lower, upper) in zip(names, values, ends, strict=True)
    ]


def _share(part: "NDArray[np.float64 | np.int64]", whole: "NDArray[np.float64 | np.int64]") -> Values:
    """Divide, with 0 for nothing of nothing."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
