"""Whether one evaluation is really better than another: paired tests in numpy alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

from embedscale.core.errors import NotComparable
from embedscale.core.evaluation import Evaluation
from embedscale.evaluator.uncertainty import Groups, Values, bootstrap_intervals, standard_errors

ROUNDS = 10_000
LEVEL = 0.05
POWER = 0.8
_SEED = 20240229
_SIGNS_AT_ONCE = 10**6
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Comparison:
    """First minus second: the mean difference, its 95 % interval, and p-values before and after Holm's correction.

    `detectable` is the least true difference that so many queries show at `LEVEL` with a chance of `POWER`, and
    `queries_needed` how many queries, with as many to a source document, would show the observed one: 0 for none.
    """

    first: str
    second: str
    difference: float
    lower: float
    upper: float
    p_value: float
    adjusted: float
    detectable: float
    queries_needed: int


@dataclass(frozen=True, slots=True)
class Change:
    """A query that two evaluations score differently."""

    query_id: str
    first: float
    second: float


def check_comparable(evaluations: Sequence[Evaluation], cutoff: int) -> None:
    """Raise NotComparable with the reason if the evaluations do not rank the same data to the cutoff alike."""
    for one in evaluations:
        if one.result is None:
            raise NotComparable(f"evaluations/{one.id} has not succeeded: it is {one.state.value}", field="names")
        if cutoff > (deepest := max(one.spec.cutoffs)):
            raise NotComparable(f"evaluations/{one.id} ends at the cutoff {deepest}, before {cutoff}", field="cutoff")
    digests = {one.result.dataset_digest: f"evaluations/{one.id}" for one in evaluations if one.result}
    if len(digests) > 1:
        names = " and ".join(digests.values())
        raise NotComparable(f"{names} are of different data: their dataset_digest differ", field="names")
    if len({one.spec.ignore_identical_ids for one in evaluations}) > 1:
        raise NotComparable("the evaluations differ in ignore_identical_ids", field="names")


def compare(values: Mapping[str, Values], groups: Groups) -> list[Comparison]:
    """Compare every pair of named per-query values, shape (n,), all over the same queries.

    `groups` numbers each query's source document from 0; documents, not queries, are what is resampled.
    """
    pairs = list(combinations(values, 2))
    differences = np.stack([values[first] - values[second] for first, second in pairs])
    p_values = [randomisation_p_value(row, groups) for row in differences]
    detectable = [detectable_difference(error) for error in standard_errors(differences, groups)]
    intervals = bootstrap_intervals(differences, groups)
    return [
        Comparison(
            first, second, float(row.mean()), float(lower), float(upper), p_value, adjusted, least,
            queries_needed(len(row), float(row.mean()), least),
        )
        for (first, second), row, (lower, upper), p_value, adjusted, least in zip(
            pairs, differences, intervals, p_values, holm(p_values), detectable, strict=True
        )
    ]  # fmt: skip


def detectable_difference(standard_error: float, level: float = LEVEL, power: float = POWER) -> float:
    """Minimum detectable difference of a two-sided test: (z(1 - level/2) + z(power)) standard errors.

    Bloom, Minimum detectable effects: a simple way to report the statistical power of experimental designs,
    Evaluation Review 19 (1995). It is for one pair; Holm's correction over several needs more.
    """
    normal = NormalDist()
    return float((normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)) * standard_error)


def queries_needed(count: int, difference: float, detectable: float) -> int:
    """Queries that make `difference` the detectable one, when `count` make it `detectable`; 0 where none would do.

    The standard error falls with the square root of the number of source documents.
    """
    return math.ceil(count * (detectable / difference) ** 2) if difference else 0


def changes(first: Values, second: Values, ids: Sequence[str], limit: int) -> tuple[list[Change], list[Change]]:
    """Queries that the first scores higher, and those that it scores lower, at most `limit` each, the largest first."""
    differences = first - second
    largest = np.argsort(-np.abs(differences), kind="stable")
    better, worse = ([row for row in largest if sign * differences[row] > 0][:limit] for sign in (1, -1))
    higher, lower = ([Change(ids[i], float(first[i]), float(second[i])) for i in rows] for rows in (better, worse))
    return higher, lower


def randomisation_p_value(differences: Values, groups: Groups, rounds: int = ROUNDS) -> float:
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
