"""The evaluator's way to embedding services that are busy, slow or away."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from embedscale.client import homes
from embedscale.core.embedding import InputType, Truncation
from embedscale.core.errors import DeadlineExceeded, Overloaded, TextTooLong
from embedscale.core.evaluation import EvaluationSpec
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator.embedding_client import ClientTextEmbedder
from embedscale.servicekit.lifecycle import Application
from embedscale.servicekit.settings import ServerSettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from tests.conftest import free_port, served
from tests.fakes.hash_engine import HASH, HashEngine
from tests.fakes.moody_server import MOODY, MoodyServer

SPEC = EvaluationSpec(HASH, "memory:")


class Busy(HashEngine):
    """Refuses the first calls, with the advice to come back in `PAUSE` seconds."""

    PAUSE = 0.3

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    async def embed(self, texts, truncation, deadline=None):  # type: ignore[no-untyped-def]
        if self.refusals:
            self.refusals -= 1
            raise Overloaded("the queue is full", retry_after=self.PAUSE)
        return await super().embed(texts, truncation, deadline)


async def serving(stack: AsyncExitStack, engine: HashEngine, **options: float) -> ClientTextEmbedder:
    settings = EmbeddingServerSettings(drain_seconds=0)
    address = await served(stack, build_application([engine], settings), settings)
    embedder = ClientTextEmbedder([address], **({"patience_seconds": 10.0} | options))
    stack.push_async_callback(embedder.close)
    return embedder


async def test_a_busy_service_is_asked_again_after_the_pause_that_it_advises(stack: AsyncExitStack) -> None:
    engine = Busy(refusals=3)
    embedder = await serving(stack, engine)
    started = time.monotonic()
    answer = await embedder.embed(SPEC, ["a", "b"], InputType.QUERY)
    assert answer.vectors.shape == (2, 384)
    assert engine.refusals == 0
    assert 3 * Busy.PAUSE <= time.monotonic() - started < 8


class BusyCounter(HashEngine):
    """Refuses to count at first."""

    refusals = 2

    async def count_tokens(self, texts):  # type: ignore[no-untyped-def]
        if self.refusals:
            self.refusals -= 1
            raise Overloaded("the queue is full", retry_after=0.1)
        return await super().count_tokens(texts)


async def test_tokens_are_counted_with_the_same_patience(stack: AsyncExitStack) -> None:
    engine = BusyCounter()
    embedder = await serving(stack, engine)
    assert list(await embedder.count_tokens(HASH, ["a b", "c"], InputType.DOCUMENT)) == [2, 1]
    assert engine.refusals == 0


async def test_patience_ends(stack: AsyncExitStack) -> None:
    embedder = await serving(stack, Busy(refusals=10**6), patience_seconds=0.5)
    started = time.monotonic()
    with pytest.raises(Overloaded, match="the queue is full"):
        await embedder.embed(SPEC, ["a"], InputType.QUERY)
    assert time.monotonic() - started < 10


async def test_a_deadline_is_reported_as_one(stack: AsyncExitStack) -> None:
    embedder = await serving(stack, HashEngine(seconds=5), timeout_seconds=0.3)
    with pytest.raises(DeadlineExceeded, match="did not answer 2 texts in time"):
        await embedder.embed(SPEC, ["a", "b"], InputType.QUERY)


async def test_the_place_of_a_text_that_is_too_long_is_that_among_all_texts(stack: AsyncExitStack) -> None:
    embedder = await serving(stack, HashEngine())
    spec = EvaluationSpec(HASH, "memory:", truncation=Truncation.ERROR)
    with pytest.raises(TextTooLong) as caught:
        await embedder.embed(spec, [f"t{i}" for i in range(200)] + ["x " * 600, "y"], InputType.DOCUMENT)
    assert caught.value.field == "inputs[200].text"
    assert caught.value.message.startswith("inputs[200].text has ")


async def test_tokens_are_counted_by_a_service_that_is_still_starting(stack: AsyncExitStack) -> None:
    settings = EmbeddingServerSettings(drain_seconds=0, port=free_port())
    embedder = ClientTextEmbedder([f"127.0.0.1:{settings.port}"], patience_seconds=30.0)
    stack.push_async_callback(embedder.close)
    counting = asyncio.gather(embedder.count_tokens(HASH, ["a b", "c"], InputType.DOCUMENT), embedder.limits(HASH))
    await asyncio.sleep(1.5)  # longer than gRPC itself tries again
    await served(stack, build_application([HashEngine()], settings), settings)
    counts, limits = await counting
    assert (len(counts), limits.max_tokens) == (2, HashEngine().info.max_tokens)


class Frozen(MoodyServer):
    """Does not say which models it has until it is asked again."""

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        if not self.listed:
            self.listed += 1
            await asyncio.sleep(30)
        return await super().ListModels(request, context)


async def test_a_service_that_is_silent_when_it_is_looked_for_is_asked_again(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "LIST_SECONDS", 0.5)
    frozen = Frozen()
    application = Application("frozen", lambda server: add_EmbeddingServiceServicer_to_server(frozen, server))
    address = await served(stack, application, ServerSettings(drain_seconds=0))
    embedder = ClientTextEmbedder([address], patience_seconds=20.0)
    stack.push_async_callback(embedder.close)
    answer = await embedder.embed(EvaluationSpec(MOODY, "memory:"), ["a"], InputType.QUERY)
    assert (len(answer.vectors), frozen.listed > 1) == (1, True)
