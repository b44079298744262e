"""Redis may be absent, killed, paused, slow, full or full of rubbish: answers stay right and come in time."""

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import redis.asyncio

from embedscale.cli.local_cluster import free_port
from embedscale.core.embedding import PreparedText
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.cache_codec import cache_key
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.v1 import cache_service_pb2 as cache_pb
from embedscale.v1.cache_service_pb2_grpc import CacheServiceStub
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import RedisServer, served
from tests.contract.test_embedding_service import Served
from tests.fakes.hash_engine import HASH, HashEngine, hashed
from tests.waiting import eventually

MOST_DELAY_SECONDS = 0.05
SLACK_SECONDS = 0.03
"""By how much calls at the same time differ on a busy machine with two cores, cache or not."""

AS_SHIPPED = {"redis_timeout_seconds": EmbeddingServerSettings.model_fields["redis_timeout_seconds"].default}


@dataclass
class Caching(Served):
    """A server of the hash engine, without memory of its own, so that every answer asks Redis."""

    engine: HashEngine
    cache: CacheServiceStub

    async def right(self, text: str) -> bool:
        """Embed a text, check its vector, and say whether it came from the cache."""
        response = await self.embed([text])
        np.testing.assert_array_equal(np.frombuffer(response.embeddings, "<f4"), hashed(text))
        return response.inputs[0].cache_hit

    async def stats(self) -> cache_pb.GetCacheStatsResponse:
        return await self.cache.GetCacheStats(cache_pb.GetCacheStatsRequest())

    async def errors(self) -> dict[str, int]:
        return {error.kind: error.count for error in (await self.stats()).errors}

    async def stored(self) -> None:
        await eventually(self._wrote, "writes wait")

    async def _wrote(self) -> bool:
        return (await self.stats()).pending_writes == 0


@asynccontextmanager
async def caching(url: str, channel_to: Callable, **options: object) -> AsyncIterator[Caching]:
    engine = HashEngine()
    chosen = {"cache_memory_bytes": 0, "drain_seconds": 1} | options
    settings = EmbeddingServerSettings(redis_url=url, **chosen)
    async with AsyncExitStack() as stack:
        address = await served(stack, build_application([engine], settings), settings)
        channel = channel_to(address)
        yield Caching(HASH, address, EmbeddingServiceStub(channel), channel, engine, CacheServiceStub(channel))


@pytest.fixture
async def cached(own_redis: RedisServer, channel_to: Callable) -> AsyncIterator[Caching]:
    async with caching(own_redis.url, channel_to) as server:
        yield server


@pytest.fixture
async def hasty(own_redis: RedisServer, channel_to: Callable) -> AsyncIterator[Caching]:
    """A server that waits for Redis as long as one that is told nothing, and uses it."""
    async with caching(own_redis.url, channel_to, **AS_SHIPPED) as server:
        await is_used(server)
        yield server


@pytest.fixture
async def uncached(channel_to: Callable) -> AsyncIterator[Caching]:
    """A server without Redis: what takes long here does so on this machine, now."""
    async with caching("", channel_to) as server:
        yield server


async def is_used(server: Caching, text: str = "any text") -> None:
    """Wait until the text is found in Redis itself, not among those that wait to be written."""

    async def found() -> bool:
        before = (await server.stats()).redis_hits
        return await server.right(text) and (await server.stats()).redis_hits > before

    await eventually(found, "Redis is not used", seconds=30)


async def delays_nobody(server: Caching, uncached: Caching, calls: int = 40, at_once: int = 1) -> None:
    """Check that Redis makes the slowest of some calls with new texts not much slower than it is without one.

    As many calls go to the other server at the same time; what the event loop itself was held up is left out.
    """

    async def timed(one: Caching) -> float:
        started = time.perf_counter()
        await one.right(uuid.uuid4().hex)
        return time.perf_counter() - started

    lags, delays = [0.0], []
    watching = asyncio.create_task(_watch_lag(lags))
    for _ in range(calls):
        took = await asyncio.gather(*(timed(one) for one in (server, uncached) * at_once))
        delays.append(max(took[::2]) - max(took[1::2]))
    watching.cancel()
    assert max(delays) - max(lags) < MOST_DELAY_SECONDS + SLACK_SECONDS


async def _watch_lag(lags: list[float]) -> None:
    while True:
        started = time.perf_counter()
        await asyncio.sleep(0.002)
        lags.append(time.perf_counter() - started - 0.002)


@contextmanager
def stopped(redis: RedisServer) -> Iterator[None]:
    """It takes connections and answers nothing."""
    redis.server._process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.server._process.send_signal(signal.SIGCONT)


@contextmanager
def slow(redis: RedisServer) -> Iterator[None]:
    """It answers nothing for a second, and then everything."""
    redis.client.execute_command("CLIENT", "PAUSE", 1000, "ALL")
    yield


async def test_a_killed_and_restarted_redis_delays_nobody_and_comes_back(
    hasty: Caching, uncached: Caching, own_redis: RedisServer
) -> None:
    own_redis.server._process.kill()
    await delays_nobody(hasty, uncached)
    assert not await hasty.right("any text")
    assert (await hasty.stats()).redis_state == cache_pb.REDIS_STATE_PASSED_OVER
    own_redis.stop()
    own_redis.start()
    await is_used(hasty)


async def test_a_redis_that_is_absent_at_the_start_delays_nobody_and_is_found_later(
    uncached: Caching, channel_to: Callable
) -> None:
    port = free_port()
    async with caching(f"redis://127.0.0.1:{port}/0", channel_to, **AS_SHIPPED) as server:
        await delays_nobody(server, uncached)
        late = RedisServer(port)
        try:
            await is_used(server)
        finally:
            late.stop()


