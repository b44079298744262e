"""Texts of many callers share upstream calls, and nobody suffers from whom the call was shared with."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from embedscale.client import AsyncEmbeddingClient
from embedscale.embedding.catalog import Catalog
from embedscale.openai_proxy import bootstrap
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import served
from tests.contract.test_embedding_service import failure
from tests.fakes.faulty_upstream import DIMENSIONS, FaultyUpstream, running, vector
from tests.waiting import eventually

MODEL = {
    "engine": "openai",
    "upstream": "fake",
    "upstream_model": "upstream-model",
    "dimensions": DIMENSIONS,
    "max_tokens": 0,
}
TEXTS = [f"text {number}" for number in range(10_000)]


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with running() as server:
        yield server


async def proxied(
    stack: AsyncExitStack,
    upstream: FaultyUpstream,
    limits: dict,
    price_per_million_tokens: float = 0,
    **options: object,
) -> str:
    """Address of a proxy in front of the fake, which has been asked nothing since the proxy was ready."""
    model = MODEL | {"price_per_million_tokens": price_per_million_tokens}
    catalog = Catalog.model_validate({"models": {"remote": model}, "upstreams": {"fake": limits}})
    given = {"upstream_timeout_seconds": 20, "cache_memory_bytes": 0, "drain_seconds": 0, "max_queued_inputs": 10**6}
    settings = ProxySettings(upstreams={"fake": upstream.url}, **given | options)
    address = await served(stack, bootstrap.build(settings, catalog), settings)
    upstream.asked.clear()
    return address


async def embed(stub: EmbeddingServiceStub, texts: Sequence[str], seconds: float | None = None) -> np.ndarray:
    request = pb.EmbedRequest(model="remote", inputs=[pb.Input(text=text) for text in texts])
    response = await stub.Embed(request, timeout=seconds)
    return np.frombuffer(response.embeddings, "<f4").reshape(-1, DIMENSIONS)


async def retry_seconds(call: Awaitable[object]) -> tuple[str, float]:
    """Status of a call that fails, and in how many seconds it may be made again."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    delay = RetryInfo()
    assert any(packed.Unpack(delay) for packed in rpc_status.from_call(caught.value).details)
    return caught.value.code().name, delay.retry_delay.ToTimedelta().total_seconds()


def expected(texts: Sequence[str]) -> np.ndarray:
    return np.array([vector(text) for text in texts])


@pytest.mark.parametrize("batch", [10, 64, 313])
async def test_ten_thousand_texts_of_many_clients_take_hardly_more_calls_than_they_must(
    stack: AsyncExitStack, upstream: FaultyUpstream, batch: int
) -> None:
    limits = {"inputs_per_call": 100, "tokens_per_call": 10**6}
    address = await proxied(stack, upstream, limits, upstream_packing_seconds=0.01)

    async def one_client(share: Sequence[str]) -> None:
        async with AsyncEmbeddingClient([address]) as client:
            blocks = [share[start : start + batch] for start in range(0, len(share), batch)]
            answers = await asyncio.gather(*(client.embed(block, model="remote") for block in blocks))
        np.testing.assert_array_equal(np.concatenate([answer.vectors for answer in answers]), expected(share))

    await asyncio.gather(*(one_client(TEXTS[client::32]) for client in range(32)))
    assert sorted(text for call in upstream.asked for text in call) == sorted(TEXTS)
    assert upstream.calls <= 1.1 * len(TEXTS) / 100


async def test_large_calls_are_filled_by_requests_that_come_at_once(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    limits = {"inputs_per_call": 2048, "tokens_per_call": 300_000}
    address = await proxied(stack, upstream, limits, upstream_packing_seconds=0.5)
    stubs = [EmbeddingServiceStub(channel_to(address)) for _ in range(32)]
    rows = await asyncio.gather(*(embed(stub, TEXTS[client::32]) for client, stub in enumerate(stubs)))
    for client in range(32):
        np.testing.assert_array_equal(rows[client], expected(TEXTS[client::32]))
    assert upstream.calls <= 1.1 * math.ceil(len(TEXTS) / 2048)


async def under_way(upstream: FaultyUpstream) -> None:
    """Waits for the first call; those after it will be answered at once."""
    await eventually(lambda: upstream.calls, "the upstream is not asked")
    await asyncio.sleep(0.1)  # until it has looked how long it takes
    upstream.seconds = 0.0


async def test_texts_that_wait_for_a_slot_leave_together_even_without_a_window(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"concurrent_calls": 1})
    stub, upstream.seconds = EmbeddingServiceStub(channel_to(address)), 1.0
    first = asyncio.create_task(embed(stub, ["first"]))
    await under_way(upstream)
    others = [f"other {number}" for number in range(20)]
    await asyncio.gather(first, *(embed(stub, [text]) for text in others))
    assert [len(call) for call in upstream.asked] == [1, 20]


