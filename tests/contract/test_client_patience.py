"""How long the client waits, and for what: overload, deadlines, restarts, and addresses that say nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from embedscale.client import (
    AsyncEmbeddingClient,
    ClientOptions,
    DeadlineExceeded,
    FailedPrecondition,
    ResourceExhausted,
    homes,
)
from embedscale.core import errors
from embedscale.v1 import embedding_service_pb2 as pb
from tests.conftest import free_port
from tests.contract.test_client_pipeline import check, serve
from tests.fakes.moody_server import MOODY, MoodyServer
from tests.waiting import eventually


async def test_overload_is_waited_for_inside_the_deadline(stack: AsyncExitStack) -> None:
    moody = MoodyServer()
    moody.failures = [errors.Overloaded("full", retry_after=0.3)]
    address = await serve(stack, moody)
    async with AsyncEmbeddingClient([address]) as client:
        started = time.monotonic()
        check(await client.embed(["a"], model=MOODY, timeout=60), ["a"])
        assert 0.3 <= time.monotonic() - started < 5
        moody.failures = [errors.SpendingLimitReached("spent", retry_after=3600)]
        started = time.monotonic()
        with pytest.raises(ResourceExhausted) as spent:
            await client.embed(["a"], model=MOODY, timeout=60)
        assert time.monotonic() - started < 5
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
            assert time.monotonic() - started < 20
        await eventually(lambda: moody.running == 0, "the server works on")


async def accepting(stack: AsyncExitStack) -> str:
    """Address that takes connections, and says nothing on them."""

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    stack.push_async_callback(server.wait_closed)
    stack.callback(server.close)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Silent(MoodyServer):
    """Takes the question for its models, and never answers."""

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits so long")


async def listening(stack: AsyncExitStack) -> str:
    """Address of a server that takes the question for its models, and never answers."""
    return await serve(stack, Silent())


async def test_a_server_that_does_not_even_list_its_models_ends_at_the_deadline(stack: AsyncExitStack) -> None:
    async with AsyncEmbeddingClient([await accepting(stack)]) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded) as late:
            await client.embed(["a"], model=MOODY, timeout=0.3)
        assert time.monotonic() - started < homes.LIST_SECONDS / 2
    assert late.value.reason == "DEADLINE"


@pytest.mark.parametrize("silent", [accepting, listening])
async def test_an_address_that_stays_silent_holds_up_the_first_call_alone(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, silent: Callable[[AsyncExitStack], Awaitable[str]]
) -> None:
    moody = MoodyServer()
    monkeypatch.setattr(homes, "LIST_SECONDS", 1.0)
    monkeypatch.setattr(homes, "LOOK_AGAIN_SECONDS", 0.1)
    async with AsyncEmbeddingClient([await silent(stack), await serve(stack, moody)]) as client:
        check(await client.embed(["a"], model=MOODY), ["a"])
        monkeypatch.setattr(homes, "LIST_SECONDS", 60.0)
        await asyncio.sleep(0.2)  # it is time to look again
        started = time.monotonic()
        check(await client.embed(["b"], model=MOODY), ["b"])
        assert time.monotonic() - started < 20
        await eventually(lambda: moody.listed == 2, "nobody looks again")


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
        await asyncio.sleep(0.5)
        assert not pending.done()
        await serve(stack, MoodyServer(), port=port)
        check(await pending, ["b"])


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
