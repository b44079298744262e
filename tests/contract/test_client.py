"""The Python client against real servers."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from embedscale.client import (
    AsyncEmbeddingClient,
    EmbeddingClient,
    EvaluationClient,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from embedscale.evaluator import bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.servicekit.lifecycle import Application
from embedscale.servicekit.settings import ServerSettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer, add_EmbeddingServiceServicer_to_server
from tests.conftest import E5, MINILM, free_port, served


@pytest.fixture
def client(embedder: str, proxy: str) -> Iterator[EmbeddingClient]:
    with EmbeddingClient([embedder, proxy]) as opened:
        yield opened


async def in_thread(work: object, *arguments: object, **options: object) -> object:
    """The servers live on this loop: a synchronous client must wait elsewhere."""
    return await asyncio.to_thread(work, *arguments, **options)


async def test_many_texts_are_split_and_come_back_in_order(client: EmbeddingClient) -> None:
    texts = [f"{index} of {uuid.uuid4().hex}" for index in range(200)]
    together = await in_thread(client.embed, iter(texts), model=MINILM, input_type="document")
    assert together.vectors.shape == (200, 384)
    assert together.vectors.dtype == np.float32
    assert len(together.token_counts) == 200
    alone = await in_thread(client.embed, [texts[137]], model=MINILM)
    np.testing.assert_array_equal(together.vectors[137], alone.vectors[0])
    assert alone.cache_hits == 1


async def test_encoded_vectors_are_those_of_the_full_ones(client: EmbeddingClient) -> None:
    texts = [f"text {number}" for number in range(70)]
    full = (await in_thread(client.embed, texts, model=MINILM)).vectors
    expected = {
        "float16": full.astype(np.float16),
        "int8": np.rint(full * 127).astype(np.int8),
        "binary": np.packbits(full > 0, axis=1),
    }
    for encoding, vectors in expected.items():
        result = await in_thread(client.embed, texts, model=MINILM, encoding=encoding)
        assert result.vectors.dtype == vectors.dtype
        np.testing.assert_array_equal(result.vectors, vectors)
        blocks = await in_thread(lambda: list(client.embed_iter(texts, model=MINILM, encoding=encoding)))  # noqa: B023
        np.testing.assert_array_equal(np.concatenate([block.vectors for block in blocks]), vectors)
        none = (await in_thread(client.embed, [], model=MINILM, encoding=encoding)).vectors
        assert (none.shape, none.dtype) == ((0, vectors.shape[1]), vectors.dtype)


async def test_no_texts_give_no_rows(client: EmbeddingClient) -> None:
    result = await in_thread(client.embed, [], model=MINILM)
    assert result.vectors.shape == (0, 384)
    assert len(result.fingerprint) == 32


async def test_models_are_found_at_whichever_address_lists_them(client: EmbeddingClient) -> None:
    assert [model.name for model in await in_thread(client.models)] == [MINILM, E5]
    spaces = {
        (await in_thread(client.embed, ["x"], model=name, input_type="query")).fingerprint for name in (MINILM, E5)
    }
    assert len(spaces) == 2


async def test_errors_are_exceptions_with_reason_and_field(client: EmbeddingClient) -> None:
    with pytest.raises(NotFound) as unknown:
        await in_thread(client.embed, ["x"], model="nothing")
    assert unknown.value.reason == "MODEL_NOT_FOUND"
    with pytest.raises(InvalidArgument) as empty:
        await in_thread(client.embed, ["x", ""], model=MINILM)
    assert (empty.value.reason, empty.value.field) == ("INVALID_FIELD", "inputs[1].text")
    with pytest.raises(InvalidArgument) as untyped:
        await in_thread(client.embed, ["x"], model=E5)
    assert untyped.value.field == "input_type"


async def test_an_address_without_a_server_is_named(embedder: str) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    async with AsyncEmbeddingClient([nowhere]) as client:
        started = time.monotonic()
        with pytest.raises(Unavailable, match=nowhere):
            await client.embed(["x"], model=MINILM)
        assert time.monotonic() - started < 10  # nobody was ever there: it is not waited for
    async with AsyncEmbeddingClient([nowhere, embedder]) as client:  # the other one is enough
        assert (await client.embed(["x"], model=MINILM)).vectors.shape == (1, 384)
        with pytest.raises(Unavailable, match=nowhere):
            await client.embed(["x"], model="nothing")  # it may be there


async def test_a_closed_client_says_so(embedder: str) -> None:
    client = EmbeddingClient([embedder])
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.models()
    with pytest.raises(ValueError, match="addresses"):
        EmbeddingClient([])


async def test_closing_ends_a_stream_that_is_held_without_complaint(
    embedder: str, caplog: pytest.LogCaptureFixture
) -> None:
    def held() -> Iterator[object]:
        with EmbeddingClient([embedder]) as client:
            stream = client.embed_iter((f"text {number}" for number in itertools.count()), model=MINILM)
            assert len(next(stream)) > 0
        return stream

    stream = await in_thread(held)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    with pytest.raises(RuntimeError, match="closed"):
        next(stream)


class Restless(EmbeddingServiceServicer):
    """A model whose vector space is another one at each call: replicas in the middle of a rollout."""

    def __init__(self) -> None:
        self.spaces = itertools.count()

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(
            models=[pb.Model(name="m", state=pb.MODEL_STATE_READY, dimensions=1, max_inputs=1)]
        )

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        facts = [pb.InputFacts()] * len(request.inputs)
        return pb.EmbedResponse(embeddings=b"\0" * 4, dimensions=1, inputs=facts, fingerprint=str(next(self.spaces)))


async def test_vectors_of_different_spaces_are_never_put_together(stack: AsyncExitStack) -> None:
    def register(server: grpc.aio.Server) -> None:
        add_EmbeddingServiceServicer_to_server(Restless(), server)

    address = await served(stack, Application("x", register), ServerSettings(drain_seconds=0))
    async with AsyncEmbeddingClient([address]) as client:
        with pytest.raises(FailedPrecondition, match="vector spaces"):
            await client.embed(["a", "b"], model="m")


async def test_evaluations_run_without_asyncio(stack: AsyncExitStack, embedder: str, tmp_path: Path) -> None:
    settings = EvaluatorSettings(embedding_addresses=[embedder], drain_seconds=0, data_folder=tmp_path)
    address = await served(stack, bootstrap.build(settings), settings)

    def evaluate() -> tuple[int, float]:
        with EvaluationClient(address) as client:
            created = client.create(MINILM, "builtin:velmar/en")
            events = list(client.watch(created.name))
            results = list(client.query_results(created.name))
            assert [one.name for one in client.list()] == [created.name]
            assert client.get(created.name).result.metrics[0].value == events[-1].running[0].value
            return len(results), events[-1].running[0].value

    count, mrr = await in_thread(evaluate)
    assert count == 96
    assert 0.5 < mrr < 0.9
