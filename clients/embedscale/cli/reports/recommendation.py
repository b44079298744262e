"""Which model to choose, as far as the paired tests allow to say so."""

from collections.abc import Mapping, Sequence
from typing import Any

Data = Mapping[str, Any]

_LEAST_P = 0.001


def recommend(datasets: Sequence[Data]) -> dict[str, Any]:
    """One sentence, and a reason for each data set. Datasets are those of `gathering.gather`."""
    compared = [one for one in datasets if one["pairs"]]
    sentence = _sentence(compared) if compared else _nothing_compared(datasets)
    return {"sentence": sentence, "reasons": [_reason(one) for one in compared]}


def contenders(compared: Sequence[Data]) -> list[str]:
    """Models that no other beats on any of the data sets, all of which they were evaluated on."""
    return [label for label in compared[0]["best"] if all(label in one["best"] for one in compared)]


def _sentence(compared: Sequence[Data]) -> str:
    left = contenders(compared)
    if len(left) > 1:
        return f"No model can be called better among {_listed(left)}: {_by_speed(left, compared)}."
    if not left:
        return f"It depends on the data set: {_by_dataset(compared)}."
    decided = [one["title"] for one in compared if one["best"] == left]
    if len(decided) == len(compared):
        return f"Choose {left[0]}: it is better than every other model on {_all(compared)}."
    if not decided:
        return f"Choose {left[0]}: it is the only model that none beats on any data set, though it is alone on none."
    return f"Choose {left[0]}: it is better on {_listed(decided)}, and no model is better on the others."


def _nothing_compared(datasets: Sequence[Data]) -> str:
    found = sorted({evaluation["label"] for one in datasets for evaluation in one["evaluations"]})
    return f"Nothing can be recommended: no data set has two models to compare, only {_listed(found)}."


def _by_speed(left: Sequence[str], compared: Sequence[Data]) -> str:
    rates = {label: _rates(label, compared) for label in left}
    if not all(rates.values()):
        return "choose by cost, licence and speed"
    slowest = {label: min(found) for label, found in rates.items()}
    fastest = max(slowest, key=lambda label: slowest[label])
    return f"choose by cost and licence, or {fastest}, which was the fastest here"


def _rates(label: str, compared: Sequence[Data]) -> list[float]:
    """Texts a second on each data set; empty unless known for all."""
    found = [e["speed"] for one in compared for e in one["evaluations"] if e["label"] == label]
    return [speed["texts_per_second"] for speed in found] if all(found) else []


def _by_dataset(compared: Sequence[Data]) -> str:
    titles: dict[str, list[str]] = {}
    for one in compared:
        titles.setdefault(_listed(one["best"], "or"), []).append(one["title"])
    return "; ".join(f"{best} for {_listed(where)}" for best, where in titles.items())


def _reason(dataset: Data) -> str:
    ranked = sorted(dataset["evaluations"], key=lambda one: -one["score"]["value"])
    tied_or_all = dataset["best"] if len(dataset["best"]) > 1 else [one["label"] for one in ranked]
    first, second = tied_or_all[:2]
    pair = next(one for one in dataset["pairs"] if {one["first"], one["second"]} == {first, second})
    sign = 1 if pair["first"] == first else -1
    low, high = sorted((sign * pair["lower"], sign * pair["upper"]))
    numbers = f"{sign * pair['difference']:+.4f} [{low:+.4f}, {high:+.4f}], {_p_value(pair['adjusted_p_value'])}"
    if len(dataset["best"]) == 1:
        return f"{dataset['title']}: {first} is better than {second}: {numbers}."
    tied = f"{dataset['title']}: no difference is shown between {_listed(dataset['best'])}"
    text = f"{tied} ({first} minus {second}: {numbers})."
    least = pair.get("detectable_difference")
    return f"{text} With so few questions a difference below {least:.4f} may well stay unseen." if least else text


def _p_value(value: float) -> str:
    return f"p < {_LEAST_P}" if value < _LEAST_P else f"p = {value:.3f}"


def _all(compared: Sequence[Data]) -> str:
    return compared[0]["title"] if len(compared) == 1 else f"all {len(compared)} data sets"


def _listed(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
