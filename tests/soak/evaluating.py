"""Calls of EvaluationService, among them small evaluations from their creation to their end."""

import random

import pytest

from embedscale.client import InvalidArgument, NotFound
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.soak.world import World

DATASET = "builtin:velmar/en"


async def finished(world: World) -> pb.Evaluation:
    """An evaluation that has run to its end, with the numbers that all of them have."""
    name = (await world.evaluations.create(world.embedder.model.name, DATASET, truncation="end")).name
    sequences = [event.sequence async for event in world.evaluations.watch(name)]
    assert sequences == sorted(set(sequences))
    evaluation = await world.evaluations.get(name)
    assert evaluation.state == pb.EVALUATION_STATE_SUCCEEDED, evaluation.error
    numbers = [(metric.name, metric.cutoff, metric.value) for metric in evaluation.result.metrics]
    world.answers.same(numbers, "metrics")
    return evaluation


async def evaluation(world: World, pick: random.Random) -> None:
    """Created, watched, compared and deleted."""
    made = await finished(world)
    results = [result async for result in world.evaluations.query_results(made.name)]
    assert len(results) == made.result.query_count
    compared = await world.evaluations.compare([world.reference, made.name])
    assert len(compared.pairs) == 1
    await world.evaluations.delete(made.name)
    with pytest.raises(NotFound):
        await world.evaluations.get(made.name)


async def cancelled(world: World, pick: random.Random) -> None:
    """Stopped and deleted at once, whether it has begun or not."""
    name = (await world.evaluations.create(world.embedder.model.name, DATASET, truncation="end")).name
    await world.evaluations.cancel(name)
    assert (await world.evaluations.get(name)).state in (
        pb.EVALUATION_STATE_CANCELLED, pb.EVALUATION_STATE_RUNNING, pb.EVALUATION_STATE_SUCCEEDED,
    )  # fmt: skip
    await world.evaluations.delete(name)


async def watched_for_a_moment(world: World, pick: random.Random) -> None:
    events = world.evaluations.watch(world.reference)
    assert (await anext(events)).sequence >= 1
    await events.aclose()  # type: ignore[attr-defined]


async def reading(world: World, pick: random.Random) -> None:
    match pick.randrange(4):
        case 0:
            assert world.reference in [listed.name async for listed in world.evaluations.list()]
        case 1:
            assert (await world.evaluations.dataset(DATASET)).query_count > 0
        case 2:
            assert DATASET in [dataset.uri for dataset in await world.evaluations.datasets()]
        case _:
            assert (await world.evaluations.get(world.reference)).state == pb.EVALUATION_STATE_SUCCEEDED


async def invalid(world: World, pick: random.Random) -> None:
    with pytest.raises(NotFound):
        await world.evaluations.get(f"evaluations/{pick.getrandbits(40):x}")
    with pytest.raises(NotFound):
        await world.evaluations.dataset("builtin:nothing/en")
    with pytest.raises(InvalidArgument):
        await world.evaluations.create(world.embedder.model.name, DATASET, cutoffs=(0,))
