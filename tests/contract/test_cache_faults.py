"""The cache may be gone, new, or full of rubbish: answers stay right."""

import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack

import numpy as np
import pytest

from embedscale.core.embedding import PreparedText
from embedscale.embedder import bootstrap
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedding.cache_codec import cache_key
from embedscale.embedding.catalog import Catalog
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import MINILM, RedisServer, served
from tests.contract.test_embedding_service import Served


@pytest.fixture
async def with_own_redis(
    stack: AsyncExitStack, catalog: Catalog, own_redis: RedisServer, channel_to: Callable
) -> Served:
    settings = EmbedderSettings(redis_url=own_redis.url, models=[MINILM], drain_seconds=1)
    address = await served(stack, bootstrap.build(settings, catalog), settings)
    channel = channel_to(address)
    return Served(MINILM, address, EmbeddingServiceStub(channel), channel)


async def test_answers_go_on_while_redis_is_killed_and_comes_back(
    with_own_redis: Served, own_redis: RedisServer
) -> None:
    text = uuid.uuid4().hex
    before = await with_own_redis.embed([text])
    own_redis.server._process.kill()
    for _ in range(3):
        without = await with_own_redis.embed([text])
        assert not without.inputs[0].cache_hit
        np.testing.assert_allclose(
            np.frombuffer(without.embeddings, "<f4"), np.frombuffer(before.embeddings, "<f4"), atol=1e-6
        )
    own_redis.stop()
    own_redis.start()
    deadline = time.monotonic() + 10
    while not (await with_own_redis.embed([text])).inputs[0].cache_hit:
        assert time.monotonic() < deadline, "the cache did not come back"


async def test_a_redis_that_is_not_there_costs_no_request(
    stack: AsyncExitStack, catalog: Catalog, channel_to: Callable
) -> None:
    settings = EmbedderSettings(redis_url="redis://127.0.0.1:1/0", models=[MINILM], drain_seconds=1)
    address = await served(stack, bootstrap.build(settings, catalog), settings)
    stub = EmbeddingServiceStub(channel_to(address))
    assert (await Served(MINILM, address, stub, None).vectors(["x"])).shape == (1, 384)


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "anothers", "list"])
async def test_damaged_values_are_computed_again_and_overwritten(
    with_own_redis: Served, own_redis: RedisServer, damage: str
) -> None:
    text, other = uuid.uuid4().hex, uuid.uuid4().hex
    right = await with_own_redis.embed([text, other])
    key = cache_key(right.fingerprint, PreparedText(text))
    value = own_redis.client.get(key)
    flipped = value[:-1] + bytes([value[-1] ^ 1])
    own_redis.client.delete(key)
    if damage == "list":
        own_redis.client.lpush(key, "a")
    else:
        anothers = own_redis.client.get(cache_key(right.fingerprint, PreparedText(other)))
        own_redis.client.set(
            key, {"cut": value[:-4], "flipped": flipped, "foreign": b"hello", "anothers": anothers}[damage]
        )
    again = await with_own_redis.embed([text, other])
    assert [facts.cache_hit for facts in again.inputs] == [False, True]
    np.testing.assert_allclose(
        np.frombuffer(again.embeddings, "<f4"), np.frombuffer(right.embeddings, "<f4"), atol=1e-6
    )
    assert (await with_own_redis.embed([text])).inputs[0].cache_hit


async def test_no_text_is_stored(with_own_redis: Served, own_redis: RedisServer) -> None:
    text = "a very recognisable secret sentence"
    await with_own_redis.embed([text])
    keys = list(own_redis.client.scan_iter())
    assert len(keys) == 1
    assert text.encode() not in b"".join([*keys, *own_redis.client.mget(keys)])
    assert 27 * 86400 - 60 < own_redis.client.ttl(keys[0]) <= 33 * 86400
