"""Ranking metrics against trec_eval, and the properties of their bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.evaluator.metrics import (
    bootstrap_intervals,
    first_relevant,
    group_numbers,
    hits,
    measure,
    order,
    reciprocal_ranks,
)

QUERIES = 3000
CUTOFFS = (1, 2, 3, 5, 10)
# Latin, accents, Greek, Hangul, private use and beyond the basic plane: UTF-16 order is not UTF-8 order for the latter.
LETTERS = "az09-éłőřΩ한글\ue000\uffee😀𝛀"
FEW_SCORES = np.asarray([-1.0, -0.0, 0.0, 0.1, 0.2, np.nextafter(np.float32(0.2), np.float32(1)), 1.0], np.float32)


@dataclass(frozen=True)
class Ranking:
    ids: Sequence[str]
    scores: Sequence[np.float32]
    relevant: Sequence[str]

    def ranked(self) -> list[str]:
        return [self.ids[i] for i in order(self.scores, self.ids)]


@pytest.fixture(scope="module")
def rankings() -> list[Ranking]:
    return _random_rankings()


def _random_rankings() -> list[Ranking]:
    random = np.random.default_rng(7)
    made = []
    for _ in range(QUERIES):
        words = ("".join(random.choice(list(LETTERS), random.integers(1, 4))) for _ in range(random.integers(1, 15)))
        ids = list(dict.fromkeys(words))
        relevant = [f"unseen{random.integers(3)}", *ids][: random.integers(1, 4)]
        made.append(Ranking(ids, random.choice(FEW_SCORES, len(ids)), relevant))
    return made


def _judged_by_trec_eval(
    rankings: Sequence[Ranking], measures: set[str], cutoff: int | None = None
) -> dict[str, list[float]]:
    qrels = {f"q{i}": dict.fromkeys(ranking.relevant, 1) for i, ranking in enumerate(rankings)}
    run = {}
    for i, ranking in enumerate(rankings):
        kept = order(ranking.scores, ranking.ids)[:cutoff]
        run[f"q{i}"] = {ranking.ids[j]: float(ranking.scores[j]) for j in kept}
    judged = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    names = next(iter(judged.values()))
    return {name: [judged[f"q{i}"][name] for i in range(len(rankings))] for name in names}


def _ranks(rankings: Sequence[Ranking]) -> np.ndarray:
    return np.asarray([first_relevant(ranking.ranked(), ranking.relevant) for ranking in rankings])


def test_the_random_rankings_are_full_of_ties_and_of_misses(rankings: list[Ranking]) -> None:
    assert sum(len(set(ranking.scores.tolist())) < len(ranking.scores) for ranking in rankings) > QUERIES / 2
    assert 100 < (_ranks(rankings) == 0).sum() < QUERIES / 2
    assert (_ranks(rankings) > 5).sum() > 50


def test_rank_of_the_first_relevant_document_is_that_of_trec_eval(rankings: list[Ranking]) -> None:
    oracle = _judged_by_trec_eval(rankings, {"recip_rank"})["recip_rank"]
    ours = [1 / rank if rank else 0.0 for rank in _ranks(rankings)]
    assert ours == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_reciprocal_ranks_are_recip_rank_of_the_run_cut_at_k(rankings: list[Ranking], cutoff: int) -> None:
    oracle = _judged_by_trec_eval(rankings, {"recip_rank"}, cutoff)["recip_rank"]
    assert reciprocal_ranks(_ranks(rankings), cutoff) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_hits_are_success_k_of_the_uncut_run(rankings: list[Ranking], cutoff: int) -> None:
    oracle = _judged_by_trec_eval(rankings, {f"success.{cutoff}"})[f"success_{cutoff}"]
    assert hits(_ranks(rankings), cutoff).tolist() == oracle


def test_ties_are_ordered_by_utf8_bytes_descending() -> None:
    ids = ["a", "z", "é", "\uffee", "😀", "한"]
    assert [ids[i] for i in order([0.5] * len(ids), ids)] == ["😀", "\uffee", "한", "é", "z", "a"]


def test_higher_scores_come_first() -> None:
    assert order([0.1, 0.3, 0.2], ["z", "a", "m"]) == [1, 2, 0]


def test_first_relevant_counts_from_one_and_is_zero_without_any() -> None:
    assert first_relevant(["a", "b", "c"], ["c", "b"]) == 2
    assert first_relevant(["a", "b", "c"], ["a"]) == 1
    assert first_relevant(["a", "b", "c"], ["d"]) == 0


ranks_of_queries = st.lists(st.integers(0, 30), min_size=1, max_size=50)


@given(ranks_of_queries)
@settings(deadline=None)
def test_mrr_and_hit_rate_never_decrease_with_k_and_stay_within_0_and_1(ranks: list[int]) -> None:
    array = np.asarray(ranks)
    for values_of in (reciprocal_ranks, hits):
        means = [values_of(array, cutoff).mean() for cutoff in range(1, 32)]
        assert means == sorted(means)
        assert means[0] >= 0
        assert means[-1] <= 1
        assert means[-1] == pytest.approx(np.mean([values_of(np.asarray([rank]), 30)[0] for rank in ranks]))


@given(ranks_of_queries, st.integers(1, 31))
@settings(deadline=None)
def test_mrr_is_never_above_the_hit_rate_and_equals_it_at_1(ranks: list[int], cutoff: int) -> None:
    array = np.asarray(ranks)
    assert (reciprocal_ranks(array, cutoff) <= hits(array, cutoff)).all()
    assert reciprocal_ranks(array, 1).tolist() == hits(array, 1).tolist()


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
    monkeypatch.setattr("embedscale.evaluator.metrics._DRAWS_AT_ONCE", 333)
    assert _interval(values) == pytest.approx(expected)


def test_group_numbers_count_sources_in_the_order_they_appear() -> None:
    assert group_numbers([("b",), ("a", "c"), ("b",), ("d",)]).tolist() == [0, 1, 0, 2]


def test_measure_reports_every_metric_at_every_cutoff() -> None:
    metrics = measure([1, 2, 0, 7], ["a", "b", "c", "d"], (1, 5))
    assert {(metric.name, metric.cutoff): metric.value for metric in metrics} == {
        ("mrr", 1): 0.25,
        ("mrr", 5): 0.375,
        ("hit_rate", 1): 0.25,
        ("hit_rate", 5): 0.5,
    }
    assert all(0 <= metric.lower <= metric.value <= metric.upper <= 1 for metric in metrics)


def test_measure_draws_whole_sources() -> None:
    ranks = [1, 1, 0, 0] * 10
    (paired, *_) = measure(ranks, [i // 2 for i in range(40)], (1,))
    (single, *_) = measure(ranks, range(40), (1,))
    assert paired.upper - paired.lower > 1.2 * (single.upper - single.lower)
