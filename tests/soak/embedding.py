"""Calls of EmbeddingService, CacheService and health: good ones, wrong ones, and callers who leave."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
from grpc_health.v1 import health_pb2

from embedscale.v1 import cache_service_pb2 as cache_pb
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.soak.world import CALL_SECONDS, World

Code = grpc.StatusCode
_SERVICE = "/embedscale.v1.EmbeddingService/"
_SERVING = health_pb2.HealthCheckResponse.SERVING


async def embed(world: World, pick: random.Random) -> None:
    server = world.server(pick)
    request = world.request(server, pick)
    world.answers.check(request, await server.embedding.Embed(request, timeout=CALL_SECONDS), server.model)


async def embed_stream(world: World, pick: random.Random) -> None:
    """Batches are answered in order; a wrong one has its error, and the next ones their answers."""
    server = world.server(pick)
    batches = [world.request(server, pick) for _ in range(pick.randint(1, 6))]
    wrong = pick.randrange(len(batches)) if pick.random() < 0.2 else -1
    if wrong >= 0:
        batches[wrong].dimensions = 5
    call = server.embedding.EmbedStream(_items(batches), timeout=CALL_SECONDS)
    answers = [answer async for answer in call]
    assert [answer.batch_id for answer in answers] == [str(number) for number in range(len(batches))]
    for number, (batch, answer) in enumerate(zip(batches, answers, strict=True)):
        if number == wrong:
            assert answer.error.reason == wire.ERROR_REASON_INVALID_FIELD
        else:
            world.answers.check(batch, answer.response, server.model)


async def abandoned_stream(world: World, pick: random.Random) -> None:
    """The caller reads no answer, or one, and leaves while the stream is open."""
    server = world.server(pick)
    batches = [world.new(server, pick, 2) for _ in range(3)]
    call = server.embedding.EmbedStream(_items(batches, then=30.0), timeout=CALL_SECONDS)
    if pick.random() < 0.5:
        assert (await call.read()).batch_id == "0"
    else:
        await asyncio.sleep(pick.uniform(0, 0.02))
    call.cancel()
    await ends(call, Code.CANCELLED)


async def count_tokens(world: World, pick: random.Random) -> None:
    texts = [world.texts.one(pick) for _ in range(pick.randint(1, 8))]
    name = world.embedder.model.name
    request = pb.CountTokensRequest(model=name, inputs=[pb.Input(text=text) for text in texts])
    answer = await world.embedder.embedding.CountTokens(request, timeout=CALL_SECONDS)
    assert len(answer.token_counts) == len(texts)
    assert answer.max_tokens == world.embedder.model.max_tokens
    for text, count in zip(texts, answer.token_counts, strict=True):
        world.answers.tokens(count, text, name)


async def list_models(world: World, pick: random.Random) -> None:
    server = world.server(pick)
    answer = await server.embedding.ListModels(pb.ListModelsRequest(), timeout=CALL_SECONDS)
    assert [(model.name, model.state) for model in answer.models] == [(server.model.name, pb.MODEL_STATE_READY)]


async def get_model(world: World, pick: random.Random) -> None:
    server = world.server(pick)
    answer = await server.embedding.GetModel(pb.GetModelRequest(model=server.model.name), timeout=CALL_SECONDS)
    assert answer.model.fingerprint == server.model.fingerprint


async def health(world: World, pick: random.Random) -> None:
    stub = pick.choice([world.embedder.health, world.proxy.health, world.evaluator_health])
    if pick.random() < 0.2:
        call = stub.Check(health_pb2.HealthCheckRequest(service="no such service"), timeout=CALL_SECONDS)
        await ends(call, Code.NOT_FOUND)
        return
    asked = health_pb2.HealthCheckRequest(service=pick.choice(["", "liveness"]))
    assert (await stub.Check(asked, timeout=CALL_SECONDS)).status == _SERVING


async def health_watch(world: World, pick: random.Random) -> None:
    call = world.server(pick).health.Watch(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)
    assert (await call.read()).status == _SERVING
    call.cancel()
    await ends(call, Code.CANCELLED)


async def invalid(world: World, pick: random.Random) -> None:
    """A request with one fault gets the status of this fault."""
    server = world.server(pick)
    request = world.request(server, pick)
    spoil, right = pick.choice(_FAULTS)
    spoil(request)
    await ends(server.embedding.Embed(request, timeout=CALL_SECONDS), right)


async def too_long(world: World, pick: random.Random) -> None:
    request = pb.EmbedRequest(model=world.embedder.model.name, inputs=[pb.Input(text=pick.choice(world.texts.long))])
    await ends(world.embedder.embedding.Embed(request, timeout=CALL_SECONDS), Code.INVALID_ARGUMENT)


async def malformed(world: World, pick: random.Random) -> None:
    """What is no message, and what is no method."""
    name, right = pick.choice([("Embed", Code.INVALID_ARGUMENT), ("Nowhere", Code.UNIMPLEMENTED)])
    call = world.server(pick).channel.unary_unary(_SERVICE + name)(b"\xff" * pick.randint(1, 50), timeout=CALL_SECONDS)
    await ends(call, right)


async def cancelled(world: World, pick: random.Random) -> None:
    server = world.server(pick)
    call = server.embedding.Embed(world.new(server, pick, 2), timeout=CALL_SECONDS)
    await asyncio.sleep(pick.uniform(0, 0.02))
    call.cancel()
    await ends(call, Code.OK, Code.CANCELLED)


async def deadline_passed(world: World, pick: random.Random) -> None:
    """The upstream takes longer than the caller has."""
    call = world.proxy.embedding.Embed(world.new(world.proxy, pick), timeout=pick.uniform(0.001, 0.01))
    await ends(call, Code.DEADLINE_EXCEEDED)


async def deadline_short(world: World, pick: random.Random) -> None:
    """What may or may not be done in time; what surely cannot is refused at once."""
    call = world.embedder.embedding.Embed(world.new(world.embedder, pick, 2), timeout=pick.uniform(0.001, 0.02))
    await ends(call, Code.OK, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED)


async def disconnecting(world: World, pick: random.Random) -> None:
    """A client with a connection of its own, which it closes with a call under way."""
    server = world.server(pick)
    channel = grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
    call = EmbeddingServiceStub(channel).Embed(world.new(server, pick, 2), timeout=CALL_SECONDS)
    await asyncio.sleep(pick.uniform(0, 0.03))
    await channel.close()
    await ends(call, Code.OK, Code.CANCELLED)


async def cache_stats(world: World, pick: random.Random) -> None:
    stats = await world.server(pick).cache.GetCacheStats(cache_pb.GetCacheStatsRequest(), timeout=CALL_SECONDS)
    assert stats.memory_bytes <= stats.memory_limit_bytes
    assert stats.redis_state != cache_pb.REDIS_STATE_NONE


async def cache_purge(world: World, pick: random.Random) -> None:
    """Of the model whose upstream gives a text the same vector each time."""
    request = cache_pb.PurgeCacheRequest(model=world.proxy.model.name)
    await world.proxy.cache.PurgeCache(request, timeout=CALL_SECONDS)


async def ends(call: "grpc.aio.Call", *right: Code) -> None:
    """Raise AssertionError unless the call ends with one of these statuses."""
    code = await call.code()
    assert code in right, f"{code.name}: {await call.details()}"


async def _items(batches: Sequence[pb.EmbedRequest], then: float = 0.0) -> AsyncIterator[pb.EmbedStreamRequest]:
    """The batches, and the stream's end after so many seconds."""
    for number, batch in enumerate(batches):
        yield pb.EmbedStreamRequest(batch_id=str(number), request=batch)
    await asyncio.sleep(then)


