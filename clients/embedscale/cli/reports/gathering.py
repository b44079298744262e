"""All that a report says, as one JSON object, asked of the evaluator."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from embedscale.cli import audits, printing, results
from embedscale.cli.reports import hardest, selection
from embedscale.cli.reports.recommendation import recommend
from embedscale.client import AsyncEvaluationClient, ClientError
from embedscale.v1 import evaluation_service_pb2 as pb

_BUILTIN = "builtin:"
_SHORT_DIGEST = 8


async def gather(client: AsyncEvaluationClient, wanted: Sequence[str], metric: str) -> dict[str, Any]:
    """Ask for evaluations by id, or else for the latest of each model and data set, and all that belongs to them.

    Raises CommandFailed where an evaluation has no result with the metric, which is one such as "mrr@5".
    """
    everything = await selection.succeeded(client)
    chosen = await selection.named(client, wanted, metric) if wanted else selection.latest(everything, metric)
    groups: dict[str, list[pb.Evaluation]] = {}
    for one in sorted(chosen, key=selection.label):
        groups.setdefault(one.result.dataset_digest, []).append(one)
    datasets = [await _dataset(client, group, everything, metric) for group in groups.values()]
    datasets.sort(key=lambda one: str(one["title"]))
    _tell_apart(datasets)
    return {"metric": metric, "recommendation": recommend(datasets), "datasets": datasets}


async def _dataset(
    client: AsyncEvaluationClient, group: Sequence[pb.Evaluation], everything: Sequence[pb.Evaluation], metric: str
) -> dict[str, Any]:
    labels = selection.labels(group)
    card = await _card(client, group[0])
    kept = card.uri if card else ""
    return {
        "title": _title(group[0], card),
        "digest": group[0].result.dataset_digest,
        "card": audits.dataset_as_dict(card) if card else None,
        "evaluations": [await _evaluation(client, one, labels[one.name], everything, metric) for one in group],
        **await _comparison(client, labels, metric),
        "hardest": await _hardest(client, labels, kept),
        **await _audit(client, kept, sorted({one.spec.model for one in group})),
    }


async def _evaluation(
    client: AsyncEvaluationClient,
    evaluation: pb.Evaluation,
    label: str,
    everything: Sequence[pb.Evaluation],
    metric: str,
) -> dict[str, Any]:
    written = results.as_dict(evaluation)
    lower, upper = written["intervals"][metric]
    return {
        **written,
        "label": label,
        "truncation": selection.truncation(evaluation),
        "score": {"value": written["metrics"][metric], "lower": lower, "upper": upper},
        "speed": await _speed(client, selection.measured(evaluation, everything)),
    }


async def _speed(client: AsyncEvaluationClient, measured: pb.Evaluation | None) -> dict[str, Any] | None:
    """Time and cost of an evaluation, and how many texts it computed: those from the cache took next to none."""
    if measured is None:
        return None
    seconds = measured.result.duration.ToTimedelta().total_seconds() - await _sweep_seconds(client, measured)
    usage = measured.result.usage
    computed = usage.inputs - usage.cache_hits
    return {
        "evaluation": measured.name,
        "seconds": seconds,
        "computed": computed,
        "cache_hits": usage.cache_hits,
        "texts_per_second": computed / seconds if seconds else 0.0,
        "tokens": usage.tokens,
        "cost": usage.cost,
    }


async def _sweep_seconds(client: AsyncEvaluationClient, evaluation: pb.Evaluation) -> float:
    """Time for trying indexes, which says nothing of the model."""
    if not evaluation.result.variants:
        return 0.0
    async for event in client.watch(evaluation.name):
        if event.stage == pb.EVALUATION_STAGE_SWEEP_INDEXES:
            return (evaluation.end_time.ToDatetime() - event.time.ToDatetime()).total_seconds()
    return 0.0


async def _card(client: AsyncEvaluationClient, evaluation: pb.Evaluation) -> pb.Dataset | None:
    """Card of the very content that was evaluated, where the evaluator still has it."""
    uri, digest = evaluation.spec.dataset, evaluation.result.dataset_digest
    for one in (uri,) if uri.startswith(_BUILTIN) else (f"dataset:{digest}", uri):
        try:
            card = await client.dataset(one)
        except ClientError:
            continue
        if card.digest == digest:
            return card
    return None


async def _comparison(client: AsyncEvaluationClient, labels: dict[str, str], metric: str) -> dict[str, Any]:
    if len(labels) < 2:
        return {"pairs": [], "best": list(labels.values())}
    name, _, cutoff = metric.rpartition("@")
    compared = await client.compare(list(labels), metric=name, cutoff=int(cutoff))
    pairs = [
        printing.as_dict(pair, unset=True) | {"first": labels[pair.first], "second": labels[pair.second]}
        for pair in compared.pairs
    ]
    return {"pairs": pairs, "best": [labels[one] for one in compared.best]}


async def _hardest(client: AsyncEvaluationClient, labels: dict[str, str], uri: str) -> list[dict[str, Any]]:
    rows = await hardest.hardest(client, labels)
    if uri and rows:
        await hardest.add_texts(client, uri, rows)
    return rows


async def _audit(client: AsyncEvaluationClient, uri: str, models: Sequence[str]) -> dict[str, Any]:
    """Findings, and lengths in the tokens of each model that can count them."""
    found: dict[str, Any] = {"findings": {}, "tokens": {}}
    for model in (*models, "") if uri else ():
        try:
            written = audits.as_dict(await client.import_dataset(uri, model=model))
        except ClientError:
            continue  # a remote model cannot count, and one may be gone
        if model:
            cut = written["findings"]["truncated_documents"]
            found["tokens"][model] = written["tokens"] | {
                "truncated_documents": cut["count"],
                "documents": cut["total"],
            }
        else:
            found["findings"] = written["findings"]
    return found


def _title(evaluation: pb.Evaluation, card: pb.Dataset | None) -> str:
    uri = card.source if card and card.source else evaluation.spec.dataset
    if uri.startswith("dataset:"):
        return uri[: len("dataset:") + _SHORT_DIGEST]
    if uri.startswith(_BUILTIN):
        return uri.removeprefix(_BUILTIN)
    name = PurePosixPath(uri.partition("#")[0]).stem
    languages = [tag for tag in card.languages if tag != "und"] if card else []
    return f"{name} ({', '.join(languages)})" if languages else name


def _tell_apart(datasets: Sequence[dict[str, Any]]) -> None:
    """Add the digest to titles that several sets have, such as a file and what it was before a change."""
    titles = [one["title"] for one in datasets]
    for one in datasets:
        if titles.count(one["title"]) > 1:
            one["title"] = f"{one['title']} [{one['digest'][:_SHORT_DIGEST]}]"
