"""How the client cuts, sends, reads and joins, against a server that answers late, out of order and not always."""

import asyncio
import gc
import itertools
import pickle
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any
from unittest import mock

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.client import (
    AsyncEmbeddingClient,
    ClientError,
    ClientOptions,
    EmbeddingClient,
    EmbedResult,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    retrying,
)
from embedscale.servicekit.lifecycle import Application
from embedscale.servicekit.settings import ServerSettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from tests.conftest import MINILM, served
from tests.fakes.hash_engine import DIMENSIONS, hashed
from tests.fakes.moody_server import MOODY, MoodyServer, facts
from tests.waiting import eventually


async def serve(stack: AsyncExitStack, moody: MoodyServer, **options: object) -> str:
    def register(server: grpc.aio.Server) -> None:
        add_EmbeddingServiceServicer_to_server(moody, server)

    return await served(stack, Application("x", register), ServerSettings(drain_seconds=0, **options))


def check(result: EmbedResult, texts: list[str]) -> None:
    """Every row and every fact belongs to its text."""
    assert result.vectors.shape == (len(texts), DIMENSIONS)
    assert result.vectors.dtype == np.float32
    assert result.vectors.flags.writeable
    for text, row in zip(texts, result.vectors, strict=True):
        np.testing.assert_array_equal(row, hashed(text))
    told = [facts(text) for text in texts]
    assert result.token_counts.tolist() == [one.token_count if one.HasField("token_count") else -1 for one in told]
    assert result.truncated_rows.tolist() == [one.truncated for one in told]
    assert result.cached_rows.tolist() == [one.cache_hit for one in told]
    assert result.tokens_used == sum(map(len, texts))


@pytest.fixture(scope="session")
async def moody_replicas(session_stack: AsyncExitStack) -> list[str]:
    """Two replicas that refuse a quarter of the calls."""
    return [await serve(session_stack, MoodyServer(refused=0.25)) for _ in range(2)]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), max_size=80), many=st.integers(1, 9)
)
async def test_rows_are_in_order_whatever_replicas_do(moody_replicas: list[str], texts: list[str], many: int) -> None:
    options = ClientOptions(concurrent_batches=many, retries=100)
    patched = mock.patch.multiple(retrying, FIRST_PAUSE_SECONDS=0.001, MOST_PAUSE_SECONDS=0.02)
    with patched:
        async with AsyncEmbeddingClient(moody_replicas, options) as client:
            check(await client.embed(iter(texts), model=MOODY), texts)
            blocks = [block async for block in client.embed_iter(texts, model=MOODY)]
    for block, start in zip(blocks, itertools.count(0, 7), strict=False):
        check(block, texts[start : start + 7])
    assert sum(map(len, blocks)) == len(texts)


async def test_requests_keep_to_the_servers_limits_and_share_the_replicas(stack: AsyncExitStack) -> None:
    replicas = [MoodyServer(max_inputs=7, seconds=0.05) for _ in range(2)]
    addresses = [await serve(stack, one, max_message_bytes=2**20) for one in replicas]
    texts = [f"{index} " + "x" * (300_000 if index % 10 == 0 else 5) for index in range(100)]
    async with AsyncEmbeddingClient(addresses, ClientOptions(concurrent_batches=6)) as client:
        check(await client.embed(texts, model=MOODY), texts)
        with pytest.raises(InvalidArgument, match=r"inputs\[40\].text has 2000000 bytes") as large:
            await client.embed(["a"] * 40 + ["x" * 2_000_000] + ["b"], model=MOODY)
    assert (large.value.field, large.value.reason) == ("inputs[40].text", "INVALID_FIELD")
    for one in replicas:
        assert len(one.requests) >= 7
        assert one.most_running >= 2
        assert max(len(texts) for texts in one.requests) <= 7
        assert max(sum(map(len, texts)) for texts in one.requests) < 2**20


async def test_small_calls_one_after_the_other_share_the_replicas_too(stack: AsyncExitStack) -> None:
    replicas = [MoodyServer(), MoodyServer()]
    async with AsyncEmbeddingClient([await serve(stack, one) for one in replicas]) as client:
        for number in range(10):
            await client.embed([f"{number}"], model=MOODY)
    assert [len(one.requests) for one in replicas] == [5, 5]


async def test_answers_too_keep_to_the_size_of_a_message(stack: AsyncExitStack) -> None:
    moody = MoodyServer(max_inputs=5000)
    address = await serve(stack, moody, max_message_bytes=2**20)
    async with AsyncEmbeddingClient([address]) as client:
        with mock.patch("embedscale.client.batches.BATCH_SIZE", 5000):
            assert len(await client.embed(["x"] * 1500, model=MOODY)) == 1500
    assert sorted(len(texts) for texts in moody.requests) == [178, 661, 661]


