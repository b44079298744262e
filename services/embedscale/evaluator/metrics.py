"""Ranking metrics and their uncertainty, in numpy alone.

A query's rank is that of its first relevant document, counted from 1; 0 means none was retrieved.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedscale.core.evaluation import Metric

Ranks = NDArray[np.int64]
Values = NDArray[np.float64]

ROUNDS = 2000
"""Resamplings behind a final interval."""
_DRAWS_AT_ONCE = 10**6
_SEED = 20240229
_ENDS = (2.5, 97.5)


def order(scores: Sequence[float], ids: Sequence[str]) -> list[int]:
    """Positions by (score, id as UTF-8 bytes), both descending: the order of trec_eval, ties included."""
    return sorted(range(len(ids)), key=lambda i: (scores[i], ids[i].encode()), reverse=True)


def first_relevant(ranked: Sequence[str], relevant: Sequence[str]) -> int:
    """Rank of the first relevant id, counted from 1; 0 if none is there."""
    wanted = set(relevant)
    return next((rank for rank, document in enumerate(ranked, 1) if document in wanted), 0)


def reciprocal_ranks(ranks: Ranks, cutoff: int) -> Values:
    """1/rank up to the cutoff, 0 beyond it: the mean of these is MRR@k."""
    found = (ranks > 0) & (ranks <= cutoff)
    return np.where(found, 1.0 / np.maximum(ranks, 1), 0.0)


def hits(ranks: Ranks, cutoff: int) -> Values:
    """1 where a relevant document is among the first k: the mean of these is the hit rate@k."""
    return ((ranks > 0) & (ranks <= cutoff)).astype(np.float64)


METRICS = {"mrr": reciprocal_ranks, "hit_rate": hits}
"""Value of each query by the metric's name on the wire."""


def measure(
    ranks: Sequence[int], sources: Sequence[Hashable], cutoffs: Sequence[int], rounds: int = ROUNDS
) -> list[Metric]:
    """Every metric at every cutoff, with its interval; `sources[i]` is the source document of query i."""
    array = np.asarray(ranks, np.int64)
    named = [(name, cutoff, value_of(array, cutoff)) for name, value_of in METRICS.items() for cutoff in cutoffs]
    intervals = bootstrap_intervals(np.stack([values for _, _, values in named]), group_numbers(sources), rounds)
    return [
        Metric(name, cutoff, float(values.mean()), float(lower), float(upper))
        for (name, cutoff, values), (lower, upper) in zip(named, intervals, strict=True)
    ]


def bootstrap_intervals(values: Values, groups: Ranks, rounds: int = ROUNDS) -> Values:
    """95 % percentile intervals, shape (m, 2), of the row means of `values` (m, n) by resampling whole groups.

    Queries of one source document are not independent, so documents are drawn with replacement, not queries (cluster
    bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, section 3.8). `groups`, shape (n,),
    numbers the groups from 0.
    """
    count = int(groups.max()) + 1
    sums = np.stack([np.bincount(groups, row, count) for row in values])
    sizes = np.bincount(groups, minlength=count)
    random = np.random.default_rng(_SEED)
    means = [
        (sums @ draws.T) / (sizes @ draws.T)
        for size in _chunks(rounds, max(_DRAWS_AT_ONCE // count, 1))
        for draws in [random.multinomial(count, np.full(count, 1 / count), size)]
    ]
    intervals: Values = np.percentile(np.concatenate(means, axis=1), _ENDS, axis=1).T
    return intervals


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def group_numbers(sources: Sequence[Hashable]) -> Ranks:
    """Number each query's source document from 0, in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.asarray([numbers.setdefault(source, len(numbers)) for source in sources], np.int64)
