"""Tables of a report that follow from its data."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from embedscale.cli.live import label
from embedscale.v1 import evaluation_service_pb2 as pb

Data = Mapping[str, Any]

_FLOAT32_BYTES = 4
_EXACT = "flat"


def metric_name(metric: str) -> str:
    """Write "mrr@5" as people do."""
    name, _, cutoff = metric.rpartition("@")
    return label(pb.Metric(name=name, cutoff=int(cutoff)))


def labels(report: Data) -> list[str]:
    """Every model, by name."""
    return sorted({one["label"] for dataset in report["datasets"] for one in dataset["evaluations"]})


def sizes(report: Data) -> list[dict[str, Any]]:
    """Score and bytes of each way to keep the vectors: what was swept, or else the full vectors alone."""
    return [
        {"title": dataset["title"], "label": one["label"], **row}
        for dataset in report["datasets"]
        for one in dataset["evaluations"]
        for row in (_swept(one["variants"], report["metric"]) if one.get("variants") else [_full(one)])
    ]


def tokens(report: Data) -> list[dict[str, Any]]:
    """Tokens a text: counted before anything is cut, or else what a model that cannot count computed or charged."""
    rows = [
        {"title": dataset["title"], "label": one["label"], **row}
        for dataset in report["datasets"]
        for one in dataset["evaluations"]
        if (row := _counted(dataset, one) or _charged(dataset, one))
    ]
    least: dict[str, float] = {}
    for row in rows:
        least[row["label"]] = min(row["tokens_per_text"], least.get(row["label"], row["tokens_per_text"]))
    return [row | {"times_least": row["tokens_per_text"] / least[row["label"]]} for row in rows if least[row["label"]]]


def truncation(report: Data) -> list[dict[str, Any]]:
    """What each model cut of each data set, and how long its documents are where the model can count."""
    return [
        {
            "title": dataset["title"],
            "label": one["label"],
            "way": one["truncation"],
            "cut_texts": one["usage"]["truncated"],
            "texts": one["usage"]["inputs"],
            "counted": counted is not None,
            **(counted or {"cut_share": 0.0}),
        }
        for dataset in report["datasets"]
        for one in dataset["evaluations"]
        for counted in [dataset["tokens"].get(one["model"])]
    ]


def commands(report: Data) -> list[str]:
    """Commands that evaluate the same again and write the report."""
    models: dict[str, list[str]] = {}
    for dataset in report["datasets"]:
        for one in dataset["evaluations"]:
            models.setdefault(_options(one), []).append(one["model"])
    written = [
        " ".join(["evalctl run", *(f"--model {shlex.quote(model)}" for model in dict.fromkeys(found)), rest])
        for rest, found in models.items()
    ]
    return [*written, f"evalctl report --metric {report['metric']} --out report.html"]


def _counted(dataset: Data, evaluation: Data) -> dict[str, Any] | None:
    found = dataset["tokens"].get(evaluation["model"])
    if not found or not dataset["card"]:
        return None
    counts = (dataset["card"]["document_count"], dataset["card"]["query_count"])
    every = _weighted((found["document_tokens"]["mean"], found["query_tokens"]["mean"]), counts)
    return _density(every, dataset, "counted")


def _charged(dataset: Data, evaluation: Data) -> dict[str, Any] | None:
    speed = evaluation["speed"]
    if not speed or speed["cache_hits"]:
        return None  # of documents and queries, who knows which were computed
    return _density(speed["tokens"] / speed["computed"], dataset, "computed")


def _density(tokens_per_text: float, dataset: Data, source: str) -> dict[str, Any]:
    card = dataset["card"]
    characters = 0.0
    if card:
        means = (card["document_characters"]["mean"], card["query_characters"]["mean"])
        characters = _weighted(means, (card["document_count"], card["query_count"]))
    per_hundred = 100 * tokens_per_text / characters if characters else None
    return {"tokens_per_text": tokens_per_text, "tokens_per_100_characters": per_hundred, "source": source}


def _weighted(means: Sequence[float], counts: Sequence[int]) -> float:
    return sum(mean * count for mean, count in zip(means, counts, strict=True)) / (sum(counts) or 1)


def _full(evaluation: Data) -> dict[str, Any]:
    return {
        "way": "float32",
        "index": _EXACT,
        "dimensions": evaluation["dimensions"],
        "encoding": "float32",
        "bytes": _FLOAT32_BYTES * evaluation["dimensions"],
        **evaluation["score"],
    }


def _swept(variants: Iterable[Data], metric: str) -> list[dict[str, Any]]:
    return [
        {
            "way": _way(one["index"].partition(":")[0], one["encoding"]),
            "index": one["index"],
            "dimensions": one["dimensions"],
            "encoding": one["encoding"],
            "bytes": one["bytes_per_vector"],
            "value": one["metrics"][metric],
            "lower": one["intervals"][metric][0],
            "upper": one["intervals"][metric][1],
        }
        for one in variants
    ]


def _way(kind: str, encoding: str) -> str:
    if kind == _EXACT:
        return encoding
    return kind if encoding == "float32" else f"{kind}, {encoding}"


def _options(evaluation: Data) -> str:
    """What `evalctl run` is given beside the model."""
    cutoffs = sorted({int(name.rpartition("@")[2]) for name in evaluation["metrics"]})
    words = ["--dataset", evaluation["dataset"]]
    words += [word for cutoff in cutoffs for word in ("--k", str(cutoff))]
    if "dimensions" in evaluation["label"].removeprefix(evaluation["model"]):
        words += ["--dimensions", str(evaluation["dimensions"])]
    if evaluation["truncation"] != "end":
        words += ["--truncation", evaluation["truncation"]]
    if evaluation["ignore_identical_ids"]:
        words.append("--ignore-identical-ids")
    return shlex.join([*words, *_sweep(evaluation)])


def _sweep(evaluation: Data) -> list[str]:
    variants = evaluation.get("variants", ())
    words = [w for index in dict.fromkeys(v["index"] for v in variants) if index != _EXACT for w in ("--index", index)]
    shorter = dict.fromkeys(str(v["dimensions"]) for v in variants if v["dimensions"] != evaluation["dimensions"])
    words += ["--dims", ",".join(shorter)] if shorter else []
    encodings = dict.fromkeys(v["encoding"] for v in variants if v["encoding"] != "float32")
    return words + [word for encoding in encodings for word in ("--encoding", encoding)]
