"""Progress of evaluations while they run: bars on a terminal, plain lines elsewhere; always on standard error."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from embedscale.cli.evaluations import Wanted
from embedscale.cli.references import ordinal
from embedscale.v1 import evaluation_service_pb2 as pb

STAGES = {
    pb.EVALUATION_STAGE_UNSPECIFIED: "waiting",
    pb.EVALUATION_STAGE_READ_DATASET: "reading",
    pb.EVALUATION_STAGE_EMBED_CORPUS: "corpus",
    pb.EVALUATION_STAGE_SCORE_QUERIES: "queries",
    pb.EVALUATION_STAGE_SWEEP_INDEXES: "indexes",
}


class LiveView(Protocol):
    """Shows events of several evaluations."""

    def show(self, place: int, event: pb.EvaluationEvent) -> None:
        """Show an event of evaluation `place`."""

    def wait(self, place: int, position: int) -> None:
        """Show that evaluation `place` waits, and how many are before it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def live_view(wanted: Sequence[Wanted]) -> LiveView:
    """Choose the view that standard error can show."""
    return Bars(wanted) if sys.stderr.isatty() else Lines(wanted)


class Bars:
    """A bar for each evaluation, with texts a second and time left of its stage, and the score so far."""

    def __init__(self, wanted: Sequence[Wanted], console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[stage]:<8}", markup=False),
            _RateColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[score]}", markup=False),
            console=console or Console(stderr=True),
        )
        self._tasks: list[TaskID] = [
            self._progress.add_task(f"{w.model}  {w.dataset}", total=None, start=False, stage="waiting", score="")
            for w in wanted
        ]
        self._stages: dict[int, int] = {}

    def show(self, place: int, event: pb.EvaluationEvent) -> None:
        """See `LiveView`."""
        if event.state == pb.EVALUATION_STATE_QUEUED:
            return
        task = self._tasks[place]
        if event.state != pb.EVALUATION_STATE_RUNNING:
            self._progress.update(task, stage=_stage(event), score=score(event.running))
            self._progress.stop_task(task)
            return
        if self._stages.get(place) != event.stage:  # documents and queries have rates of their own
            self._stages[place] = event.stage
            self._progress.reset(task, total=event.total or None)
        self._progress.update(
            task, completed=event.done, total=event.total or None, stage=_stage(event), score=score(event.running)
        )

    def wait(self, place: int, position: int) -> None:
        """See `LiveView`."""
        self._progress.update(self._tasks[place], stage=f"waiting ({ordinal(position)})")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class _RateColumn(ProgressColumn):
    """Texts a second."""

    def render(self, task: Task) -> Text:
        """Write the rate, once there is one."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "", style="progress.data.speed")


class Lines:
    """A line whenever an evaluation enters a stage or ends."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        self._said: dict[int, str] = {}

    def show(self, place: int, event: pb.EvaluationEvent) -> None:
        """See `LiveView`."""
        self._say(place, _stage(event), score(event.running))

    def wait(self, place: int, position: int) -> None:  # noqa: ARG002
        """See `LiveView`; a place in the queue changes too often for lines."""
        self._say(place, STAGES[pb.EVALUATION_STAGE_UNSPECIFIED], "")

    def _say(self, place: int, stage: str, scored: str) -> None:
        if self._said.get(place) != stage:
            self._said[place] = stage
            wanted = self._wanted[place]
            click.echo(f"{wanted.model}  {wanted.dataset}  {stage}  {scored}".rstrip(), err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


def _stage(event: pb.EvaluationEvent) -> str:
    if event.state not in (pb.EVALUATION_STATE_QUEUED, pb.EVALUATION_STATE_RUNNING):
        return pb.EvaluationState.Name(event.state).split("_")[-1].lower()
    if not event.stage and event.attempt > 1:
        return f"attempt {event.attempt}"
    return STAGES[event.stage]


def score(metrics: Sequence[pb.Metric]) -> str:
    """Write the first metric for a person, or nothing."""
    return next((f"{label(m)} {m.value:.3f} [{m.lower:.3f}, {m.upper:.3f}]" for m in metrics), "")


def label(metric: pb.Metric) -> str:
    """Name a metric as the field does: MRR@5, hit rate@5."""
    name = {"mrr": "MRR", "hit_rate": "hit rate", "ndcg": "nDCG", "map": "MAP"}.get(metric.name, metric.name)
    return f"{name}@{metric.cutoff}"
