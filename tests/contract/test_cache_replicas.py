"""Replicas that share a Redis: a text is computed by one of them, and one that dies holds up the others for a lease."""

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack

import grpc
import pytest

from embedscale.core.embedding import PreparedText
from embedscale.embedding.cache_codec import cache_key
from embedscale.embedding.leases import lease_key
from embedscale.v1 import cache_service_pb2 as pb
from tests.conftest import RedisServer
from tests.contract.test_cache_faults import Caching, caching, is_used
from tests.contract.test_embedding_service import failure
from tests.waiting import eventually


async def two(stack: AsyncExitStack, url: str, channel_to: Callable, **options: object) -> tuple[Caching, Caching]:
    first = await stack.enter_async_context(caching(url, channel_to, **options))
    return first, await stack.enter_async_context(caching(url, channel_to, **options))


async def test_a_text_is_computed_by_one_replica(
    stack: AsyncExitStack, own_redis: RedisServer, channel_to: Callable
) -> None:
    first, second = await two(stack, own_redis.url, channel_to)
    first.engine.seconds = second.engine.seconds = 0.1
    shared = [uuid.uuid4().hex for _ in range(20)]
    answers = await asyncio.gather(first.embed([*shared, "mine"]), second.embed([*reversed(shared), "yours"]))
    computed = first.engine.computed + second.engine.computed
    assert sorted(computed) == sorted([*shared, "mine", "yours"])
    one, other = (bytes(answer.embeddings) for answer in answers)
    rows = [one[start : start + 1536] for start in range(0, 20 * 1536, 1536)]
    assert b"".join(reversed(rows)) == other[: 20 * 1536]
    await first.stored()
    await second.stored()
    assert not own_redis.client.keys("es1-lease:*")


@pytest.mark.parametrize(("lease_seconds", "left_milliseconds"), [(60, 500), (0.5, 60_000)], ids=["its", "theirs"])
async def test_an_owner_that_died_holds_up_others_until_its_lease_ends_or_theirs_would(
    own_redis: RedisServer, channel_to: Callable, lease_seconds: float, left_milliseconds: int
) -> None:
    async with caching(own_redis.url, channel_to, cache_lease_seconds=lease_seconds) as server:
        await is_used(server)
        key = lease_key(cache_key(server.engine.info.fingerprint, PreparedText("left")))
        started = time.perf_counter()
        own_redis.client.set(key, b"another", px=left_milliseconds)
        await server.right("left")
        assert 0.4 < time.perf_counter() - started < 20


async def test_a_caller_that_leaves_gives_its_lease_back(
    stack: AsyncExitStack, own_redis: RedisServer, channel_to: Callable
) -> None:
    first, second = await two(stack, own_redis.url, channel_to, cache_lease_seconds=60)
    first.engine.seconds = 60
    call = first.stub.Embed(first.request(["x"]))
    await eventually(lambda: first.engine.batches, "nothing is computed")
    call.cancel()
    started = time.perf_counter()
    await second.right("x")
    assert time.perf_counter() - started < 20


async def test_stats_and_purge(own_redis: RedisServer, channel_to: Callable) -> None:
    async with caching(own_redis.url, channel_to, cache_memory_bytes=2**20) as server:
        for _ in range(2):
            await server.embed(["a", "b"])
        await server.stored()
        stats = await server.stats()
        assert (stats.memory_hits, stats.redis_hits, stats.misses) == (2, 0, 2)
        assert stats.memory_vectors == 2
        assert stats.memory_bytes <= stats.memory_limit_bytes == 2**20
        purged = await server.cache.PurgeCache(pb.PurgeCacheRequest(fingerprint=server.engine.info.fingerprint))
        assert purged.purged_vectors == 2
        assert not (await server.embed(["a"])).inputs[0].cache_hit


async def test_purge_refuses_what_it_cannot_do(own_redis: RedisServer, channel_to: Callable) -> None:
    async with caching(own_redis.url, channel_to) as server:
        purge = server.cache.PurgeCache
        invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
        assert await failure(purge(pb.PurgeCacheRequest(fingerprint="*"))) == (invalid, "INVALID_FIELD", "fingerprint")
        assert await failure(purge(pb.PurgeCacheRequest())) == (invalid, "INVALID_FIELD", "model")
        assert await failure(purge(pb.PurgeCacheRequest(model="no"))) == (missing, "MODEL_NOT_FOUND", "model")
        own_redis.stop()
        code, reason, _ = await failure(purge(pb.PurgeCacheRequest(fingerprint="0" * 32)))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
