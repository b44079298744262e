"""Runs a list of evaluations on a cluster and shows them live."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from embedscale.cli.errors import from_reason
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

OnEvent = Callable[[int, pb.EvaluationEvent], None]


@dataclass(frozen=True)
class Wanted:
    """One evaluation to run."""

    model: str
    dataset: str
    cutoffs: Sequence[int] = (5,)
    dimensions: int = 0
    truncation: str = "end"
    indexes: Sequence[pb.IndexSpec] = ()
    sweep_dimensions: Sequence[int] = ()
    sweep_encodings: Sequence[str] = ()
    ignore_identical_ids: bool = False


async def run_all(client: AsyncEvaluationClient, wanted: Sequence[Wanted], on_event: OnEvent) -> list[pb.Evaluation]:
    """Run all; `on_event` hears of each event with its place in `wanted`. A failure cancels what is still running.

    Raises CommandFailed with the reason of the first evaluation that fails.
    """
    started: list[str] = []
    try:
        for one in wanted:
            started.append(await _start(client, one))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_follow(client, i, name, on_event)) for i, name in enumerate(started)]
    except BaseException as error:
        await asyncio.gather(*(client.cancel(name) for name in started), return_exceptions=True)
        raise (error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error) from None
    return [task.result() for task in tasks]


async def _start(client: AsyncEvaluationClient, one: Wanted) -> str:
    options = {field.name: getattr(one, field.name) for field in fields(one)}
    return (await client.create(**options)).name


async def _follow(client: AsyncEvaluationClient, place: int, name: str, on_event: OnEvent) -> pb.Evaluation:
    async for event in client.watch(name):
        on_event(place, event)
    evaluation = await client.get(name)
    if evaluation.state != pb.EVALUATION_STATE_SUCCEEDED:
        raise _failure(evaluation)
    return evaluation


def _failure(evaluation: pb.Evaluation) -> Exception:
    if evaluation.state == pb.EVALUATION_STATE_CANCELLED:
        return from_reason("", f"{evaluation.name} was cancelled")
    reason = wire.ErrorReason.Name(evaluation.error.reason).removeprefix("ERROR_REASON_")
    return from_reason(reason, evaluation.error.message)
