"""A cached service answers 10,000 mixed requests as one without a cache does, while Redis forgets and is spoiled."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack

import grpc

from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.v1 import cache_service_pb2 as cache_pb
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from embedscale.v1.cache_service_pb2_grpc import CacheServiceStub
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import RedisServer, served
from tests.fakes.hash_engine import HASH, MAX_TOKENS, HashEngine

REQUESTS = 10_000
CALLERS = 8
SPOILED_SHARE = 0.02
SEED = 20261121
TEXTS = [f"text {number} é 한 \U0001f642" for number in range(300)]
LONG = [f"{number} " * (MAX_TOKENS + 1 + number) for number in range(10)]


def request(pick: random.Random) -> pb.EmbedRequest:
    """Any request: mostly valid, with texts that come again, duplicates, long texts, and every option."""
    texts = pick.choices(TEXTS, k=pick.choice((1, 1, 2, 5, 12)))
    if pick.random() < 0.1:
        texts.insert(pick.randrange(len(texts) + 1), pick.choice(LONG))
    if pick.random() < 0.02:
        texts.append("")
    return pb.EmbedRequest(
        model=HASH if pick.random() < 0.99 else "nobody",
        inputs=[pb.Input(text=text) for text in texts],
        input_type=pick.choice(wire.InputType.values()),
        dimensions=pick.choice((0, 0, 0, 384, 383)),
        truncation=pick.choice(wire.Truncation.values()),
        encoding=pick.choice(wire.Encoding.values()),
    )


async def answer(stub: EmbeddingServiceStub, asked: pb.EmbedRequest) -> tuple[object, ...]:
    """Everything in an answer but what the cache is for: times, tokens used, and what was a hit."""
    try:
        got = await stub.Embed(asked)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    facts = [(fact.token_count, fact.truncated) for fact in got.inputs]
    return got.embeddings, got.dimensions, got.encoding, got.model, got.fingerprint, facts


def spoil(redis: RedisServer, pick: random.Random) -> None:
    """Let Redis forget some vectors and damage others."""
    keys = list(redis.client.scan_iter("es1:*", count=10_000))
    for key in pick.sample(keys, min(len(keys), 20)):
        value = redis.client.get(key) or b""
        match pick.randrange(3):
            case 0:
                redis.client.delete(key)
            case 1:
                redis.client.set(key, value[: pick.randrange(len(value) + 1)])
            case _:
                redis.client.set(key, redis.client.get(pick.choice(keys)) or b"")


async def test_cached_and_uncached_services_answer_alike(
    stack: AsyncExitStack, own_redis: RedisServer, channel_to: Callable[[str], grpc.aio.Channel]
) -> None:
    cached_channel = channel_to(await hasher(stack, own_redis.url, memory_bytes=60_000))
    cached = EmbeddingServiceStub(cached_channel)
    bare = EmbeddingServiceStub(channel_to(await hasher(stack, "", memory_bytes=0)))
    pick = random.Random(SEED)
    asked = iter([request(pick) for _ in range(REQUESTS)])

    async def caller() -> None:
        for one in asked:
            mine, expected = await asyncio.gather(answer(cached, one), answer(bare, one))
            assert mine == expected, one
            if pick.random() < SPOILED_SHARE:
                await asyncio.to_thread(spoil, own_redis, random.Random(pick.random()))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    stats = await CacheServiceStub(cached_channel).GetCacheStats(cache_pb.GetCacheStatsRequest())
    errors = {error.kind: error.count for error in stats.errors}
    assert min(stats.memory_hits, stats.redis_hits, stats.misses, errors["corrupt"]) > 100, (stats, errors)


async def hasher(stack: AsyncExitStack, redis_url: str, *, memory_bytes: int) -> str:
    """Serve the cheap engine; a large share of its vectors does not fit the memory."""
    settings = EmbeddingServerSettings(redis_url=redis_url, cache_memory_bytes=memory_bytes, drain_seconds=0)
    return await served(stack, build_application([HashEngine()], settings), settings)