def _no_inputs(request: pb.EmbedRequest) -> None:
    del request.inputs[:]


def _too_many_inputs(request: pb.EmbedRequest) -> None:
    request.inputs.extend([pb.Input(text="a")] * 513)


def _empty_text(request: pb.EmbedRequest) -> None:
    request.inputs.add(text="")


def _no_content(request: pb.EmbedRequest) -> None:
    request.inputs.add()


def _set(field: str, value: object) -> Callable[[pb.EmbedRequest], None]:
    return lambda request: setattr(request, field, value)


_FAULTS: Sequence[tuple[Callable[[pb.EmbedRequest], None], Code]] = (
    (_no_inputs, Code.INVALID_ARGUMENT),
    (_too_many_inputs, Code.INVALID_ARGUMENT),
    (_empty_text, Code.INVALID_ARGUMENT),
    (_no_content, Code.INVALID_ARGUMENT),
    (_set("dimensions", 5), Code.INVALID_ARGUMENT),
    (_set("encoding", 9), Code.INVALID_ARGUMENT),
    (_set("truncation", 9), Code.INVALID_ARGUMENT),
    (_set("input_type", 9), Code.INVALID_ARGUMENT),
    (_set("model", "no such model"), Code.NOT_FOUND),
    (_set("model", ""), Code.NOT_FOUND),
)
