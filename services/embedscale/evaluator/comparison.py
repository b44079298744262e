"""Whether one evaluation is really better than another: paired tests in numpy alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from embedscale.evaluator.metrics import Ranks, Values, bootstrap_intervals

ROUNDS = 10_000
LEVEL = 0.05
_SEED = 20240229
_SIGNS_AT_ONCE = 10**6
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Comparison:
    """First minus second: the mean difference, its 95 % interval, and p-values before and after Holm's correction."""

    first: str
    second: str
    difference: float
    lower: float
    upper: float
    p_value: float
    adjusted: float


def compare(values: Mapping[str, Values], groups: Ranks) -> list[Comparison]:
    """Compare every pair of named per-query values, shape (n,), all over the same queries.

    `groups` numbers each query's source document from 0; documents, not queries, are what is resampled.
    """
    pairs = list(combinations(values, 2))
    differences = np.stack([values[first] - values[second] for first, second in pairs])
    p_values = [randomisation_p_value(row, groups) for row in differences]
    intervals = bootstrap_intervals(differences, groups)
    return [
        Comparison(first, second, float(row.mean()), float(lower), float(upper), p_value, adjusted)
        for (first, second), row, (lower, upper), p_value, adjusted in zip(
            pairs, differences, intervals, p_values, holm(p_values), strict=True
        )
    ]


def randomisation_p_value(differences: Values, groups: Ranks, rounds: int = ROUNDS) -> float:
    """Two-sided p-value of the paired randomisation test with one random sign a group.

    Under the hypothesis of no difference each group's sum could as well have had the other sign (Smucker, Allan and
    Carterette, CIKM 2007). The observed assignment counts as one of the rounds, so that p is never 0.
    """
    sums = np.bincount(groups, differences)
    observed = abs(sums.sum()) - _ROUNDING * np.abs(sums).sum()
    random = np.random.default_rng(_SEED)
    size = max(_SIGNS_AT_ONCE // len(sums), 1)
    extreme = 0
    for start in range(0, rounds, size):
        signs = random.choice((-1.0, 1.0), (min(size, rounds - start), len(sums)))
        extreme += int((np.abs(signs @ sums) >= observed).sum())
    return (extreme + 1) / (rounds + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm 1979, step-down), in the order given."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(p_values[index] * (len(p_values) - place), 1.0))
        adjusted[index] = highest
    return adjusted


def tied_with_best(values: Mapping[str, Values], comparisons: Sequence[Comparison]) -> list[str]:
    """Name the one with the highest mean and all that do not differ from it at `LEVEL`, the best first."""
    ordered = sorted(values, key=lambda name: -float(values[name].mean()))
    worse = {
        name
        for pair in comparisons
        if pair.adjusted < LEVEL and ordered[0] in (pair.first, pair.second)
        for name in (pair.first, pair.second)
    }
    return [name for name in ordered if name == ordered[0] or name not in worse]
