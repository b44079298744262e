"""What has to be full before growth says anything: caches in memory, Redis, pools of connections and threads."""

import asyncio
import random

import redis.asyncio

from embedscale.v1 import embedding_service_pb2 as pb
from tests.soak import evaluating
from tests.soak.cluster import Cluster
from tests.soak.texts import unseen
from tests.soak.world import EmbeddingServer, World

_TEXTS = {"embedder": 3_000, "proxy": 20_000}
_BATCH = 500
_LEARNT = 100
_BURST = 64
"""Four times as many calls at once as the callers ever make: no pool will have to grow any more."""
_EVALUATIONS = 4
_VALUE = b"x" * 1_000
_DAY = 86_400


async def fill(cluster: Cluster, world: World, stopping: asyncio.Event) -> None:
    """Fill them all; returns sooner where the soak is to stop."""
    await _fill_redis(cluster)
    await asyncio.gather(
        _fill_cache(world.embedder, _TEXTS["embedder"], stopping), _fill_cache(world.proxy, _TEXTS["proxy"], stopping)
    )
    if not stopping.is_set():
        await _burst(world)


async def learn(world: World) -> None:
    """Ask for every known text once: later, requests that come together may each compute it, in another batch."""
    for server in (world.embedder, world.proxy):
        for truncation in server.model.truncations:
            for start in range(0, len(world.texts.known), _LEARNT):
                inputs = [pb.Input(text=text) for text in world.texts.known[start : start + _LEARNT]]
                request = pb.EmbedRequest(model=server.model.name, inputs=inputs, truncation=truncation)
                world.answers.check(request, await server.embedding.Embed(request), server.model)


async def _fill_redis(cluster: Cluster) -> None:
    """With values that nobody asks for, so that Redis drops them when it needs room."""
    async with redis.asyncio.Redis.from_url(cluster.redis_url) as client:
        most = (await client.info("memory"))["maxmemory"]
        for batch in range(most // len(_VALUE) // _BATCH):
            pipeline = client.pipeline(transaction=False)
            for number in range(_BATCH):
                pipeline.set(f"filler:{batch}:{number}", _VALUE, ex=_DAY)
            await pipeline.execute()


async def _fill_cache(server: EmbeddingServer, count: int, stopping: asyncio.Event) -> None:
    pick = random.Random(count)
    for _ in range(0, count, _BATCH):
        if stopping.is_set():
            return
        await server.embedding.Embed(_request(server, pick, _BATCH))


async def _burst(world: World) -> None:
    pick = random.Random(_BURST)
    calls = [
        server.embedding.Embed(_request(server, pick, 1))
        for server in (world.embedder, world.proxy)
        for _ in range(_BURST)
    ]
    evaluations = await asyncio.gather(*(evaluating.finished(world) for _ in range(_EVALUATIONS)), *calls)
    for evaluation in evaluations[:_EVALUATIONS]:
        await world.evaluations.delete(evaluation.name)


def _request(server: EmbeddingServer, pick: random.Random, count: int) -> pb.EmbedRequest:
    inputs = [pb.Input(text=unseen(pick)) for _ in range(count)]
    return pb.EmbedRequest(model=server.model.name, inputs=inputs)
