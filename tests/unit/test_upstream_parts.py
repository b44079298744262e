"""The proxy's small parts: headers, pauses, bisection and packing."""

import asyncio
import email.utils
import math
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.cli.local_cluster import free_port
from embedscale.core.errors import DeadlineExceeded, UpstreamRejected
from embedscale.embedding.catalog import RemoteModel, UpstreamEntry, load_catalog
from embedscale.openai_proxy.bisection import isolate
from embedscale.openai_proxy.orders import Order, QueuedText
from embedscale.openai_proxy.packer import Packer
from embedscale.openai_proxy.upstream import TextsRefused, Upstream
from embedscale.servicekit.openai_faults import TryAgain
from embedscale.servicekit.rate_headers import LONGEST_SECONDS, exhausted, retry_after
from embedscale.servicekit.retries import Retries
from tests.fakes.faulty_upstream import running

REFUSAL = UpstreamRejected("refused")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e99"}, LONGEST_SECONDS),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
    ],
)
def test_retry_after_is_seconds_or_milliseconds(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after({"retry-after": date}) == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("20ms", 0.02), ("1s", 1), ("6m0s", 360), ("1m2.5s", 62.5), ("1h0m1s", 3600), ("15", 15), ("", None), ("x", None)],
)
def test_a_reset_is_a_duration(reset: str, seconds: float | None) -> None:
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": reset}
    assert exhausted(headers) == (None if seconds is None else pytest.approx(seconds))


def test_only_what_is_used_up_is_waited_for() -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "9s"}
    assert exhausted(headers) is None
    assert exhausted(headers | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1s"}) == 1
    assert exhausted({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": str(time.time() + 9)}) == (
        pytest.approx(9, abs=1)
    )


@given(st.text("0123456789.+-:, hmsGMTonJa²é\0", max_size=30))
def test_any_header_is_a_pause_of_an_hour_at_most_or_none(said: str) -> None:
    used_up = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": said}
    for pause in (retry_after({"retry-after": said}), retry_after({"retry-after-ms": said}), exhausted(used_up)):
        assert pause is None or 0 <= pause <= LONGEST_SECONDS


def test_pauses_have_full_jitter_and_end() -> None:
    retries = Retries(3, first_seconds=1, longest_seconds=3)
    for tries, longest in ((1, 1), (2, 2), (3, 3)):
        pauses = [retries.pause(tries, None) or 0.0 for _ in range(500)]
        assert max(pauses) <= longest
        assert min(pauses) < 0.05 * longest
        assert max(pauses) > 0.95 * longest
    assert retries.pause(2, 17.0) == 17
    assert retries.pause(4, None) is None
    assert retries.pause(4, 17.0) is None


def queued(order: Order, texts: Sequence[str], tokens: int = 1) -> list[QueuedText]:
    return [QueuedText(text, tokens, order, position) for position, text in enumerate(texts)]


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=3))
@settings(deadline=None, max_examples=60)
def test_refused_texts_are_found_with_few_calls(count: int, bad: set[int]) -> None:
    bad = {position for position in bad if position < count}

    async def run() -> tuple[set[int], set[int], int]:
        order, calls, filled = Order(count, math.inf), 0, set[int]()

        async def fill(texts: Sequence[QueuedText]) -> None:
            nonlocal calls
            calls += 1
            if any(text.position in bad for text in texts):
                raise TextsRefused(REFUSAL)
            filled.update(text.position for text in texts)

        await isolate(queued(order, ["t"] * count), fill, REFUSAL)
        if order.done.done():
            order.done.exception()
        return filled, order.refused, calls

    filled, refused, calls = asyncio.run(run())
    levels = (count - 1).bit_length()
    assert calls <= 4 * levels
    assert not filled & bad
    if len(bad) <= 1 and count > 1:
        assert calls <= 2 * levels
        assert refused == bad
        assert filled == set(range(count)) - bad


limits_of_calls = st.builds(UpstreamEntry, inputs_per_call=st.integers(1, 20), tokens_per_call=st.integers(1, 50))


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=30), max_size=8), limits_of_calls)
@settings(deadline=None, max_examples=60)
def test_calls_are_bounded_full_and_in_order(requests: list[list[int]], limits: UpstreamEntry) -> None:
    async def run() -> list[list[QueuedText]]:
        calls: list[list[QueuedText]] = []

        async def send(texts: Sequence[QueuedText]) -> None:
            calls.append(list(texts))
            await asyncio.sleep(0)

        packer = Packer(send, asyncio.Semaphore(2), limits, 0.0)
        for number, sizes in enumerate(requests):
            order = Order(len(sizes), math.inf)
            packer.add([QueuedText(str(number), size, order, row) for row, size in enumerate(sizes)])
        while sum(map(len, calls)) < sum(map(len, requests)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await packer.close()
        return calls

    calls = asyncio.run(run())
    sent = [(text.text, text.position) for call in calls for text in call]
    assert sent == [(str(number), row) for number, sizes in enumerate(requests) for row in range(len(sizes))]
    for call in calls:
        assert len(call) <= limits.inputs_per_call
        assert len(call) == 1 or sum(text.tokens for text in call) <= limits.tokens_per_call
    for call, following in pairwise(calls):
        full = len(call) == limits.inputs_per_call
        assert full or sum(text.tokens for text in call) + following[0].tokens > limits.tokens_per_call


async def test_a_call_whose_callers_have_all_left_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def send(texts: Sequence[QueuedText]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    slots = asyncio.Semaphore(1)
    packer = Packer(send, slots, UpstreamEntry(), 0.0)
    one, two = Order(1, math.inf), Order(1, math.inf)
    packer.add([*queued(one, ["a"]), *queued(two, ["b"])])
    await asyncio.sleep(0.01)
    one.done.cancel()
    await asyncio.sleep(0.01)
    assert not cancelled.is_set()
    two.done.cancel()
    await asyncio.wait_for(cancelled.wait(), 60)
    await asyncio.wait_for(slots.acquire(), 60)


async def test_a_call_that_never_reached_the_upstream_is_known_to_be_unsent() -> None:
    model = load_catalog().models["text-embedding-3-small"]
    assert isinstance(model, RemoteModel)
    upstream = Upstream("nobody", f"http://127.0.0.1:{free_port()}/v1", "key", timeout_seconds=5)
    with pytest.raises(TryAgain, match="cannot be reached") as caught:
        await upstream.embed("text-embedding-3-small", ["a"], model, 5)
    await upstream.close()
    assert caught.value.refused


@pytest.mark.parametrize(("call", "caller", "error"), [(5, 0.05, DeadlineExceeded), (0.05, 5, TryAgain)])
async def test_the_end_of_the_callers_time_is_no_failure_of_the_upstream(
    call: float, caller: float, error: type[Exception]
) -> None:
    model = load_catalog().models["text-embedding-3-small"]
    assert isinstance(model, RemoteModel)
    with running() as server:
        server.seconds = 0.5
        upstream = Upstream("slow", server.url, "key", timeout_seconds=call)
        with pytest.raises(error):
            await upstream.embed("text-embedding-3-small", ["a"], model, caller)
        await upstream.close()
