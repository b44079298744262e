"""Results of evaluations as tables and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from embedscale.cli import indexes, printing
from embedscale.cli.live import label
from embedscale.v1 import evaluation_service_pb2 as pb

METRICS = ("mrr", "hit_rate", "recall", "precision", "ndcg", "map")
SHOWN = METRICS[:2]


def as_table(evaluations: Sequence[pb.Evaluation], shown: Sequence[str] = SHOWN) -> Table:
    """One row an evaluation: the metrics shown with their intervals, the time, the tokens, the cache hits."""
    labels = [label(metric) for metric in evaluations[0].result.metrics if metric.name in shown]
    table = Table("DATA SET", "MODEL", *labels, "TIME", "TOKENS", "CACHE HITS", "CUT", box=None)
    for evaluation in evaluations:
        result = evaluation.result
        scores = [f"{m.value:.4f} [{m.lower:.3f}, {m.upper:.3f}]" for m in result.metrics if m.name in shown]
        table.add_row(escape(evaluation.spec.dataset), escape(evaluation.spec.model), *scores, *_costs(result))
    return table


def by_language(evaluations: Sequence[pb.Evaluation]) -> Table:
    """Language x model, for evaluations on one parallel data set with a single metric shown."""
    table = Table("LANGUAGE", "MODEL", "MRR@5 [95 %]", "TIME", "TOKENS", "CACHE HITS", box=None)
    for evaluation in evaluations:
        result = evaluation.result
        mrr = next(m for m in result.metrics if m.name == "mrr")
        scored = f"{mrr.value:.4f} [{mrr.lower:.3f}, {mrr.upper:.3f}]"
        table.add_row(language(evaluation), evaluation.spec.model, scored, *_costs(result)[:3])
    return table


def language(evaluation: pb.Evaluation) -> str:
    """Language of a built-in data set."""
    return evaluation.spec.dataset.rpartition("/")[2]


def as_dict(evaluation: pb.Evaluation) -> dict[str, Any]:
    """Everything about an evaluation, metrics by name such as "mrr@5", floats with all their digits."""
    result = evaluation.result
    named = {f"{metric.name}@{metric.cutoff}": metric for metric in result.metrics}
    return {
        "name": evaluation.name,
        "state": pb.EvaluationState.Name(evaluation.state).removeprefix("EVALUATION_STATE_").lower(),
        "error": evaluation.error.message,
        "attempt": evaluation.attempt,
        "queue_position": evaluation.queue_position,
        "caller": evaluation.caller,
        "created": evaluation.create_time.ToJsonString(),
        "ended": evaluation.end_time.ToJsonString() if evaluation.HasField("end_time") else None,
        "model": evaluation.spec.model,
        "dataset": evaluation.spec.dataset,
        "ignore_identical_ids": evaluation.spec.ignore_identical_ids,
        "metrics": {name: metric.value for name, metric in named.items()},
        "intervals": {name: [metric.lower, metric.upper] for name, metric in named.items()},
        "queries": result.query_count,
        "documents": result.document_count,
        "dimensions": result.dimensions,
        "fingerprint": result.fingerprint,
        "dataset_digest": result.dataset_digest,
        "seconds": result.duration.ToTimedelta().total_seconds(),
        "usage": printing.as_dict(result.usage, unset=True),
        "variants": [indexes.as_dict(variant) for variant in result.variants],
    }


def query_as_dict(row: pb.QueryResult) -> dict[str, Any]:
    """What was retrieved for a query, the best first."""
    return {
        "query_id": row.query_id,
        "rank": row.rank,
        "retrieved": [{"document_id": one.document_id, "score": one.score} for one in row.retrieved],
        "judgements": [{"document_id": one.document_id, "grade": one.grade} for one in row.judgements],
    }


def event_as_dict(event: pb.EvaluationEvent) -> dict[str, Any]:
    """What happened, and how far the evaluation was."""
    return {
        "sequence": event.sequence,
        "time": event.time.ToJsonString(),
        "state": pb.EvaluationState.Name(event.state).removeprefix("EVALUATION_STATE_").lower(),
        "attempt": event.attempt,
        "stage": pb.EvaluationStage.Name(event.stage).removeprefix("EVALUATION_STAGE_").lower(),
        "done": event.done,
        "total": event.total,
    }


def scores(evaluation: pb.Evaluation) -> dict[str, str]:
    """Every metric with its interval, by its name."""
    return {label(m): f"{m.value:.4f} [{m.lower:.3f}, {m.upper:.3f}]" for m in evaluation.result.metrics}


def _costs(result: pb.EvaluationResult) -> tuple[str, str, str, str]:
    usage = result.usage
    seconds = result.duration.ToTimedelta().total_seconds()
    share = usage.cache_hits / max(usage.inputs, 1)
    return f"{seconds:.1f} s", f"{usage.tokens}", f"{usage.cache_hits} ({share:.0%})", str(usage.truncated)
