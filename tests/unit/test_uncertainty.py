"""Intervals over source documents: against textbook formulas, and how often they hold the truth."""

from collections.abc import Sequence

import numpy as np
import pytest

from embedscale.evaluator.uncertainty import (
    bootstrap_intervals,
    group_numbers,
    normal_intervals,
    standard_errors,
)


def _interval(values: Sequence[float], groups: Sequence[int] | None = None) -> tuple[float, float]:
    numbers = np.arange(len(values)) if groups is None else np.asarray(groups)
    lower, upper = bootstrap_intervals(np.asarray([values], float), numbers)[0]
    return lower, upper


@pytest.mark.parametrize("count", [10, 50, 200])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_contains_the_mean_and_has_the_textbook_width(count: int, seed: int) -> None:
    values = 1.0 / np.random.default_rng(seed).integers(1, 8, count)
    lower, upper = _interval(values)
    assert lower < values.mean() < upper
    assert upper - lower == pytest.approx(2 * 1.96 * values.std() / count**0.5, rel=0.15)


def test_the_interval_is_the_same_every_time() -> None:
    values = np.random.default_rng(1).random((2, 40))
    groups = np.arange(40) // 2
    assert np.array_equal(bootstrap_intervals(values, groups), bootstrap_intervals(values, groups))


@pytest.mark.parametrize("value", [0.0, 0.25, 1 / 3, 1.0])
def test_the_interval_of_constant_values_is_that_value(value: float) -> None:
    assert _interval([value] * 21, np.arange(21) // 2) == pytest.approx((value, value), abs=1e-12)


def test_the_interval_of_a_single_query_is_its_value() -> None:
    assert _interval([0.5]) == (0.5, 0.5)


def test_the_interval_is_wider_when_identical_pairs_are_grouped_than_when_taken_as_independent() -> None:
    values = np.repeat(np.random.default_rng(3).random(40), 2)
    grouped = np.ptp(_interval(values, np.arange(80) // 2))
    independent = np.ptp(_interval(values))
    assert grouped / independent == pytest.approx(2**0.5, rel=0.1)


def test_groups_of_identical_queries_have_the_interval_of_one_query_each() -> None:
    values = np.random.default_rng(4).random(30)
    assert _interval(np.repeat(values, 3), np.arange(90) // 3) == pytest.approx(_interval(values))


def test_rows_get_their_own_intervals() -> None:
    low, high = bootstrap_intervals(np.asarray([[0.0, 0.1] * 20, [0.9, 1.0] * 20]), np.arange(40))
    assert 0 < low[0] < 0.05 < low[1] < 0.1
    assert 0.9 < high[0] < 0.95 < high[1] < 1


def test_the_interval_does_not_depend_on_how_many_draws_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).random(40)
    expected = _interval(values)
    monkeypatch.setattr("embedscale.evaluator.uncertainty._DRAWS_AT_ONCE", 333)
    assert _interval(values) == pytest.approx(expected)


def test_group_numbers_count_sources_in_the_order_they_appear() -> None:
    assert group_numbers([("b",), ("a", "c"), ("b",), ("d",)]).tolist() == [0, 1, 0, 2]


def _clustered(random: np.random.Generator, documents: int = 60, mean: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal-rank-like values of one to three questions a document that share the document's difficulty."""
    groups = np.repeat(np.arange(documents), random.integers(1, 4, documents))
    ease = random.uniform(mean - 0.4, mean + 0.4, documents)[groups]
    return (random.random(len(groups)) < ease).astype(float)[None], groups


@pytest.mark.parametrize(
    "intervals", [normal_intervals, lambda values, groups: bootstrap_intervals(values, groups, 400)]
)
def test_95_percent_intervals_hold_the_true_mean_95_times_in_100(intervals: object) -> None:
    random = np.random.default_rng(17)
    held = 0
    for _ in range(1000):
        ((lower, upper),) = intervals(*_clustered(random))
        held += lower <= 0.6 <= upper
    assert 0.92 <= held / 1000 <= 0.97


def test_the_standard_error_is_the_spread_of_means() -> None:
    random = np.random.default_rng(23)
    drawn = [_clustered(random) for _ in range(2000)]
    spread = np.std([values.mean() for values, _ in drawn])
    assert np.mean([standard_errors(*one) for one in drawn]) == pytest.approx(spread, rel=0.05)


def test_the_standard_error_of_independent_queries_is_the_textbook_one() -> None:
    values = np.random.default_rng(29).random((1, 50))
    assert standard_errors(values, np.arange(50)) == pytest.approx(values.std(ddof=1) / 50**0.5)


def test_the_standard_error_of_one_source_document_is_zero() -> None:
    assert standard_errors(np.asarray([[0.2, 0.8]]), np.asarray([0, 0])).tolist() == [0.0]