async def test_a_lone_text_is_not_held_up_without_a_window(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {})
    stub = EmbeddingServiceStub(channel_to(address))
    await asyncio.gather(embed(stub, ["a"]), embed(stub, ["b"]))
    assert len(upstream.asked) <= 2
    seconds = []
    for text in "cdefg":
        started = time.perf_counter()
        await embed(stub, [text])
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.2  # the machine may hold up some of them


async def test_what_nobody_waits_for_any_more_is_not_sent(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"concurrent_calls": 1})
    stub, upstream.seconds = EmbeddingServiceStub(channel_to(address)), 1.0
    first = asyncio.create_task(embed(stub, ["first"]))
    await under_way(upstream)
    left = asyncio.create_task(embed(stub, ["left"], 0.1))
    stays = asyncio.create_task(embed(stub, ["stays"]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await left
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.gather(first, stays)
    assert upstream.asked == [["first"], ["stays"]]


async def test_a_refused_text_is_named_and_the_others_are_embedded_and_kept(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"inputs_per_call": 500}, cache_memory_bytes=2**20)
    stub = EmbeddingServiceStub(channel_to(address))
    texts = [f"text {number}" for number in range(200)]
    upstream.refused_texts = {"text 2"}
    found = await failure(embed(stub, texts))
    assert found[:3] == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_REJECTED", "inputs[2].text")
    assert upstream.calls <= 1 + 2 * math.ceil(math.log2(200))
    before = upstream.calls
    texts[2] = "mended"
    np.testing.assert_array_equal(await embed(stub, texts), expected(texts))
    assert upstream.asked[before:] == [["mended"]]


async def test_other_callers_do_not_suffer_from_a_refused_text(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"inputs_per_call": 500}, upstream_packing_seconds=0.05)
    stub, upstream.refused_texts = EmbeddingServiceStub(channel_to(address)), {"bad"}
    requests = [[f"{client} {number}" for number in range(10)] for client in range(12)]
    requests[7][5] = "bad"
    answers = await asyncio.gather(*(embed(stub, texts) for texts in requests), return_exceptions=True)
    assert len(upstream.asked[0]) == 120
    for client, (texts, rows) in enumerate(zip(requests, answers, strict=True)):
        if client == 7:
            assert isinstance(rows, grpc.aio.AioRpcError)
            assert "inputs[5].text" in rows.details()
        else:
            np.testing.assert_array_equal(rows, expected(texts))
    assert upstream.calls <= 1 + 2 * math.ceil(math.log2(120))


async def test_other_callers_do_not_suffer_from_a_caller_whose_texts_are_all_refused(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"inputs_per_call": 500}, upstream_packing_seconds=0.05)
    bad = [f"bad {number}" for number in range(200)]
    also_bad = [f"also bad {number}" for number in range(9)]
    stub, upstream.refused_texts = EmbeddingServiceStub(channel_to(address)), {*bad, *also_bad}
    requests = [bad, *([f"{client} {number}" for number in range(10)] for client in range(3)), ["good", *also_bad]]
    answers = await asyncio.gather(*(embed(stub, texts) for texts in requests), return_exceptions=True)
    assert len(upstream.asked[0]) == 240
    for texts, rows in zip(requests[1:4], answers[1:4], strict=True):
        np.testing.assert_array_equal(rows, expected(texts))
    assert [answers[0].code(), answers[4].code()] == [grpc.StatusCode.INVALID_ARGUMENT] * 2
    assert upstream.calls <= 1 + 4 * math.ceil(math.log2(240)) + len(requests)


async def test_a_caller_of_many_refused_texts_hears_of_one_by_name(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"inputs_per_call": 500})
    stub, upstream.refused_texts = (
        EmbeddingServiceStub(channel_to(address)),
        {f"text {row}" for row in range(0, 100, 9)},
    )
    found = await failure(embed(stub, [f"text {number}" for number in range(200)]))
    assert found[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_REJECTED")
    assert int(found[2].removeprefix("inputs[").removesuffix("].text")) % 9 == 0


async def test_a_call_that_is_refused_as_a_whole_is_not_taken_to_pieces(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"inputs_per_call": 500})
    stub, upstream.fault = EmbeddingServiceStub(channel_to(address)), "http400"
    found = await failure(embed(stub, [f"text {number}" for number in range(200)]))
    assert found[:3] == (grpc.StatusCode.INVALID_ARGUMENT, "UPSTREAM_REJECTED", "")
    assert upstream.calls <= 5


async def test_a_call_that_is_too_large_is_made_in_parts(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"inputs_per_call": 500})
    stub, upstream.most_texts = EmbeddingServiceStub(channel_to(address)), 70
    texts = [f"text {number}" for number in range(200)]
    np.testing.assert_array_equal(await embed(stub, texts), expected(texts))
    assert upstream.calls == 7
