"""What a report says of numbers: the recommendation, the trade-off, the commands, and texts that are markup."""

from typing import Any

import pytest

from embedscale.cli.reports import views
from embedscale.cli.reports.charts import charts
from embedscale.cli.reports.page import page
from embedscale.cli.reports.pareto import points
from embedscale.cli.reports.recommendation import recommend
from embedscale.cli.reports.selection import latest
from embedscale.v1 import evaluation_service_pb2 as pb


def evaluation(label: str, score: float, seconds: float = 0.0, cost: float = 0.0, **changes: object) -> dict[str, Any]:
    speed = {
        "seconds": seconds,
        "computed": 1000,
        "cache_hits": 0,
        "texts_per_second": 1000 / (seconds or 1),
        "tokens": 5000,
        "cost": cost,
    }
    return {
        "name": f"evaluations/{label}",
        "model": label,
        "label": label,
        "dataset": "builtin:velmar/en",
        "dataset_digest": "d" * 64,
        "ignore_identical_ids": False,
        "fingerprint": "f" * 32,
        "created": "2026-01-01T00:00:00Z",
        "dimensions": 4,
        "queries": 10,
        "documents": 10,
        "truncation": "end",
        "metrics": {"mrr@5": score},
        "intervals": {"mrr@5": [score - 0.1, score + 0.1]},
        "score": {"value": score, "lower": score - 0.1, "upper": score + 0.1},
        "usage": {"inputs": 1000, "tokens": 5000, "truncated": 0, "cache_hits": 0 if seconds else 1000, "cost": cost},
        "speed": speed if seconds else None,
        "variants": [],
        **changes,
    }  # fmt: skip


def dataset(title: str, best: list[str], *evaluations: dict[str, Any]) -> dict[str, Any]:
    first, second = (one["score"]["value"] for one in evaluations[:2])
    names = [one["label"] for one in evaluations]
    pair = {"difference": first - second, "lower": first - second - 0.05, "upper": first - second + 0.05}
    pairs = [{"first": a, "second": b, **pair, "p_value": 0.5, "adjusted_p_value": 0.5, "detectable_difference": 0.2}
             for i, a in enumerate(names) for b in names[i + 1:]]  # fmt: skip
    return {"title": title, "digest": "d" * 64, "card": None, "evaluations": list(evaluations), "pairs": pairs,
            "best": best, "hardest": [], "findings": {}, "tokens": {}}  # fmt: skip


A, B = evaluation("a", 0.6, seconds=20), evaluation("b", 0.5, seconds=10)


@pytest.mark.parametrize(
    ("datasets", "sentence"),
    [
        ([dataset("en", ["a"], A, B)], "Choose a: it is better than every other model on en."),
        ([dataset("en", ["a"], A, B), dataset("hu", ["a"], A, B)],
         "Choose a: it is better than every other model on all 2 data sets."),
        ([dataset("en", ["a"], A, B), dataset("hu", ["a", "b"], A, B)],
         "Choose a: it is better on en, and no model is better on the others."),
        ([dataset("en", ["a", "b"], A, B)],
         "No model can be called better among a and b: choose by cost and licence, or b, which was the fastest here."),
        ([dataset("en", ["a", "b"], evaluation("a", 0.6), B)],
         "No model can be called better among a and b: choose by cost, licence and speed."),
        ([dataset("en", ["a"], A, B), dataset("hu", ["b"], A, B), dataset("ko", ["b"], A, B)],
         "It depends on the data set: a for en; b for hu and ko."),
    ],
)  # fmt: skip
def test_a_model_is_recommended_only_as_far_as_the_tests_allow(datasets: list[Any], sentence: str) -> None:
    assert recommend(datasets)["sentence"] == sentence


def test_the_reason_names_the_leader_first_and_what_could_not_be_seen() -> None:
    (better,) = recommend([dataset("en", ["b"], evaluation("a", 0.2), evaluation("b", 0.5))])["reasons"]
    assert better == "en: b is better than a: +0.3000 [+0.2500, +0.3500], p = 0.500."
    (same,) = recommend([dataset("en", ["a", "b"], A, B)])["reasons"]
    numbers = "+0.1000 [+0.0500, +0.1500], p = 0.500"
    assert same.startswith(f"en: no difference is shown between a and b (a minus b: {numbers}).")
    assert "a difference below 0.2000 may well stay unseen" in same


