"""What is shown while evaluations run."""

import io
from unittest.mock import AsyncMock

import pytest
from rich.console import Console

from embedscale.cli.evaluations import Wanted, start_all
from embedscale.cli.live import Bars, Lines
from embedscale.client import AsyncEvaluationClient, ResourceExhausted
from embedscale.v1 import evaluation_service_pb2 as pb

WANTED = [Wanted("model-a", "builtin:one"), Wanted("model-b", "builtin:two")]
SCORE = pb.Metric(name="mrr", cutoff=5, value=0.5, lower=0.4, upper=0.6)


def event(stage: str, done: int, total: int, state: str = "RUNNING", scored: bool = False) -> pb.EvaluationEvent:
    return pb.EvaluationEvent(
        state=f"EVALUATION_STATE_{state}",
        stage=f"EVALUATION_STAGE_{stage}",
        done=done,
        total=total,
        running=[SCORE] if scored else [],
    )


async def test_nothing_runs_on_when_not_all_could_be_started() -> None:
    client = AsyncMock(AsyncEvaluationClient)
    client.create.side_effect = [pb.Evaluation(name="evaluations/a"), ResourceExhausted("the queue is full")]
    with pytest.raises(ResourceExhausted):
        await start_all(client, WANTED)
    client.cancel.assert_awaited_once_with("evaluations/a")


def last_frame(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


def test_bars_show_stage_rate_score_and_queue() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    view = Bars(WANTED, console)
    with view:
        view.show(0, event("EMBED_CORPUS", 10, 48))
        view.show(0, event("EMBED_CORPUS", 48, 48))
        view.show(0, event("SCORE_QUERIES", 32, 96))
        view.show(0, event("SCORE_QUERIES", 64, 96, scored=True))
        view.wait(1, 2)
    first, second = last_frame(console)[-2:]
    assert "model-a  builtin:one" in first
    assert "64/96" in first
    assert "queries" in first
    assert "/s" in first
    assert "MRR@5 0.500 [0.400, 0.600]" in first
    assert "waiting (2nd)" in second


def test_a_stage_has_a_rate_of_its_own() -> None:
    view = Bars(WANTED, Console(file=io.StringIO(), width=200))
    view.show(0, event("EMBED_CORPUS", 1000, 1000))
    view.show(0, event("SCORE_QUERIES", 0, 96))
    (task, _) = view._progress.tasks
    assert (task.completed, task.total, task.speed) == (0, 96, None)


def test_lines_are_said_once_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(WANTED) as view:
        for position in (2, 1):
            view.wait(1, position)
        for done in (1, 2, 3):
            view.show(0, event("EMBED_CORPUS", done, 3))
        view.show(0, event("SCORE_QUERIES", 3, 3, "SUCCEEDED", scored=True))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "model-b  builtin:two  waiting",
        "model-a  builtin:one  corpus",
        "model-a  builtin:one  succeeded  MRR@5 0.500 [0.400, 0.600]",
    ]
