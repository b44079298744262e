"""Audits of data sets as tables, sentences and JSON, and what cutting long texts costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from rich.markup import escape
from rich.table import Table

from embedscale.cli.evaluations import Wanted, run_all
from embedscale.cli.live import live_view
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb

_CUTOFF = 5
_EXCERPT = 80


@dataclass(frozen=True)
class Cost:
    """MRR@5 of a model that cuts long texts, and of the same model that takes them in windows."""

    cut: float
    windows: float

    def as_dict(self) -> dict[str, float]:
        """Scores and their difference."""
        return {"mrr@5_cut": self.cut, "mrr@5_windows": self.windows, "cost": self.windows - self.cut}

    def in_words(self) -> str:
        """One sentence."""
        return (
            f"MRR@5 is {self.cut:.4f} with texts cut and {self.windows:.4f} in windows: "
            f"cutting costs {self.windows - self.cut:+.4f}"
        )


async def truncation_costs(
    client: AsyncEvaluationClient, found: Mapping[str, pb.ImportDatasetResponse]
) -> dict[str, Cost]:
    """Evaluate both ways each set that a model cuts documents of, where it can take them in windows."""
    costs = {}
    for name, imported in found.items():
        tokens = imported.audit.tokens
        if tokens.windows and tokens.cut_share > 0:
            wanted = [Wanted(tokens.model, imported.dataset.uri, (_CUTOFF,), 0, how) for how in ("end", "windows")]
            with live_view(wanted) as view:
                cut, windows = await run_all(client, wanted, view.show, view.wait)
            costs[name] = Cost(_mrr(cut), _mrr(windows))
    return costs


def as_table(found: Mapping[str, pb.ImportDatasetResponse]) -> Table:
    """One row a finding of each set, with its first example."""
    table = Table("DATA SET", "FINDING", "COUNT", "OF", "SHARE", "FIRST EXAMPLE", box=None)
    for name, imported in found.items():
        for finding in imported.audit.findings:
            share = f"{finding.count / max(finding.total, 1):.0%}"
            example = finding.examples[0].excerpt[:_EXCERPT] if finding.examples else ""
            kind = finding.kind.replace("_", " ")
            table.add_row(escape(name), kind, str(finding.count), str(finding.total), share, escape(example))
    return table


def tokens_in_words(tokens: pb.TokenAudit) -> str:
    """One sentence about lengths in tokens."""
    limit = f"{tokens.model} takes {tokens.max_tokens}" if tokens.max_tokens else f"{tokens.model} has no limit"
    return (
        f"documents have {lengths_in_words(tokens.document_tokens)} tokens and {limit}: "
        f"{tokens.cut_share:.1%} of all tokens are cut"
    )


def lengths_in_words(lengths: pb.LengthSummary) -> str:
    """Median, 95th percentile and maximum."""
    return f"{lengths.median} (median), {lengths.p95} (95 %), {lengths.maximum} (most)"


def as_dict(imported: pb.ImportDatasetResponse) -> dict[str, Any]:
    """Everything that an import says."""
    written = {
        "dataset": dataset_as_dict(imported.dataset),
        "findings": {finding.kind: plain(finding) for finding in imported.audit.findings},
        "faults": [plain(fault) for fault in imported.faults],
    }
    return written | ({"tokens": plain(imported.audit.tokens)} if imported.audit.HasField("tokens") else {})


def dataset_as_dict(dataset: pb.Dataset) -> dict[str, Any]:
    """Write a card."""
    return plain(dataset) | {"skipped": dict(dataset.skipped)}


def plain(message: Message) -> dict[str, Any]:
    """Fields of a message by name; numbers stay numbers, where protobuf's own JSON has texts for large ones."""
    return {field.name: _value(getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def _value(value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, str | int | float):
        return value
    return [_value(item) for item in value]


def _mrr(evaluation: pb.Evaluation) -> float:
    return next(metric.value for metric in evaluation.result.metrics if metric.name == "mrr")
