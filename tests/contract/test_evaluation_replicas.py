"""Several evaluators on one Redis, and one evaluator on a file: who takes what over, and what survives."""

import asyncio
import math
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from redis.asyncio import Redis

from embedscale.client import AsyncEmbeddingClient, AsyncEvaluationClient, NotFound, ResourceExhausted, Unavailable
from embedscale.core.evaluation import EvaluationSpec, Metric, QueryResult, Result, Usage
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator.pipeline import BLOCKS_AHEAD
from embedscale.evaluator.redis_evaluations import PREFIX, RedisEvaluations
from embedscale.evaluator.store import QueueLimits
from embedscale.servicekit.lifecycle import Server
from embedscale.servicekit.redis_url import parse_redis_url
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from tests import redis_servers
from tests.contract.replicas import QUERIES, HeldEngine, Replicas, ended
from tests.fakes.hash_engine import HASH
from tests.waiting import eventually


async def embedding(client: AsyncEvaluationClient, name: str) -> pb.EvaluationEvent:
    """The event of an evaluation that tells of its first vectors."""
    async for event in client.watch(name):
        if event.done:
            return event
    raise AssertionError("it ended before")


async def running(client: AsyncEvaluationClient, name: str) -> None:
    async def runs() -> bool:
        return (await client.get(name)).state == pb.EVALUATION_STATE_RUNNING

    await eventually(runs, "nobody takes it", seconds=60)


async def all_events(client: AsyncEvaluationClient, name: str) -> list[pb.EvaluationEvent]:
    return [event async for event in client.watch(name)]


