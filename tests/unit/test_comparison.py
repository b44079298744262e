"""Paired tests against exact enumeration, and hand-computed corrections."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.evaluator.comparison import (
    LEVEL,
    POWER,
    Comparison,
    changes,
    compare,
    detectable_difference,
    holm,
    queries_needed,
    randomisation_p_value,
    tied_with_best,
)
from embedscale.evaluator.uncertainty import bootstrap_intervals, standard_errors


def exact_p_value(differences: Sequence[Fraction | int], groups: Sequence[int]) -> float:
    """Share of all sign assignments whose sum is at least as far from zero as the observed one."""
    sums = [Fraction(0)] * (max(groups) + 1)
    for difference, group in zip(differences, groups, strict=True):
        sums[group] += difference
    totals = [abs(sum(s * x for s, x in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=len(sums))]
    return sum(total >= abs(sum(sums)) for total in totals) / len(totals)


def p_value(differences: Sequence[Fraction | int], groups: Sequence[int]) -> float:
    return randomisation_p_value(np.asarray([float(d) for d in differences]), np.asarray(groups))


@pytest.mark.parametrize("seed", range(40))
def test_p_value_is_the_share_of_sign_flips_at_least_as_extreme(seed: int) -> None:
    random = np.random.default_rng(seed)
    group_count = int(random.integers(2, 9))
    groups = [*range(group_count), *random.integers(0, group_count, 6).tolist()]
    first, second = random.integers(1, 5, (2, len(groups))).tolist()
    differences = [Fraction(1, a) - Fraction(1, b) for a, b in zip(first, second, strict=True)]
    expected = exact_p_value(differences, groups)
    assert p_value(differences, groups) == pytest.approx(
        expected, abs=4 * (expected * (1 - expected) / 1e4) ** 0.5 + 2e-4
    )


@pytest.mark.parametrize("ranks", [(1, 2, 3), (2, 3, 5), (1, 2, 3, 5), (1, 3, 7, 9), (2, 3, 6, 7, 10)])
def test_p_value_is_1_when_both_systems_have_the_same_ranks_on_different_queries(ranks: Sequence[int]) -> None:
    for shuffled in list(permutations(ranks))[:24]:
        differences = [Fraction(1, a) - Fraction(1, b) for a, b in zip(ranks, shuffled, strict=True)]
        assert sum(differences) == 0
        assert p_value(differences, range(len(ranks))) == 1.0, (ranks, shuffled)


def test_p_value_of_no_difference_is_1() -> None:
    assert p_value([0] * 12, [i // 2 for i in range(12)]) == 1.0


def test_p_value_does_not_tell_which_system_is_better() -> None:
    differences, groups = [1, 2, -1, 3, 0, 4], range(6)
    assert p_value(differences, groups) == p_value([-d for d in differences], groups)


def test_p_value_is_never_zero() -> None:
    assert p_value([1] * 60, range(60)) == 1 / 10_001


def test_queries_of_one_document_share_a_sign() -> None:
    differences = [1] * 20
    grouped = p_value(differences, [i // 4 for i in range(20)])
    assert grouped == pytest.approx(2 / 2**5, abs=0.01)
    assert p_value(differences, range(20)) < 0.001


def test_p_value_does_not_depend_on_how_many_signs_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    differences, groups = [3, -1, 2, 2, -1, 4], range(6)
    expected = exact_p_value(differences, groups)
    monkeypatch.setattr("embedscale.evaluator.comparison._SIGNS_AT_ONCE", 100)
    assert p_value(differences, groups) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        # 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04 raised to the one before.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.01], [1.0, 1.0, 0.03]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        # The example of R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm").
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
    ],
)
def test_holm_gives_the_hand_computed_values(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), max_size=10))
@settings(deadline=None)
def test_holm_raises_p_values_up_to_bonferroni_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    count = len(p_values)
    assert all(p <= a <= min(1.0, p * count) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    in_order = sorted(range(count), key=p_values.__getitem__)
    assert [adjusted[i] for i in in_order] == sorted(adjusted)


def _systems() -> tuple[dict[str, np.ndarray], np.ndarray]:
    random = np.random.default_rng(11)
    base = 1.0 / random.integers(1, 6, 80)
    shuffled = base.copy()
    shuffled[:10] = base[9::-1]
    values = {"bad": base * 0.4, "good": base, "alike": shuffled - 0.002}
    return values, np.arange(80) // 2


def test_compare_has_every_pair_once_in_the_given_order() -> None:
    values, groups = _systems()
    pairs = compare(values, groups)
    assert [(pair.first, pair.second) for pair in pairs] == [("bad", "good"), ("bad", "alike"), ("good", "alike")]


def test_compare_subtracts_the_second_from_the_first() -> None:
    values, groups = _systems()
    for pair in compare(values, groups):
        difference = values[pair.first] - values[pair.second]
        assert pair.difference == pytest.approx(difference.mean())
        assert (pair.lower, pair.upper) == pytest.approx(tuple(bootstrap_intervals(difference[None], groups)[0]))
        assert pair.lower < pair.difference < pair.upper
        assert pair.p_value == randomisation_p_value(difference, groups)


def test_compare_corrects_for_the_number_of_pairs() -> None:
    values, groups = _systems()
    pairs = compare(values, groups)
    assert [pair.adjusted for pair in pairs] == holm([pair.p_value for pair in pairs])
    assert pairs[0].adjusted == pytest.approx(3 * pairs[0].p_value)


def test_identical_systems_do_not_differ_at_all() -> None:
    values, groups = _systems()
    (pair,) = compare({"one": values["good"], "two": values["good"].copy()}, groups)
    assert pair == Comparison("one", "two", 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0)


def test_tied_with_best_leaves_out_those_that_are_really_worse() -> None:
    values, groups = _systems()
    assert tied_with_best(values, compare(values, groups)) == ["good", "alike"]


def test_tied_with_best_is_all_of_identical_systems() -> None:
    values, groups = _systems()
    same = dict.fromkeys(("one", "two", "three"), values["good"])
    assert tied_with_best(same, compare(same, groups)) == ["one", "two", "three"]


def test_tied_with_best_goes_by_the_adjusted_p_value_against_the_best_alone() -> None:
    values = {name: np.asarray([mean]) for name, mean in (("low", 0.1), ("top", 0.9), ("mid", 0.5))}

    def pair(first: str, second: str, adjusted: float) -> Comparison:
        return Comparison(first, second, 0.1, 0.0, 0.2, 0.001, adjusted, 0.1, 10)

    close = [pair("low", "top", 0.06), pair("low", "mid", 0.01), pair("top", "mid", 0.05)]
    assert tied_with_best(values, close) == ["top", "mid", "low"]
    apart = [pair("low", "top", 0.01), pair("low", "mid", 0.5), pair("top", "mid", 0.049)]
    assert tied_with_best(values, apart) == ["top"]


def test_four_of_five_experiments_show_the_detectable_difference() -> None:
    """Simulated pairs of systems that truly differ by what the first experiment calls detectable."""
    random = np.random.default_rng(31)

    def differences(shift: float) -> tuple[np.ndarray, np.ndarray]:
        groups = np.repeat(np.arange(50), 2)
        return shift + 0.2 * random.standard_normal(50)[groups] + 0.2 * random.standard_normal(100), groups

    typical = np.mean([standard_errors(one[None], groups)[0] for one, groups in (differences(0) for _ in range(200))])
    shift = detectable_difference(float(typical))
    shown = [randomisation_p_value(*differences(shift), rounds=500) < LEVEL for _ in range(400)]
    assert np.mean(shown) == pytest.approx(POWER, abs=0.06)
    alike = [randomisation_p_value(*differences(0), rounds=500) < LEVEL for _ in range(400)]
    assert np.mean(alike) == pytest.approx(LEVEL, abs=0.03)


def test_the_detectable_difference_is_2_8_standard_errors() -> None:
    assert detectable_difference(0.01) == pytest.approx(0.028016, abs=1e-6)


def test_queries_needed_make_the_observed_difference_the_detectable_one() -> None:
    assert queries_needed(100, 0.05, 0.1) == 400
    assert queries_needed(100, -0.05, 0.1) == 400
    assert queries_needed(100, 0.2, 0.1) == 25
    assert queries_needed(100, 0.0, 0.1) == 0
    values, groups = _systems()
    pair = compare({"one": values["good"], "two": values["alike"]}, groups)[0]
    many = {name: np.tile(row, 4) for name, row in (("one", values["good"]), ("two", values["alike"]))}
    wider = compare(many, np.concatenate([groups + 40 * i for i in range(4)]))[0]
    assert wider.detectable == pytest.approx(pair.detectable / 2, rel=0.02)
    assert wider.queries_needed == pytest.approx(pair.queries_needed, rel=0.05)


def test_changes_are_the_largest_first_and_no_more_than_asked() -> None:
    first, second = np.asarray([1.0, 0.5, 0.2, 0.0, 0.3]), np.asarray([0.5, 0.5, 0.0, 1.0, 0.5])
    better, worse = changes(first, second, list("abcde"), 2)
    assert [(c.query_id, c.first, c.second) for c in better] == [("a", 1.0, 0.5), ("c", 0.2, 0.0)]
    assert [c.query_id for c in worse] == ["d", "e"]
    better, worse = changes(first, second, list("abcde"), 1)
    assert ([c.query_id for c in better], [c.query_id for c in worse]) == (["a"], ["d"])
