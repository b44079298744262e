"""Which evaluations a report is about."""

from collections.abc import Iterable, Sequence

from embedscale.cli import references
from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

ORDINARY_TRUNCATIONS = (wire.TRUNCATION_UNSPECIFIED, wire.TRUNCATION_END)


async def succeeded(client: AsyncEvaluationClient) -> list[pb.Evaluation]:
    """Every evaluation with a result, the newest first."""
    return [one async for one in client.list(state="succeeded")]


async def named(client: AsyncEvaluationClient, wanted: Sequence[str], metric: str) -> list[pb.Evaluation]:
    """Evaluations by their ids. Raises CommandFailed for one that has no such result."""
    found = {one.name: one for one in [await references.found(client, reference) for reference in wanted]}
    for one in found.values():
        if one.state != pb.EVALUATION_STATE_SUCCEEDED:
            raise CommandFailed(f"{one.name} has no results: it is {references.state(one)}", EXIT_USER)
        if metric not in metrics(one):
            raise CommandFailed(f"{one.name} has no {metric}: it has {', '.join(metrics(one))}", EXIT_USER)
    return list(found.values())


def latest(evaluations: Iterable[pb.Evaluation], metric: str) -> list[pb.Evaluation]:
    """Newest of each model and data set that has the metric. Raises CommandFailed if there is none.

    On a data set where some left out the document with the query's own id, those like the newest one: others cannot be
    compared with it.
    """
    found: dict[tuple[str, str], pb.Evaluation] = {}
    left_out: dict[str, bool] = {}
    for one in evaluations:
        digest, ignoring = one.result.dataset_digest, one.spec.ignore_identical_ids
        if metric in metrics(one) and left_out.setdefault(digest, ignoring) == ignoring:
            found.setdefault((label(one), digest), one)
    if not found:
        raise CommandFailed(f"no evaluation with {metric} has succeeded: `evalctl run` starts one", EXIT_USER)
    return list(found.values())


def metrics(evaluation: pb.Evaluation) -> list[str]:
    """Names such as "mrr@5"."""
    return [f"{metric.name}@{metric.cutoff}" for metric in evaluation.result.metrics]


def label(evaluation: pb.Evaluation) -> str:
    """Model, with what makes its vectors others than by default."""
    spec = evaluation.spec
    changes = [f"{spec.dimensions} dimensions"] if spec.dimensions else []
    if spec.truncation not in ORDINARY_TRUNCATIONS:
        changes.append(truncation(evaluation))
    return f"{spec.model} ({', '.join(changes)})" if changes else spec.model


def labels(evaluations: Sequence[pb.Evaluation]) -> dict[str, str]:
    """Label of each evaluation of one data set by its name, with the id where two would be the same."""
    plain = [label(one) for one in evaluations]
    return {
        one.name: text if plain.count(text) == 1 else f"{text} [{references.identifier(one)[: references.SHORT]}]"
        for one, text in zip(evaluations, plain, strict=True)
    }


def truncation(evaluation: pb.Evaluation) -> str:
    """What is done with long texts, as `evalctl run` takes it."""
    return wire.Truncation.Name(evaluation.spec.truncation or wire.TRUNCATION_END).removeprefix("TRUNCATION_").lower()


def measured(evaluation: pb.Evaluation, others: Iterable[pb.Evaluation]) -> pb.Evaluation | None:
    """Evaluation of the same vectors that took least from the cache: the one whose time says most.

    None where all took most of their vectors from there.
    """
    same = [one for one in (evaluation, *others) if _same_work(one) == _same_work(evaluation)]
    best = min(same, key=lambda one: one.result.usage.cache_hits)
    return best if 2 * best.result.usage.cache_hits < best.result.usage.inputs else None


def _same_work(evaluation: pb.Evaluation) -> tuple[str, str, str, int]:
    result = evaluation.result
    return result.fingerprint, result.dataset_digest, truncation(evaluation), result.dimensions
