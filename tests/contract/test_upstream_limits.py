"""Limits of rate hold over replicas, waiting ends with the caller's deadline, and Redis may be away."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import grpc
import numpy as np
import pytest

from embedscale.core.embedding import InputType, Truncation
from embedscale.core.errors import DeadlineExceeded, UpstreamRateLimited
from embedscale.openai_proxy import shared_state
from embedscale.openai_proxy.limiter import SharedLimiter
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.servicekit.rate_limits import Limiter, LocalLimiter, buckets
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import RedisServer
from tests.contract.test_embedding_service import failure
from tests.contract.test_upstream_packing import embed, expected, proxied, retry_seconds
from tests.fakes.faulty_upstream import FaultyUpstream, running
from tests.unit.test_upstream_tokens import engine_of
from tests.waiting import eventually

MakeLimiter = Callable[[int, int], Limiter]


pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with running() as server:
        yield server


@pytest.fixture(params=["local", "redis", "no redis"])
def make_limiter(request: pytest.FixtureRequest, state: SharedState) -> MakeLimiter:
    """The same contract with Redis, and without: by design, and since none is there."""

    def make(requests: int, tokens: int) -> Limiter:
        limits = buckets(requests, tokens)
        shared = SharedLimiter("u", limits, SharedState(None) if request.param == "no redis" else state)
        return LocalLimiter(limits) if request.param == "local" else shared

    return make


async def opening(limiter: Limiter, tokens: int = 1) -> tuple[float, float]:
    """Earliest and latest time at which a reserved call may begin: the machine may hold up question and answer."""
    asked = time.monotonic()
    wait = await limiter.reserve(tokens, 1e6)
    return asked + wait, time.monotonic() + wait


def may_be_apart(first: tuple[float, float], later: tuple[float, float], seconds: float) -> bool:
    """Whether two calls may begin so many seconds apart, as far as is known of them."""
    return later[0] - first[1] - 0.01 <= seconds <= later[1] - first[0] + 0.01


async def test_no_minute_has_more_than_its_limit(make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(20, 0)
    openings = [await opening(limiter) for _ in range(200)]
    assert all(later[1] - first[0] >= 60 - 0.01 for first, later in zip(openings, openings[20:], strict=False))
    assert may_be_apart(openings[0], openings[-1], (200 - 2) / 0.3)  # two at once, the rest at nine tenths of the rate


async def test_tokens_are_limited_too_and_a_call_above_the_burst_waits_for_a_full_bucket(
    make_limiter: MakeLimiter,
) -> None:
    limiter = make_limiter(0, 6000)
    first = await opening(limiter, 3000)
    assert may_be_apart(first, await opening(limiter), (3001 - 600) / 90)


async def test_what_would_wait_too_long_is_not_reserved(make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(0, 60)
    first = await opening(limiter, 6)
    assert await limiter.reserve(6, 1.0) > 1
    assert may_be_apart(first, await opening(limiter, 6), 6 / 0.9)


async def test_a_pause_holds_everything_and_is_never_shortened(make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(0, 0)
    before = time.monotonic()
    await limiter.pause(5)
    paused = before, time.monotonic()
    await limiter.pause(1)
    assert may_be_apart(paused, await opening(limiter), 5)
    assert limiter.opens_at >= before + 5 - 0.01


async def test_a_pause_that_redis_did_not_hear_of_holds_here(
    state: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = SharedLimiter("u", buckets(60, 0), state)
    monkeypatch.setattr(state, "_passed_over_until", math.inf)
    before = time.monotonic()
    await limiter.pause(5)
    paused = before, time.monotonic()
    monkeypatch.setattr(state, "_passed_over_until", 0.0)
    assert may_be_apart(paused, await opening(limiter), 5)


async def test_replicas_share_one_limit(state: SharedState) -> None:
    limiters = [SharedLimiter("u", buckets(20, 0), state) for _ in range(3)]
    before = time.monotonic()
    assert [await limiter.reserve(1, 1e6) for limiter in limiters[:2]] == [0, 0]
    started = before, time.monotonic()
    assert may_be_apart(started, await opening(limiters[2]), 1 / 0.3)
    await limiters[0].pause(9)
    assert (await opening(limiters[1]))[1] >= started[1] + 9 - 0.01
    assert await SharedLimiter("another", buckets(20, 0), state).reserve(1, 1e6) == 0


async def test_a_limiter_goes_on_alone_when_redis_dies(state: SharedState, own_redis: RedisServer) -> None:
    limiter = SharedLimiter("u", buckets(20, 0), state)
    await limiter.reserve(1, 1e6)
    own_redis.stop()
    before = time.monotonic()
    assert [await limiter.reserve(1, 1e6) for _ in range(2)] == [0, 0]
    started = before, time.monotonic()
    assert may_be_apart(started, await opening(limiter), 1 / 0.3)
    assert time.monotonic() - before < shared_state._PATIENCE_SECONDS  # nobody waits for Redis


async def test_a_request_waits_for_its_turn_within_its_deadline_and_is_refused_at_once_beyond(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"requests_per_minute": 20})
    stub = EmbeddingServiceStub(channel_to(address))
    await embed(stub, ["first"])  # of two at once: the other was asked before the proxy was ready
    started = time.monotonic()
    code, seconds = await retry_seconds(embed(stub, ["too late"], 1.5))
    assert code == "RESOURCE_EXHAUSTED"
    assert 1.5 < seconds <= 1 / 0.3
    np.testing.assert_array_equal(await embed(stub, ["in time"], 30), expected(["in time"]))
    assert time.monotonic() - started >= seconds - 0.01


@pytest.mark.parametrize(("opens_in", "error"), [(-0.5, DeadlineExceeded), (5, UpstreamRateLimited)])
async def test_a_call_whose_time_is_over_is_refused_for_limits_only_while_they_hold(
    upstream: FaultyUpstream, opens_in: float, error: type[Exception]
) -> None:
    engine = engine_of(upstream.url, None, 0)
    now = time.monotonic()
    engine._calls.limiter.opens_at = now + opens_in
    with pytest.raises(error):
        await engine.embed([engine.prepare("late", InputType.QUERY)], Truncation.END, now - 1)
    assert upstream.calls == 0
    await engine.close()


@pytest.mark.parametrize(("header", "value"), [("Retry-After", "3"), ("x-ratelimit-reset-tokens", "2900ms")])
async def test_after_a_429_everybody_waits_as_long_as_the_upstream_says(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable, header: str, value: str
) -> None:
    address = await proxied(stack, upstream, {})
    stub = EmbeddingServiceStub(channel_to(address))
    upstream.faults, upstream.answer_headers = ["http429"], {header: value, "x-ratelimit-remaining-tokens": "0"}
    started = time.monotonic()
    first = asyncio.create_task(embed(stub, ["a"], 30))
    await eventually(lambda: upstream.calls == 1, "the upstream is not asked")
    await asyncio.sleep(0.2)  # in which the proxy hears the answer
    upstream.answer_headers = {}
    code, seconds = await retry_seconds(embed(stub, ["impatient"], 1))
    assert code == "RESOURCE_EXHAUSTED"
    assert 1 < seconds <= 3
    await asyncio.gather(first, embed(stub, ["b"], 30))
    assert time.monotonic() - started >= 2.9
    assert upstream.calls == 3


async def test_after_the_last_request_of_a_window_the_next_waits_for_its_reset(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {})
    stub = EmbeddingServiceStub(channel_to(address))
    upstream.answer_headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "800ms"}
    started = time.monotonic()
    await embed(stub, ["a"])
    upstream.answer_headers = {}
    await embed(stub, ["b"], 30)
    assert time.monotonic() - started >= 0.8


async def test_a_storm_of_429_ends_with_the_retries_and_one_within_them_is_weathered(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {}, upstream_retries=2)
    stub, texts = EmbeddingServiceStub(channel_to(address)), [f"text {number}" for number in range(64)]
    upstream.faults = ["http429", "http503"]
    np.testing.assert_array_equal(await embed(stub, texts), expected(texts))
    assert upstream.calls == 3
    upstream.fault = "http429"
    assert (await failure(embed(stub, texts)))[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED")
    assert upstream.calls == 6


async def test_a_failure_is_told_at_once_if_no_further_try_is_left_in_time(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {})
    stub, upstream.fault = EmbeddingServiceStub(channel_to(address)), "http503 30"
    started = time.monotonic()
    found = await failure(embed(stub, ["a"], 20))
    assert found[:2] == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert time.monotonic() - started < 10
    assert upstream.calls == 1
