"""Ranking metrics against trec_eval itself, through pytrec_eval."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.evaluator.metrics import METRICS, JudgedRankings, judged, measure, values_of
from embedscale.evaluator.retrieval import order

QUERIES = 3000
CUTOFFS = (1, 2, 3, 5, 10, 20)
# Latin, accents, Greek, Hangul, private use and beyond the basic plane: UTF-16 order is not UTF-8 order for the latter.
LETTERS = "az09-éłőřΩ한글\ue000\uffee😀𝛀"
FEW_SCORES = np.asarray([-1.0, -0.0, 0.0, 0.1, 0.2, np.nextafter(np.float32(0.2), np.float32(1)), 1.0], np.float32)
TREC_EVAL = {
    "mrr": "recip_rank",
    "hit_rate": "success",
    "recall": "recall",
    "precision": "P",
    "ndcg": "ndcg_cut",
    "map": "map_cut",
}


@dataclass(frozen=True)
class Query:
    ids: Sequence[str]
    scores: np.ndarray
    grades: dict[str, int]

    @cached_property
    def places(self) -> list[int]:
        """Places of the documents, the best first."""
        return order(self.scores, self.ids)


@pytest.fixture(scope="module")
def queries() -> list[Query]:
    """Ties everywhere; grades from -2 to 4, unjudged documents, judged ones that were not retrieved, none relevant."""
    random = np.random.default_rng(7)
    made = []
    for _ in range(QUERIES):
        words = ["".join(random.choice(list(LETTERS), random.integers(1, 4))) for _ in range(random.integers(1, 16))]
        ids = list(dict.fromkeys(words))
        pool = [*random.permutation(ids)[: random.integers(0, 8)].tolist(), *(f"unseen{i}" for i in range(3))]
        grades = {document: int(random.integers(-2, 5)) for document in pool[: random.integers(1, len(pool) + 1)]}
        if max(grades.values()) < 0:
            grades["unseen0"] = 0  # pytrec_eval crashes on queries with negative grades alone
        made.append(Query(ids, random.choice(FEW_SCORES, len(ids)), grades))
    return made


def _trec_eval(queries: Sequence[Query], name: str, cutoff: int) -> list[float]:
    qrels = {f"q{i}": query.grades for i, query in enumerate(queries)}
    # RR has no cutoff in trec_eval: the run is cut.
    kept = cutoff if name == "recip_rank" else None
    run = {
        f"q{i}": {query.ids[j]: float(query.scores[j]) for j in query.places[:kept]} for i, query in enumerate(queries)
    }
    measure_name = name if name == "recip_rank" else f"{name}.{cutoff}"
    judged_by = pytrec_eval.RelevanceEvaluator(qrels, {measure_name}).evaluate(run)
    return [judged_by[f"q{i}"][measure_name.replace(".", "_")] for i in range(len(queries))]


def _judged(queries: Sequence[Query]) -> JudgedRankings:
    rankings = [[query.ids[i] for i in query.places] for query in queries]
    return judged(rankings, [query.grades for query in queries], max(CUTOFFS))


@pytest.fixture(scope="module")
def rankings(queries: list[Query]) -> JudgedRankings:
    return _judged(queries)


def test_the_random_queries_have_what_makes_metrics_differ(queries: list[Query]) -> None:
    assert sum(len(set(query.scores.tolist())) < len(query.scores) for query in queries) > QUERIES / 2
    assert sum(min(query.grades.values()) < 0 for query in queries) > QUERIES / 3
    assert sum(max(query.grades.values()) <= 0 for query in queries) > 100
    assert sum(len(query.ids) < 5 for query in queries) > 100


@pytest.mark.parametrize("cutoff", CUTOFFS)
@pytest.mark.parametrize("name", METRICS)
def test_each_query_has_the_value_that_trec_eval_gives_it(
    queries: list[Query], rankings: JudgedRankings, name: str, cutoff: int
) -> None:
    ours = METRICS[name](rankings, cutoff)
    assert ours == pytest.approx(np.asarray(_trec_eval(queries, TREC_EVAL[name], cutoff)), abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_scores_of_64_bits_are_compared_in_32(name: str) -> None:
    random = np.random.default_rng(13)
    near = [0.1 + i * 1e-9 for i in range(6)]
    ids = list("abcdef")
    queries = [Query(ids, random.permutation(near), {random.choice(ids): 1}) for _ in range(200)]
    ours = METRICS[name](_judged(queries), 3)
    assert ours == pytest.approx(np.asarray(_trec_eval(queries, TREC_EVAL[name], 3)), abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_a_query_with_nothing_retrieved_or_nothing_relevant_counts_as_zero_as_in_trec_eval(name: str) -> None:
    qrels = {"found": {"a": 1}, "empty": {"a": 1}, "irrelevant": {"a": 0, "b": -1}}
    rankings = {"found": {"a": 1.0}, "empty": {}, "irrelevant": {"a": 1.0}}
    oracle = pytrec_eval.RelevanceEvaluator(qrels, {TREC_EVAL[name] + (".3" if name != "mrr" else "")})
    expected = [next(iter(values.values())) for values in oracle.evaluate(rankings).values()]
    ours = METRICS[name](judged([list(one) for one in rankings.values()], list(qrels.values()), 3), 3)
    assert ours.tolist() == pytest.approx(expected)
    assert len(ours) == 3


def test_ties_are_ordered_by_utf8_bytes_descending() -> None:
    ids = ["a", "z", "é", "\uffee", "😀", "한"]
    assert [ids[i] for i in order([0.5] * len(ids), ids)] == ["😀", "\uffee", "한", "é", "z", "a"]


def test_higher_scores_come_first() -> None:
    assert order([0.1, 0.3, 0.2], ["z", "a", "m"]) == [1, 2, 0]


grades_of_rankings = st.lists(st.lists(st.integers(-1, 3), min_size=20, max_size=20), min_size=1, max_size=10)


@given(grades_of_rankings)
@settings(deadline=None)
def test_metrics_stay_within_0_and_1_and_those_of_the_whole_ranking_never_decrease_with_k(
    rows: list[list[int]],
) -> None:
    ids = [f"d{i}" for i in range(20)]
    rankings = judged([ids] * len(rows), [dict(zip(ids, row, strict=True)) for row in rows], 20)
    for name, metric in METRICS.items():
        values = np.stack([metric(rankings, cutoff) for cutoff in range(1, 21)])
        assert values.min() >= 0, name
        assert values.max() <= 1 + 1e-12, name
        if name in ("mrr", "hit_rate", "recall", "map"):
            assert (np.diff(values, axis=0) > -1e-12).all(), name


def test_measure_reports_every_metric_at_every_cutoff_with_its_interval(queries: list[Query]) -> None:
    rankings = _judged(queries[:200])
    values = values_of(rankings, (1, 5))
    metrics = measure(values, np.arange(200), (1, 5))
    assert [(metric.name, metric.cutoff) for metric in metrics] == [(name, k) for name in METRICS for k in (1, 5)]
    for metric in metrics:
        assert metric.value == pytest.approx(METRICS[metric.name](rankings, metric.cutoff).mean())
        assert 0 <= metric.lower <= metric.value <= metric.upper <= 1


def test_measure_draws_whole_sources() -> None:
    values = np.tile(np.asarray([1.0, 1.0, 0.0, 0.0] * 10), (len(METRICS), 1))
    (paired, *_) = measure(values, np.arange(40) // 2, (1,))
    (single, *_) = measure(values, np.arange(40), (1,))
    assert paired.upper - paired.lower > 1.2 * (single.upper - single.lower)