@pytest.mark.parametrize("silent", [stopped, slow])
async def test_a_redis_that_does_not_answer_delays_nobody_and_comes_back(
    hasty: Caching, uncached: Caching, own_redis: RedisServer, silent: Callable
) -> None:
    with silent(own_redis):
        await delays_nobody(hasty, uncached)
    await is_used(hasty)


async def test_calls_at_the_same_time_as_a_pause_begins_are_all_in_time(
    hasty: Caching, uncached: Caching, own_redis: RedisServer
) -> None:
    with stopped(own_redis):
        await delays_nobody(hasty, uncached, calls=1, at_once=16)
    await is_used(hasty)


async def test_a_full_redis_delays_nobody_still_answers_lookups_and_takes_writes_again(
    hasty: Caching, uncached: Caching, own_redis: RedisServer
) -> None:
    new = uuid.uuid4().hex
    own_redis.client.config_set("maxmemory-policy", "noeviction")
    own_redis.client.config_set("maxmemory", 1)
    await delays_nobody(hasty, uncached)
    await is_used(hasty)

    async def counted() -> bool:
        return {"write", "claim"} <= set(await hasty.errors())

    await eventually(counted, "the failures were not counted")
    own_redis.client.config_set("maxmemory", 0)

    async def is_stored() -> object:
        await hasty.right(new)
        return own_redis.client.exists(cache_key(hasty.engine.info.fingerprint, PreparedText(new)))

    await eventually(is_stored, "nothing was written again")


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "anothers", "list", "empty"])
async def test_damaged_values_are_counted_computed_again_and_overwritten(
    cached: Caching, own_redis: RedisServer, damage: str
) -> None:
    text, other = uuid.uuid4().hex, uuid.uuid4().hex
    right = await cached.embed([text, other])
    await cached.stored()
    key = cache_key(right.fingerprint, PreparedText(text))
    value = own_redis.client.get(key)
    flipped = value[:-1] + bytes([value[-1] ^ 1])
    own_redis.client.delete(key)
    if damage == "list":
        own_redis.client.lpush(key, "a")
    else:
        anothers = own_redis.client.get(cache_key(right.fingerprint, PreparedText(other)))
        values = {"cut": value[:-4], "flipped": flipped, "foreign": b"hello", "anothers": anothers, "empty": b""}
        own_redis.client.set(key, values[damage])
    again = await cached.embed([text, other])
    assert [facts.cache_hit for facts in again.inputs] == [False, True]
    assert again.embeddings == right.embeddings
    if damage != "list":
        assert (await cached.errors())["corrupt"] >= 1
    await cached.stored()
    assert own_redis.client.get(key) == value
    assert (await cached.embed([text])).inputs[0].cache_hit


async def test_no_text_is_stored_and_lifetimes_differ_by_a_tenth(cached: Caching, own_redis: RedisServer) -> None:
    texts = [f"a very recognisable secret sentence {number}" for number in range(50)]
    await cached.embed(texts)
    await cached.stored()
    keys = list(own_redis.client.scan_iter())
    assert b"secret" not in b"".join([*keys, *own_redis.client.mget(keys)])
    days = [own_redis.client.ttl(key) / 86400 for key in keys if key.startswith(b"es1:")]
    assert len(days) == len(texts)
    assert 27 - 0.01 < min(days) < 29
    assert 31 < max(days) <= 33


async def test_writes_that_wait_are_flushed_at_close(own_redis: RedisServer, channel_to: Callable) -> None:
    texts = [f"text {number}" for number in range(512)]
    async with caching(own_redis.url, channel_to) as server:
        await server.embed(texts)
    assert own_redis.client.dbsize() == len(texts)


async def test_writes_beyond_the_queue_are_dropped_and_counted(own_redis: RedisServer, channel_to: Callable) -> None:
    async with caching(own_redis.url, channel_to, cache_pending_writes=10) as server:
        with stopped(own_redis):
            await server.embed([f"text {number}" for number in range(100)])
            assert (await server.errors())["dropped"] == 90


async def test_float16_in_redis_takes_half_the_memory(own_redis: RedisServer, channel_to: Callable) -> None:
    async with caching(own_redis.url, channel_to, cache_dtype="float16") as server:
        await server.embed(["half"])
        await server.stored()
        again = await server.embed(["half"])
        (space,) = (await server.stats()).spaces
    assert again.inputs[0].cache_hit
    assert (space.vectors, space.model) == (1, HASH)
    assert space.bytes < 2 * 384 + 40
    np.testing.assert_allclose(np.frombuffer(again.embeddings, "<f4"), hashed("half"), atol=1e-4)


class Spoiled(HashEngine):
    """An engine whose vectors are not what its description says."""

    def finished(self, vector: np.ndarray) -> np.ndarray:
        return vector * 2


async def test_vectors_that_are_not_of_length_one_do_not_enter(
    own_redis: RedisServer, stack: AsyncExitStack, channel_to: Callable
) -> None:
    settings = EmbeddingServerSettings(redis_url=own_redis.url, drain_seconds=1)
    channel = channel_to(await served(stack, build_application([Spoiled()], settings), settings))
    server = Served(HASH, "", EmbeddingServiceStub(channel), channel)
    for _ in range(2):
        assert not (await server.embed(["x"])).inputs[0].cache_hit
    stats = await CacheServiceStub(channel).GetCacheStats(cache_pb.GetCacheStatsRequest())
    assert {error.kind: error.count for error in stats.errors}["unsound"] == 2
    assert stats.memory_vectors == 0
    async with redis.asyncio.Redis.from_url(own_redis.url) as client:
        assert not [key async for key in client.scan_iter("es1:*")]
