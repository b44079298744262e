"""How far a mean over queries can be trusted: intervals and standard errors over source documents, in numpy alone.

Queries of one source document are not independent, so documents are what is resampled and counted, not queries.
"""

from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Groups = NDArray[np.int64]

ROUNDS = 2000
"""Resamplings behind a final interval."""
_DRAWS_AT_ONCE = 10**6
_SEED = 20240229
_ENDS = (2.5, 97.5)
_NORMAL_95 = NormalDist().inv_cdf(0.975)


def bootstrap_intervals(values: Values, groups: Groups, rounds: int = ROUNDS) -> Values:
    """95 % percentile intervals, shape (m, 2), of the row means of `values` (m, n) by resampling whole groups.

    Documents are drawn with replacement (cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their
    Application, section 3.8). `groups`, shape (n,), numbers the groups from 0.
    """
    sums, sizes = _totals(values, groups)
    count = len(sizes)
    totals = np.vstack([sums, sizes])
    random = np.random.default_rng(_SEED)
    means = []
    for size in _chunks(rounds, max(_DRAWS_AT_ONCE // count, 1)):
        draws = random.multinomial(count, np.full(count, 1 / count), size)
        drawn = totals @ draws.T.astype(np.float64)
        means.append(drawn[:-1] / drawn[-1])
    intervals: Values = np.percentile(np.concatenate(means, axis=1), _ENDS, axis=1).T
    return intervals


def normal_intervals(values: Values, groups: Groups) -> Values:
    """95 % intervals, shape (m, 2), from the standard error alone: cheap enough to be made while queries are scored."""
    means, errors = values.mean(axis=1), _NORMAL_95 * standard_errors(values, groups)
    return np.stack([means - errors, means + errors], axis=1)


def standard_errors(values: Values, groups: Groups) -> Values:
    """Standard errors, shape (m,), of the row means of `values` (m, n), robust to dependence within a group.

    The linearised variance of a ratio estimator with groups as units (Cochran, Sampling Techniques, section 6.4);
    zeros for a single group, of which nothing can be learned.
    """
    sums, sizes = _totals(values, groups)
    residuals = sums - values.mean(axis=1, keepdims=True) * sizes
    correction = len(sizes) / max(len(sizes) - 1, 1)
    errors: Values = np.sqrt(correction * (residuals**2).sum(axis=1)) / values.shape[1]
    return errors


def group_numbers(sources: Sequence[Hashable]) -> Groups:
    """Number each query's source document from 0, in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.asarray([numbers.setdefault(source, len(numbers)) for source in sources], np.int64)


def _totals(values: Values, groups: Groups) -> tuple[Values, Values]:
    """Sum of each row and number of queries by group: shapes (m, g) and (g,)."""
    count = int(groups.max()) + 1
    sums: Values = np.stack([np.bincount(groups, row, count) for row in values]).astype(np.float64, copy=False)
    return sums, np.bincount(groups, minlength=count).astype(np.float64)


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
