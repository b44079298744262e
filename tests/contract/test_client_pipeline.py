"""How the client cuts, sends, retries and joins, against a server that answers late, out of order and not always."""

import asyncio
import gc
import itertools
import pickle
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
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
    DeadlineExceeded,
    EmbeddingClient,
    EmbedResult,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    homes,
    retrying,
)
from embedscale.core import errors
from embedscale.servicekit.lifecycle import Application
from embedscale.servicekit.settings import ServerSettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from tests.conftest import MINILM, free_port, served
from tests.fakes.hash_engine import DIMENSIONS, hashed
from tests.fakes.moody_server import MOODY, MoodyServer, facts


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
    replicas = [MoodyServer(max_inputs=7), MoodyServer(max_inputs=7)]
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
        with pytest.raises(InvalidArgument, match=r"inputs\[134\].text has a lone surrogate"):
            await client.embed(texts, model=MINILM)
        with pytest.raises(TypeError, match=r"inputs\[1\].text is a int"):
            await client.embed(["a", 5], model=MINILM)
        with pytest.raises(TypeError, match="a list of texts"):
            await client.embed("one text", model=MINILM)
        with pytest.raises(InvalidArgument) as uncounted:
            await client.count_tokens([*texts[:134], ""], model=MINILM)
        assert uncounted.value.field == "inputs[134].text"


async def test_overload_is_waited_for_inside_the_deadline(stack: AsyncExitStack) -> None:
    moody = MoodyServer()
    moody.failures = [errors.Overloaded("full", retry_after=0.3)]
    address = await serve(stack, moody)
    async with AsyncEmbeddingClient([address]) as client:
        started = time.monotonic()
        check(await client.embed(["a"], model=MOODY, timeout=5), ["a"])
        assert 0.3 <= time.monotonic() - started < 2
        moody.failures = [errors.SpendingLimitReached("spent", retry_after=3600)]
        started = time.monotonic()
        with pytest.raises(ResourceExhausted) as spent:
            await client.embed(["a"], model=MOODY, timeout=5)
        assert time.monotonic() - started < 1
        assert (spent.value.reason, spent.value.retry_after) == ("SPENDING_LIMIT", 3600)


async def test_a_call_ends_at_its_deadline(stack: AsyncExitStack) -> None:
    moody = MoodyServer(seconds=1000.0)
    async with AsyncEmbeddingClient([await serve(stack, moody)]) as client:
        for call in (
            client.embed(["a"] * 20, model=MOODY, timeout=0.3),
            anext(client.embed_iter(["a"], model=MOODY, timeout=0.3)),
        ):
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded, match=r"in time from 127\.0\.0\.1:"):
                await call
            assert time.monotonic() - started < 2
        await asyncio.sleep(0.1)
        assert moody.running == 0


async def silence(stack: AsyncExitStack) -> str:
    """Address that takes connections and never answers."""

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(keep, "127.0.0.1", 0)
    stack.push_async_callback(silent.wait_closed)
    stack.callback(silent.close)
    return f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"


async def test_a_server_that_does_not_even_list_its_models_ends_at_the_deadline(stack: AsyncExitStack) -> None:
    async with AsyncEmbeddingClient([await silence(stack)]) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded) as late:
            await client.embed(["a"], model=MOODY, timeout=0.3)
        assert time.monotonic() - started < 2
    assert late.value.reason == "DEADLINE"


async def test_nobody_waits_for_an_address_that_never_answers_once_another_has_the_model(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "LIST_SECONDS", 2.0)
    monkeypatch.setattr(homes, "LOOK_AGAIN_SECONDS", 0.1)
    moody = MoodyServer()
    async with AsyncEmbeddingClient([await silence(stack), await serve(stack, moody)]) as client:
        await client.embed(["a"], model=MOODY)
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await client.embed(["b"], model=MOODY)
        assert time.monotonic() - started < 1
        await asyncio.sleep(0.1)
    assert moody.listed == 2


async def test_callers_at_once_look_for_a_model_once(stack: AsyncExitStack) -> None:
    moody = MoodyServer()
    async with AsyncEmbeddingClient([await serve(stack, moody)]) as client:
        await asyncio.gather(*(client.embed(["a"], model=MOODY) for _ in range(50)))
    assert moody.listed == 1


