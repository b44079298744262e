"""A data set in the making on the screen: its estimate, its progress, and what became of the questions."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from embedscale.cli import audits, printing
from embedscale.v1 import evaluation_service_pb2 as pb

Show = Callable[[pb.GenerateDatasetResponse], None]

_STAGES = {
    pb.GENERATION_STAGE_READ: "reading",
    pb.GENERATION_STAGE_ASK: "asking",
    pb.GENERATION_STAGE_FILTER: "filtering",
    pb.GENERATION_STAGE_WRITE: "writing",
}


def estimate_in_words(response: pb.GenerateDatasetResponse) -> Iterator[str]:
    """What there is to do, a line each."""
    estimate = response.estimate
    yield f"{estimate.documents} documents in {estimate.chunks} chunks: {estimate.prompts} prompts"
    if estimate.kept_answers:
        yield f"{estimate.kept_answers} of them were answered before, and are not asked again"
    tokens = f"{estimate.input_tokens:,} tokens in and {estimate.output_tokens:,} out"
    yield f"about {tokens}, {dollars(estimate.cost)}"
    yield from response.warnings


def dollars(amount: float) -> str:
    """Write US dollars, small ones with as many digits as they need."""
    return f"${amount:.2f}" if amount >= 1 or not amount else f"${amount:.4f}"


@contextmanager
def live_view() -> Iterator[Show]:
    """Show progress on standard error: a bar on a terminal, else a line for each stage."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[told]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reading", total=None, told="")

        def show(response: pb.GenerateDatasetResponse) -> None:
            progress.update(
                task,
                description=_STAGES.get(response.stage, ""),
                completed=response.done,
                total=response.total or None,
                told=_told(response),
            )

        yield show


def _lines() -> Show:
    said: list[int] = []

    def show(response: pb.GenerateDatasetResponse) -> None:
        if not said or said[-1] != response.stage:
            said.append(response.stage)
            click.echo(f"{_STAGES.get(response.stage, '')}  {_told(response)}".rstrip(), err=True)

    return show


def _told(response: pb.GenerateDatasetResponse) -> str:
    if response.stage < pb.GENERATION_STAGE_ASK:
        return ""
    return f"{response.questions.written} questions, {dollars(response.usage.cost)}"


def tables(made: pb.GenerateDatasetResponse) -> tuple[Table, Table]:
    """What became of the questions, and facts of the set."""
    return _fates(made.questions), printing.facts(facts(made))


def _fates(counts: pb.QuestionCounts) -> Table:
    table = Table("QUESTIONS", "COUNT", box=None)
    table.add_row("written", str(counts.written))
    for reason, count in sorted(counts.dropped.items()):
        if count:
            table.add_row(f"dropped: {reason.replace('_', ' ')}", str(count))
    table.add_row("kept", str(counts.kept))
    others = {f"answers {name}": count for name, count in sorted(counts.failures.items())}
    others |= {"fewer than asked for": counts.missing, "more than asked for": counts.surplus}
    others |= {"kept, undecided by the judge": counts.undecided}
    for name, count in others.items():
        if count:
            table.add_row(name, str(count))
    return table


def facts(made: pb.GenerateDatasetResponse) -> dict[str, str]:
    """Facts of a finished set; one that no chat model was asked for took nothing."""
    usage = made.usage
    answers = f"{usage.calls} calls" + (f" and {usage.kept_answers} kept answers" if usage.kept_answers else "")
    found = [f"{finding.kind.replace('_', ' ')} {finding.count}" for finding in made.audit.findings if finding.count]
    tokens = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    return {
        "data set": made.dataset.uri,
        "documents": f"{made.estimate.documents} documents in {made.dataset.document_count} chunks",
        "questions": str(made.dataset.query_count),
        **({"took": f"{answers}, {tokens}, {dollars(usage.cost)}"} if usage.calls or usage.kept_answers else {}),
        "audit": ", ".join(found) or "nothing found",
    }


def as_dict(made: pb.GenerateDatasetResponse) -> dict[str, Any]:
    """Everything that is said of a finished set."""
    counts = audits.plain(made.questions) | {
        "failures": dict(made.questions.failures),
        "dropped": dict(made.questions.dropped),
    }
    return {
        "dataset": audits.dataset_as_dict(made.dataset),
        "questions": counts,
        "usage": audits.plain(made.usage),
        "estimate": audits.plain(made.estimate),
        "warnings": list(made.warnings),
        "findings": {finding.kind: audits.plain(finding) for finding in made.audit.findings},
        "manifest": made.manifest,
    }