def test_only_what_nothing_beats_is_on_the_front() -> None:
    slow, quick, beaten = evaluation("slow", 0.8, 30), evaluation("quick", 0.5, 3), evaluation("beaten", 0.5, 9)
    cached = evaluation("cached", 0.9)
    found = {one.label: one for one in points([dataset("en", ["slow"], slow, quick, beaten, cached)])}
    assert [one.label for one in found.values() if one.best_by_time] == ["slow", "quick"]
    assert found["slow"].seconds_per_thousand == 30
    assert found["cached"].seconds_per_thousand == 0


def test_dear_models_are_beaten_by_cheaper_ones_as_good() -> None:
    dear, cheap = evaluation("dear", 0.5, 3, cost=2.0), evaluation("cheap", 0.5, 9, cost=1.0)
    found = {one.label: one for one in points([dataset("en", ["dear", "cheap"], dear, cheap)])}
    assert (found["dear"].best_by_time, found["dear"].best_by_cost) == (True, False)
    assert found["cheap"].dollars_per_million == 1000


def test_a_tie_is_told_with_the_numbers_of_the_tied() -> None:
    found = dataset("en", ["a", "c"], A, B, evaluation("c", 0.4))
    shown, tied, _ = found["pairs"]
    shown |= {"lower": 0.05, "adjusted_p_value": 0.01}
    tied |= {"difference": 0.2, "lower": -0.1, "upper": 0.5, "adjusted_p_value": 0.2}
    (reason,) = recommend([found])["reasons"]
    assert "between a and c (a minus c: +0.2000 [-0.1000, +0.5000], p = 0.200)" in reason


def test_the_latest_of_a_data_set_can_be_compared() -> None:
    def finished(name: str, model: str, *, ignoring: bool, digest: str = "d") -> pb.Evaluation:
        result = pb.EvaluationResult(dataset_digest=digest, metrics=[pb.Metric(name="mrr", cutoff=5)])
        return pb.Evaluation(name=name, spec={"model": model, "ignore_identical_ids": ignoring}, result=result)

    newest_first = [
        finished("4", "a", ignoring=True),
        finished("3", "b", ignoring=False),
        finished("2", "b", ignoring=True),
        finished("1", "b", ignoring=False, digest="e"),
    ]
    assert [one.name for one in latest(newest_first, "mrr@5")] == ["4", "2", "1"]


def test_the_commands_run_the_same_again() -> None:
    variant = {"index": "hnsw:m=8", "dimensions": 2, "encoding": "int8"}
    exact = {"index": "flat", "dimensions": 4, "encoding": "float32"}
    swept = evaluation("a b", 0.5, variants=[exact, variant], dataset="/my data/q.json", truncation="windows")
    without = evaluation("c", 0.5, ignore_identical_ids=True)
    found = views.commands({"metric": "mrr@5", "datasets": [dataset("en", ["a"], swept, A, B, without)]})
    assert found == [
        "evalctl run --model 'a b' --dataset '/my data/q.json' --k 5 --truncation windows "
        "--index hnsw:m=8 --dims 2 --encoding int8",
        "evalctl run --model a --model b --dataset builtin:velmar/en --k 5",
        "evalctl run --model c --dataset builtin:velmar/en --k 5 --ignore-identical-ids",
        "evalctl report --metric mrr@5 --out report.html",
    ]  # fmt: skip


def test_texts_that_are_markup_stay_texts() -> None:
    hostile = "</script><script>alert(1)</script>&amp;$x$"
    report = {"metric": "mrr@5", "datasets": [dataset(hostile, ["a"], evaluation(f"a{hostile}", 0.6, 1), B)]}
    report["recommendation"] = recommend(report["datasets"])
    html = page(report, charts(report))
    assert html.count("<script") == 1
    assert html.count("</script>") == 1
    assert "alert(1)" in html
