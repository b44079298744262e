"""Runs a list of evaluations on a cluster and shows them live."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from embedscale.cli.errors import from_reason
from embedscale.client import AsyncEvaluationClient, ClientError
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

OnEvent = Callable[[int, pb.EvaluationEvent], None]
OnWait = Callable[[int, int], None]

_POLL_SECONDS = 1.0


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


async def run_all(
    client: AsyncEvaluationClient, wanted: Sequence[Wanted], on_event: OnEvent, on_wait: OnWait
) -> list[pb.Evaluation]:
    """Run all. A failure cancels what is still running.

    `on_event` hears of each event with its place in `wanted`, `on_wait` of a place's position in the queue.

    Raises CommandFailed with the reason of the first evaluation that fails.
    """
    started = await start_all(client, wanted)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(follow(client, i, name, on_event, on_wait)) for i, name in enumerate(started)]
    except BaseException as error:
        await _cancel(client, started)
        raise (error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error) from None
    return [task.result() for task in tasks]


async def start_all(client: AsyncEvaluationClient, wanted: Sequence[Wanted]) -> list[str]:
    """Create all; returns their names. A failure cancels those that were created: nobody would hear of them."""
    started: list[str] = []
    try:
        for one in wanted:
            started.append(await start(client, one))
    except BaseException:
        await _cancel(client, started)
        raise
    return started


async def start(client: AsyncEvaluationClient, one: Wanted) -> str:
    """Create an evaluation; returns its name."""
    options = {field.name: getattr(one, field.name) for field in fields(one)}
    return (await client.create(**options)).name


async def follow(
    client: AsyncEvaluationClient, place: int, name: str, on_event: OnEvent, on_wait: OnWait
) -> pb.Evaluation:
    """Follow an evaluation until it has succeeded. Raises CommandFailed if it does not."""
    waiting = asyncio.create_task(_tell_position(client, place, name, on_wait))
    try:
        async for event in client.watch(name):
            if event.state != pb.EVALUATION_STATE_QUEUED:
                waiting.cancel()
            on_event(place, event)
    finally:
        waiting.cancel()
    evaluation = await client.get(name)
    if evaluation.state != pb.EVALUATION_STATE_SUCCEEDED:
        raise _failure(evaluation)
    return evaluation


async def _cancel(client: AsyncEvaluationClient, names: Sequence[str]) -> None:
    await asyncio.gather(*(client.cancel(name) for name in names), return_exceptions=True)


async def _tell_position(client: AsyncEvaluationClient, place: int, name: str, on_wait: OnWait) -> None:
    """Ask again and again: nothing happens to an evaluation when those before it leave the queue."""
    with contextlib.suppress(ClientError):
        while position := (await client.get(name)).queue_position:
            on_wait(place, position)
            await asyncio.sleep(_POLL_SECONDS)


def _failure(evaluation: pb.Evaluation) -> Exception:
    if evaluation.state == pb.EVALUATION_STATE_CANCELLED:
        return from_reason("", f"{evaluation.name} was cancelled")
    reason = wire.ErrorReason.Name(evaluation.error.reason).removeprefix("ERROR_REASON_")
    return from_reason(reason, evaluation.error.message)
