"""Quality against what it costs, one point a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """A model over the data sets that all models have in common: mean score, and what it costs."""

    label: str
    score: float
    seconds_per_thousand: float
    """Time for a thousand texts; 0 where it was not measured."""
    dollars_per_million: float
    """US dollars for a million texts by the catalog's price; 0 where it is free or was not measured."""
    best_by_time: bool = False
    """No model has a better score in less time."""
    best_by_cost: bool = False
    """No model has a better score for less money."""


def points(datasets: Sequence[Data]) -> list[Point]:
    """Every model that was evaluated on all data sets that more than one model was evaluated on; the best first."""
    shared = [one for one in datasets if one["pairs"]] or list(datasets)
    labels = {e["label"] for e in shared[0]["evaluations"]}.intersection(
        *({e["label"] for e in one["evaluations"]} for one in shared)
    )
    found = [
        _point(label, [e for one in shared for e in one["evaluations"] if e["label"] == label]) for label in labels
    ]
    ranked = sorted(found, key=lambda one: (-one.score, one.label))
    return [_placed(one, ranked) for one in ranked]


def _point(label: str, evaluations: Sequence[Data]) -> Point:
    score = sum(one["score"]["value"] for one in evaluations) / len(evaluations)
    speeds = [one["speed"] for one in evaluations]
    if not all(speeds):
        return Point(label, score, 0.0, 0.0)
    seconds, cost, texts = (sum(speed[name] for speed in speeds) for name in ("seconds", "cost", "computed"))
    return Point(label, score, 1e3 * seconds / texts, 1e6 * cost / texts)


def _placed(one: Point, ranked: Sequence[Point]) -> Point:
    timed = [other for other in ranked if other.seconds_per_thousand]
    by_time = one in timed and _on_front(one, timed, lambda point: point.seconds_per_thousand)
    by_cost = one in timed and _on_front(one, timed, lambda point: point.dollars_per_million)
    return Point(one.label, one.score, one.seconds_per_thousand, one.dollars_per_million, by_time, by_cost)


def _on_front(one: Point, points: Sequence[Point], price: Callable[[Point], float]) -> bool:
    """Whether no other is at least as good in both and better in one."""
    return not any(
        other.score >= one.score
        and price(other) <= price(one)
        and (other.score, price(other)) != (one.score, price(one))
        for other in points
    )