async def test_what_cannot_succeed_is_not_repeated(stack: AsyncExitStack) -> None:
    moody = MoodyServer()
    address = await serve(stack, moody)
    async with AsyncEmbeddingClient([address]) as client:
        moody.failures = [errors.UpstreamRefusedKey("bad key")] * 2
        with pytest.raises(FailedPrecondition):
            await client.embed(["a"], model=MOODY)
        assert len(moody.failures) == 1
    async with AsyncEmbeddingClient([address], ClientOptions(retries=0)) as impatient:
        moody.failures = [errors.Overloaded("full", retry_after=0.01)] * 2
        with pytest.raises(ResourceExhausted):
            await impatient.embed(["a"], model=MOODY)
        assert len(moody.failures) == 1


async def test_a_server_that_restarts_is_waited_for(stack: AsyncExitStack) -> None:
    port = free_port()
    async with AsyncExitStack() as first, AsyncEmbeddingClient([f"127.0.0.1:{port}"]) as client:
        await serve(first, MoodyServer(), port=port)
        check(await client.embed(["a"], model=MOODY), ["a"])
        await first.aclose()
        pending = asyncio.create_task(client.embed(["b"], model=MOODY))
        await asyncio.sleep(1)
        assert not pending.done()
        await serve(stack, MoodyServer(), port=port)
        check(await pending, ["b"])
    async with AsyncEmbeddingClient([f"127.0.0.1:{free_port()}"]) as client:  # a wrong address is told at once
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await client.embed(["a"], model=MOODY)
        assert time.monotonic() - started < 5


class Counting(MoodyServer):
    """Counts tokens, too."""

    async def CountTokens(self, request: pb.CountTokensRequest, context: object) -> pb.CountTokensResponse:
        return pb.CountTokensResponse(token_counts=[len(given.text) for given in request.inputs])


async def test_tokens_are_counted_by_whoever_answers(stack: AsyncExitStack) -> None:
    async with AsyncExitStack() as first:
        addresses = [await serve(first, Counting()), await serve(stack, Counting())]
        client = await stack.enter_async_context(AsyncEmbeddingClient(addresses))
        assert await client.count_tokens(["a"], model=MOODY) == [1]
    for _ in range(2):  # each of the two is asked in turn
        assert await client.count_tokens(["ab"] * 20, model=MOODY) == [2] * 20


class Silent(MoodyServer):
    """Takes the question for its models, and never answers."""

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits so long")


async def test_an_address_that_stays_silent_holds_up_the_first_call_alone(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "LIST_SECONDS", 3.0)
    monkeypatch.setattr(homes, "LOOK_AGAIN_SECONDS", 0.1)
    addresses = [await serve(stack, server) for server in (MoodyServer(), Silent())]
    async with AsyncEmbeddingClient(addresses) as client:
        check(await client.embed(["a"], model=MOODY), ["a"])
        await asyncio.sleep(0.2)  # it is time to look again
        started = time.monotonic()
        check(await client.embed(["b"], model=MOODY), ["b"])
        assert time.monotonic() - started < 2


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
        moody.seconds = 1000.0
        for _ in range(2):  # those are under way since before
            await anext(stream)
        closing = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.1)
        assert moody.running >= 1
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await stream.aclose()
        await asyncio.sleep(0.1)
        assert moody.running == 0
        assert moody.cancelled >= 1


async def test_an_asynchronous_corpus_is_read_as_well(stack: AsyncExitStack) -> None:
    async def corpus() -> AsyncIterator[str]:
        for index in range(30):
            await asyncio.sleep(0)
            yield f"{index}"

    async with AsyncEmbeddingClient([await serve(stack, MoodyServer())]) as client:
        check(await client.embed(corpus(), model=MOODY), [f"{index}" for index in range(30)])


async def test_without_asyncio_texts_are_read_on_the_callers_thread(stack: AsyncExitStack) -> None:
    moody, corpus = MoodyServer(), Read()
    address = await serve(stack, moody)

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
            left = client.embed_iter(corpus, model=MOODY)
            next(left)
            moody.seconds = 1000.0
            next(left)
        client.close()  # a second time
        with pytest.raises(RuntimeError, match="closed"):
            next(left)
        del left
        gc.collect()
        database.close()

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