async def test_an_error_names_the_text_by_its_place_among_all(embedder: str) -> None:
    texts = [f"text {index}" for index in range(200)]
    texts[134] = ""
    async with AsyncEmbeddingClient([embedder]) as client:
        with pytest.raises(InvalidArgument, match=r"inputs\[134\].text") as empty:
            await client.embed((text for text in texts), model=MINILM)
        assert (empty.value.field, empty.value.reason) == ("inputs[134].text", "INVALID_FIELD")
        with pytest.raises(InvalidArgument) as streamed:
            async for _ in client.embed_iter(texts, model=MINILM):
                pass
        assert streamed.value.field == "inputs[134].text"
        texts[134] = "a lone surrogate \ud800"
        with pytest.raises(InvalidArgument, match=r"inputs\[134\].text has a lone surrogate at character 17"):
            await client.embed(texts, model=MINILM)
        with pytest.raises(TypeError, match=r"inputs\[1\].text is a int"):
            await client.embed(["a", 5], model=MINILM)
        with pytest.raises(TypeError, match="a list of texts"):
            await client.embed("one text", model=MINILM)
        with pytest.raises(InvalidArgument) as uncounted:
            await client.count_tokens([*texts[:134], ""], model=MINILM)
        assert uncounted.value.field == "inputs[134].text"


async def test_replicas_of_different_spaces_are_refused(stack: AsyncExitStack) -> None:
    moody = MoodyServer()
    address = await serve(stack, moody)
    async with AsyncEmbeddingClient([address]) as client:
        stream = client.embed_iter(["a"] * 100, model=MOODY)
        await anext(stream)
        moody.fingerprint = "b" * 32
        with pytest.raises(FailedPrecondition, match="different vector spaces") as mixed:
            async for _ in stream:
                pass
    assert (mixed.value.reason, mixed.value.field) == ("UPSTREAM_CHANGED", "model")


class Read:
    """An endless corpus that knows how much of it was read, and from where."""

    def __init__(self) -> None:
        self.count = 0
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[str]:
        for index in itertools.count():
            self.count += 1
            self.threads.add(threading.get_ident())
            yield f"{index}"


async def test_a_stream_reads_no_further_than_its_window_and_closing_it_cancels(stack: AsyncExitStack) -> None:
    moody, corpus = MoodyServer(), Read()
    address = await serve(stack, moody)
    async with AsyncEmbeddingClient([address], ClientOptions(concurrent_batches=3)) as client:
        stream = client.embed_iter(corpus, model=MOODY)
        for _ in range(4):
            await anext(stream)
            await asyncio.sleep(0.05)  # the consumer is slow: nothing more is read or asked
        assert corpus.count <= 7 * (4 + 3) + 1
        assert moody.most_running <= 3
        await eventually(lambda: len(moody.requests) == 6, "those that are under way are not answered")
        moody.seconds = 1000.0
        for _ in range(2):
            await anext(stream)
        closing = asyncio.create_task(anext(stream))
        await eventually(lambda: moody.running == 3, "no more is asked")
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await stream.aclose()
        await eventually(lambda: (moody.running, moody.cancelled) == (0, 3), "the server works on")


async def test_an_asynchronous_corpus_is_read_as_well(stack: AsyncExitStack) -> None:
    async def corpus() -> AsyncIterator[str]:
        for index in range(30):
            await asyncio.sleep(0)
            yield f"{index}"

    async with AsyncEmbeddingClient([await serve(stack, MoodyServer())]) as client:
        check(await client.embed(corpus(), model=MOODY), [f"{index}" for index in range(30)])


async def test_without_asyncio_texts_are_read_on_the_callers_thread(stack: AsyncExitStack) -> None:
    address, corpus = await serve(stack, MoodyServer()), Read()

    def use() -> None:
        database = sqlite3.connect(":memory:")  # refuses another thread
        database.execute("create table t (text)")
        database.executemany("insert into t values (?)", [(f"{index}",) for index in range(300)])
        with EmbeddingClient([address]) as client:
            rows = (row[0] for row in database.execute("select text from t order by rowid"))
            read = np.concatenate([block.vectors for block in client.embed_iter(rows, model=MOODY)])
            np.testing.assert_array_equal(read, np.stack([hashed(f"{index}") for index in range(300)]))
            stream = client.embed_iter(corpus, model=MOODY)
            next(stream)
            stream.close()
            assert corpus.threads == {threading.get_ident()}
            assert corpus.count <= 64
            with pytest.raises(TypeError, match="a list of texts"):
                client.embed("one text", model=MOODY)
            with pytest.raises(ZeroDivisionError):  # the corpus' own failure reaches the caller
                client.embed((f"{1 // number}" for number in (1, 0)), model=MOODY)
        database.close()

    await asyncio.to_thread(use)


class StuckAfterOne(MoodyServer):
    """Answers the first batch of a corpus of numbers, and no other."""

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        if request.inputs[0].text != "0":
            self.running += 1
            await asyncio.sleep(3600)
        return await super().Embed(request, context)


async def test_closing_a_client_leaves_no_stream_that_waits(stack: AsyncExitStack) -> None:
    stuck = StuckAfterOne()
    address = await serve(stack, stuck)

    def use() -> None:
        with EmbeddingClient([address]) as client:
            left = client.embed_iter(Read(), model=MOODY)
            next(left)
            while not stuck.running:
                time.sleep(0.01)
        client.close()  # a second time
        with pytest.raises(RuntimeError, match="closed"):
            next(left)
        del left
        gc.collect()

    await asyncio.to_thread(use)


def test_errors_survive_pickling() -> None:
    error = ResourceExhausted("full", reason="OVERLOADED", field="inputs[3].text", retry_after=2.5)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ResourceExhausted
    assert (str(again), vars(again)) == (str(error), vars(error))


async def test_tracebacks_show_nothing_of_grpc(embedder: str) -> None:
    async with AsyncEmbeddingClient([embedder]) as client:
        with pytest.raises(ClientError) as caught:
            await client.embed([""], model=MINILM)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