def are_gapless(events: Sequence[pb.EvaluationEvent]) -> bool:
    return [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_any_replica_answers_for_every_evaluation(replicas: Replicas) -> None:
    first, _ = await replicas.start()
    second, _ = await replicas.start()
    uri = replicas.dataset("any")
    created = await asyncio.gather(*(one.create(HASH, uri, request_id="same") for one in (first, second, first)))
    assert len({one.name for one in created}) == 1
    name = created[0].name
    seen = await asyncio.gather(*(all_events(one, name) for one in (first, second)))
    assert seen[0] == seen[1]
    assert are_gapless(seen[0])
    assert [event async for event in second.watch(name, 4)] == seen[0][4:]
    assert (await second.get(name)).state == pb.EVALUATION_STATE_SUCCEEDED
    results = [row async for row in second.query_results(name)]
    assert [row.query_id for row in results] == sorted(f"q {n}" for n in range(QUERIES))


async def test_cancelling_from_another_replica_stops_the_work_within_a_second(replicas: Replicas) -> None:
    replicas.engine.free = BLOCKS_AHEAD
    working, _ = await replicas.start()
    created = await working.create(HASH, replicas.dataset("cancelled"))
    await embedding(working, created.name)
    other, _ = await replicas.start()
    await eventually(lambda: replicas.engine.waiting, "nothing is held")
    started = time.monotonic()
    assert (await other.cancel(created.name)).state == pb.EVALUATION_STATE_CANCELLED
    events = await all_events(working, created.name)
    assert events[-1].state == pb.EVALUATION_STATE_CANCELLED
    await eventually(lambda: not replicas.engine.waiting, "it is worked on")
    assert time.monotonic() - started < 1
    await other.delete(created.name)
    with pytest.raises(NotFound):
        await working.get(created.name)


async def test_a_replica_that_is_stopped_gives_its_evaluation_to_another_at_once(replicas: Replicas) -> None:
    replicas.engine.free = BLOCKS_AHEAD
    working, server = await replicas.start(lease_seconds=600)
    created = await working.create(HASH, replicas.dataset("drained"))
    await embedding(working, created.name)
    other, _ = await replicas.start(lease_seconds=600)
    started = time.monotonic()
    await replicas.stop(server)
    replicas.engine.free = math.inf
    evaluation = await ended(other, created.name)
    assert time.monotonic() - started < 60
    assert (evaluation.state, evaluation.attempt) == (pb.EVALUATION_STATE_SUCCEEDED, 2)
    assert are_gapless(await all_events(other, created.name))


async def test_a_watcher_of_a_replica_that_is_stopped_goes_on_at_another(replicas: Replicas) -> None:
    replicas.engine.free = 0
    first, server = await replicas.start()
    second, _ = await replicas.start()
    both = f"ipv4:{first._channel.address},{second._channel.address}"
    created = await second.create(HASH, replicas.dataset("reconnected"))
    events = []
    async with AsyncEvaluationClient(both) as client:
        async for event in client.watch(created.name):
            events.append(event)
            if len(events) == 4:
                await replicas.stop(server)
                replicas.engine.free = math.inf
    assert are_gapless(events)
    assert (await second.get(created.name)).state == pb.EVALUATION_STATE_SUCCEEDED


async def test_while_redis_is_away_calls_say_so_and_work_goes_on_after(replicas: Replicas, tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    port = redis_servers.free_port()
    arguments = ("--appendonly", "yes")
    replicas.engine.free = BLOCKS_AHEAD
    with redis_servers.plain(folder, *arguments, port=port):
        client, _ = await replicas.start(redis_url=f"redis://127.0.0.1:{port}/0", lease_seconds=1)
        created = await client.create(HASH, replicas.dataset("away"))
        await embedding(client, created.name)
        watching = asyncio.create_task(all_events(client, created.name))
        await asyncio.sleep(0.2)
    with pytest.raises(Unavailable) as caught:
        await client.get(created.name)
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert "nothing is lost" in caught.value.message
    await asyncio.sleep(1.5)  # longer than the lease
    with redis_servers.plain(folder, *arguments, port=port):
        replicas.engine.free = math.inf
        events = await asyncio.wait_for(watching, 120)
        evaluation = await client.get(created.name)
        assert (evaluation.state, evaluation.attempt) == (pb.EVALUATION_STATE_SUCCEEDED, 1)
        assert are_gapless(events)
        await replicas.stack.aclose()


async def succeeded(url: str, result: Result, rows: list[QueryResult], count: int) -> list[str]:
    """Names of evaluations that ended so."""
    store = RedisEvaluations(parse_redis_url(url), QueueLimits(), 5.0)
    await store.start()
    names = []
    for _ in range(count):
        names.append(f"evaluations/{(await store.create(EvaluationSpec(HASH, 'a set'), 'me', '')).id}")
        await store.succeed(await store.claim(), result, rows)
    await store.close()
    return names


async def test_a_list_of_large_results_comes_in_pages_that_can_be_sent(replicas: Replicas) -> None:
    metrics = [Metric("mrr", cutoff, 0.1, 0.2, 0.3) for cutoff in range(1, 8000)]
    result = Result(metrics, 1, 1, Usage(), "print", 1, "digest", 1.0)
    names = await succeeded(replicas.redis_url, result, [QueryResult("q", 0, [], {})], 10)
    client, _ = await replicas.start(max_message_bytes=2**21)
    assert [one.name async for one in client.list()] == names[::-1]


async def test_results_that_redis_dropped_are_said_to_be_lost(replicas: Replicas) -> None:
    rows = [QueryResult(f"q{n}", 0, [("d", 0.5)], {"d": 1}) for n in range(300)]
    result = Result([], len(rows), 1, Usage(), "print", 1, "digest", 1.0)
    names = await succeeded(replicas.redis_url, result, rows, 2)
    client, _ = await replicas.start()
    assert len([row async for row in client.query_results(names[0])]) == 300
    async with Redis.from_url(replicas.redis_url) as redis:
        await redis.delete(*[key async for key in redis.scan_iter("embedscale-results:*")])
    with pytest.raises(NotFound, match="lost its results"):
        async with asyncio.timeout(60):
            [row async for row in client.query_results(names[0])]
    with pytest.raises(grpc.aio.AioRpcError, match="lost its results"):
        await EvaluationServiceStub(client._channel.grpc).CompareEvaluations(pb.CompareEvaluationsRequest(names=names))


async def test_an_evaluation_that_cannot_be_read_does_not_stop_the_others(replicas: Replicas) -> None:
    store = RedisEvaluations(parse_redis_url(replicas.redis_url), QueueLimits(), 5.0)
    await store.start()
    broken = await store.create(EvaluationSpec(HASH, "a later version's"), "me", "")
    async with Redis.from_url(replicas.redis_url) as client:
        await client.hset(f"{PREFIX}evaluation:{broken.id}", "spec", "{}")
    await store.close()
    client, _ = await replicas.start()
    created = await client.create(HASH, replicas.dataset("sound"))
    async with asyncio.timeout(60):
        assert (await ended(client, created.name)).state == pb.EVALUATION_STATE_SUCCEEDED


async def test_callers_share_and_say_who_they_are(replicas: Replicas) -> None:
    replicas.engine.free = 0
    client, _ = await replicas.start(running_evaluations=2, running_per_caller=1, queued_evaluations=2)
    stub = EvaluationServiceStub(client._channel.grpc)
    uri = replicas.dataset("callers")

    async def create(caller: str) -> pb.Evaluation:
        request = pb.CreateEvaluationRequest(spec=pb.EvaluationSpec(model=HASH, dataset=uri))
        return (await stub.CreateEvaluation(request, metadata=[("embedscale-caller", caller)])).evaluation

    mine = await create("me")
    assert mine.caller == "me"
    await running(client, mine.name)
    waiting = await create("me")
    other = await create("other")
    await running(client, other.name)
    assert (await client.get(waiting.name)).queue_position == 1
    anonymous = await client.create(HASH, uri)
    assert anonymous.caller == "127.0.0.1"
    assert anonymous.queue_position == 2
    with pytest.raises(ResourceExhausted):
        await client.create(HASH, uri)
    replicas.engine.free = math.inf
    for one in (mine, waiting, other, anonymous):
        assert (await ended(client, one.name)).state == pb.EVALUATION_STATE_SUCCEEDED


async def test_a_list_is_filtered_and_old_ones_are_forgotten(replicas: Replicas) -> None:
    replicas.engine.free = 0
    client, server = await replicas.start()
    uris = [replicas.dataset(f"listed-{n}") for n in range(2)]
    names = [(await client.create(HASH, uri)).name for uri in (uris[0], uris[1], uris[0])]
    await client.cancel(names[1])
    replicas.engine.free = math.inf
    await ended(client, names[2])
    assert [one.name async for one in client.list()] == names[::-1]
    assert [one.name async for one in client.list(dataset=uris[0])] == [names[2], names[0]]
    assert [one.name async for one in client.list(state="cancelled")] == [names[1]]
    assert [one.name async for one in client.list(model="other")] == []
    await replicas.stop(server)
    client, _ = await replicas.start(kept_evaluations=1)

    async def newest_is_left() -> bool:
        return [one.name async for one in client.list()] == [names[2]]

    await eventually(newest_is_left, "the older ones are kept", seconds=30)


async def test_a_file_keeps_evaluations_over_a_restart_and_goes_on_with_them(replicas: Replicas) -> None:
    alone = {"redis_url": "", "data_folder": replicas.folder / "kept"}
    client, server = await replicas.start(**alone)
    uri = replicas.dataset("kept")
    finished = await ended(client, (await client.create(HASH, uri)).name)
    replicas.engine.free = BLOCKS_AHEAD
    unfinished = await client.create(HASH, replicas.dataset("unfinished"))
    waiting = await client.create(HASH, uri)
    seen = await embedding(client, unfinished.name)
    await replicas.stop(server)
    replicas.engine.free = math.inf
    client, _ = await replicas.start(**alone)
    assert await client.get(finished.name) == finished
    events = [event async for event in client.watch(unfinished.name, seen.sequence)]
    assert [event.sequence for event in events] == list(range(seen.sequence + 1, seen.sequence + 1 + len(events)))
    assert events[-1].state == pb.EVALUATION_STATE_SUCCEEDED
    again = await ended(client, waiting.name)
    assert again.result.metrics == finished.result.metrics


async def test_a_model_at_two_addresses_survives_the_loss_of_one(replicas: Replicas) -> None:
    settings = EmbeddingServerSettings(drain_seconds=0)
    second = HeldEngine()
    server = Server(build_application([second], settings), settings)
    await server.listen()
    await server.become_ready()
    texts = [f"text {n}" for n in range(512)]
    async with AsyncEmbeddingClient([replicas.embedder, f"127.0.0.1:{server.port}"]) as client:
        expected = await client.embed(texts, model=HASH)
        assert replicas.engine.batches
        assert second.batches
        second.free = 0
        others = asyncio.create_task(client.embed([f"other {n}" for n in range(1024)], model=HASH))
        await eventually(lambda: second.waiting, "the second one is asked nothing")
        await server.stop()
        assert len((await others).vectors) == 1024
        assert (await client.embed(texts, model=HASH)).vectors.tobytes() == expected.vectors.tobytes()
