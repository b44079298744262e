"""Limits of rate and spending hold over replicas, waiting ends with the caller's deadline, and Redis may be away."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status
from prometheus_client import REGISTRY

from embedscale.client import AsyncEvaluationClient
from embedscale.core.errors import SpendingLimitReached
from embedscale.embedding.redis_store import RedisStore
from embedscale.evaluator import bootstrap as evaluator_bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_proxy.limiter import SharedLimiter
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.openai_proxy.spending import Spending
from embedscale.servicekit.rate_limits import Limiter, LocalLimiter, buckets
from embedscale.servicekit.redis_url import parse_redis_url
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import evaluation_service_pb2 as evaluation_pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import RedisServer, served
from tests.contract.conftest import finished
from tests.contract.test_embedding_service import failure
from tests.contract.test_upstream_packing import embed, expected, proxied
from tests.fakes.faulty_upstream import FaultyUpstream, running

MakeLimiter = Callable[[int, int], Limiter]


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with running() as server:
        yield server


@pytest.fixture
async def state(stack: AsyncExitStack, own_redis: RedisServer) -> SharedState:
    made = SharedState(RedisStore(parse_redis_url(own_redis.url)))
    stack.push_async_callback(made.close)
    return made


@pytest.fixture(params=["local", "redis", "no redis"])
def make_limiter(request: pytest.FixtureRequest, state: SharedState) -> MakeLimiter:
    """The same contract with Redis, and without: by design, and since none is there."""

    def make(requests: int, tokens: int) -> Limiter:
        limits = buckets(requests, tokens)
        shared = SharedLimiter("u", limits, SharedState(None) if request.param == "no redis" else state)
        return LocalLimiter(limits) if request.param == "local" else shared

    return make


async def retry_seconds(call: object) -> tuple[str, float]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    delay = RetryInfo()
    assert any(packed.Unpack(delay) for packed in rpc_status.from_call(caught.value).details)
    return caught.value.code().name, delay.retry_delay.ToTimedelta().total_seconds()


async def test_no_minute_has_more_than_its_limit(make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(60, 0)
    starts = sorted([await limiter.reserve(1, 1e6) for _ in range(200)])
    assert starts[5] <= 0.01 < starts[6]
    assert all(later - first >= 60 - 0.5 for first, later in zip(starts, starts[60:], strict=False))
    assert starts[-1] == pytest.approx((200 - 6) / 0.9, abs=1.5)


async def test_tokens_are_limited_too_and_a_call_above_the_burst_waits_for_a_full_bucket(
    make_limiter: MakeLimiter,
) -> None:
    limiter = make_limiter(0, 6000)
    assert await limiter.reserve(3000, 1e6) == 0
    assert await limiter.reserve(1, 1e6) == pytest.approx(3000 / 90 - 600 / 90, abs=0.5)


async def test_what_would_wait_too_long_is_not_reserved(make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(0, 600)
    assert await limiter.reserve(60, 0) == 0
    first = await limiter.reserve(60, 1.0)
    assert first > 1
    assert await limiter.reserve(60, 1e6) == pytest.approx(first, abs=0.3)


async def test_a_pause_holds_everything_and_is_never_shortened(make_limiter: MakeLimiter) -> None:
    limiter = make_limiter(0, 0)
    await limiter.pause(5)
    await limiter.pause(1)
    assert await limiter.reserve(1, 1e6) == pytest.approx(5, abs=0.3)
    assert limiter.opens_at > time.monotonic() + 4


async def test_a_pause_that_redis_did_not_hear_of_holds_here(
    state: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = SharedLimiter("u", buckets(60, 0), state)
    monkeypatch.setattr(state, "_passed_over_until", math.inf)
    await limiter.pause(5)
    monkeypatch.setattr(state, "_passed_over_until", 0.0)
    assert await limiter.reserve(1, 1e6) == pytest.approx(5, abs=0.3)


async def test_replicas_share_one_limit(state: SharedState) -> None:
    limiters = [SharedLimiter("u", buckets(60, 0), state) for _ in range(3)]
    waits = [await limiter.reserve(1, 1e6) for limiter in limiters for _ in range(4)]
    assert sum(wait <= 0.01 for wait in waits) == 6
    await limiters[0].pause(9)
    assert await limiters[1].reserve(1, 1e6) > 8.5
    assert await SharedLimiter("another", buckets(60, 0), state).reserve(1, 1e6) == 0


async def test_a_limiter_goes_on_alone_when_redis_dies(state: SharedState, own_redis: RedisServer) -> None:
    limiter = SharedLimiter("u", buckets(60, 0), state)
    await limiter.reserve(1, 1e6)
    own_redis.stop()
    started = time.perf_counter()
    waits = [await limiter.reserve(1, 1e6) for _ in range(8)]
    assert time.perf_counter() - started < 1
    assert sum(wait <= 0.01 for wait in waits) == 6


async def test_spending_is_shared_and_ends_with_the_limit(state: SharedState, own_redis: RedisServer) -> None:
    one, two = Spending("u", 1.0, state), Spending("u", 1.0, state)
    day = await one.reserve(0.6)
    with pytest.raises(SpendingLimitReached) as caught:
        await two.reserve(0.6)
    assert 0 < caught.value.retry_after <= 86400
    await one.settle(day, 0.6, 0.1)
    await two.reserve(0.6)
    assert day == datetime.now(UTC).date().isoformat()
    assert int(own_redis.client.get(f"es1-spent:{{u}}:{day}")) == 700_000_000
    own_redis.stop()
    await two.reserve(0.3)
    with pytest.raises(SpendingLimitReached):
        await two.reserve(0.1)


async def test_a_request_waits_for_its_turn_within_its_deadline_and_is_refused_at_once_beyond(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {"requests_per_minute": 60})
    stub = EmbeddingServiceStub(channel_to(address))
    for number in range(6):
        await embed(stub, [str(number)])
    started = time.perf_counter()
    code, seconds = await retry_seconds(embed(stub, ["too late"], 0.5))
    assert code == "RESOURCE_EXHAUSTED"
    assert 0 < seconds < 1.3
    assert time.perf_counter() - started < 0.4
    np.testing.assert_array_equal(await embed(stub, ["in time"], 10), expected(["in time"]))
    assert 0.3 < time.perf_counter() - started < 3


@pytest.mark.parametrize(
    ("header", "value"), [("Retry-After", "1"), ("retry-after-ms", "900"), ("x-ratelimit-reset-tokens", "900ms")]
)
async def test_after_a_429_everybody_waits_as_long_as_the_upstream_says(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable, header: str, value: str
) -> None:
    address = await proxied(stack, upstream, {})
    stub = EmbeddingServiceStub(channel_to(address))
    upstream.faults, upstream.answer_headers = ["http429"], {header: value, "x-ratelimit-remaining-tokens": "0"}
    started = time.perf_counter()
    first = asyncio.create_task(embed(stub, ["a"], 10))
    await asyncio.sleep(0.3)
    upstream.answer_headers = {}
    code, seconds = await retry_seconds(embed(stub, ["impatient"], 0.3))
    assert code == "RESOURCE_EXHAUSTED"
    assert 0.3 < seconds <= 1
    await asyncio.gather(first, embed(stub, ["b"], 10))
    assert 0.85 < time.perf_counter() - started < 3
    assert upstream.calls == 3


async def test_after_the_last_request_of_a_window_the_next_waits_for_its_reset(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable
) -> None:
    address = await proxied(stack, upstream, {})
    stub = EmbeddingServiceStub(channel_to(address))
    upstream.answer_headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "800ms"}
    await embed(stub, ["a"])
    upstream.answer_headers = {}
    started = time.perf_counter()
    await embed(stub, ["b"], 10)
    assert 0.6 < time.perf_counter() - started < 3


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
    started = time.perf_counter()
    found = await failure(embed(stub, ["a"], 5))
    assert found[:2] == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert time.perf_counter() - started < 1
    assert upstream.calls == 1


def dollars() -> float:
    return REGISTRY.get_sample_value("embedscale_upstream_dollars_total", {"model": "remote"})


async def test_cost_is_in_the_answer_and_in_the_metrics_and_spending_ends_with_the_limit(
    stack: AsyncExitStack, upstream: FaultyUpstream, channel_to: Callable, own_redis: RedisServer
) -> None:
    limits = {"dollars_per_day": 0.05}
    address = await proxied(stack, upstream, limits, price_per_million_tokens=1000.0, redis_url=own_redis.url)
    stub = EmbeddingServiceStub(channel_to(address))
    before = dollars()
    request = pb.EmbedRequest(model="remote", inputs=[pb.Input(text=text) for text in "abcdefghij"])
    response = await stub.Embed(request)
    assert (response.tokens_used, response.cost) == (10, pytest.approx(0.01))
    assert dollars() - before == pytest.approx(0.01)
    again = await stub.Embed(request)
    assert (again.tokens_used, again.cost) == (0, 0)
    calls = upstream.calls
    found = await failure(embed(stub, [f"text {number}" for number in range(100)]))
    assert found[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SPENDING_LIMIT")
    assert upstream.calls == calls


@pytest.mark.parametrize(
    ("fault", "charged"),
    [
        ("http429", 0),
        ("http500", 0),
        ("http400", 0),
        ("http401", 0),
        ("half", 1),
        ("reset", 1),
        ("hang", 1),
        ("html", 1),
    ],
)
async def test_what_an_upstream_may_have_computed_counts_as_spent(
    stack: AsyncExitStack,
    upstream: FaultyUpstream,
    channel_to: Callable,
    own_redis: RedisServer,
    fault: str,
    charged: int,
) -> None:
    options = {"redis_url": own_redis.url, "upstream_retries": 0, "upstream_timeout_seconds": 1}
    address = await proxied(stack, upstream, {"dollars_per_day": 1}, price_per_million_tokens=1000.0, **options)
    (key,), upstream.fault = own_redis.client.keys("es1-spent:*"), fault
    before = int(own_redis.client.get(key)), dollars()
    await failure(embed(EmbeddingServiceStub(channel_to(address)), ["a"]))
    assert int(own_redis.client.get(key)) - before[0] == charged * 1_000_000
    assert dollars() - before[1] == pytest.approx(charged * 0.001)


async def test_a_caller_who_gives_up_takes_nothing_along_that_redis_was_to_be_told(
    state: SharedState, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = Spending("u", 1.0, state)
    monkeypatch.setattr(state, "_passed_over_until", math.inf)
    day = await spending.reserve(0.6)
    monkeypatch.setattr(state, "_passed_over_until", 0.0)
    own_redis.client.client_pause(100)
    reserving = asyncio.create_task(spending.reserve(0.1))
    await asyncio.sleep(0.03)
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    await spending.settle(day, 0.6, 0.5)
    assert int(own_redis.client.get(f"es1-spent:{{u}}:{day}")) == 500_000_000


async def test_what_is_spent_while_redis_is_away_is_told_to_it_afterwards(
    state: SharedState, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = Spending("u", 1.0, state)
    await spending.reserve(0.1)
    monkeypatch.setattr(state, "_passed_over_until", math.inf)
    day = await spending.reserve(0.6)
    monkeypatch.setattr(state, "_passed_over_until", 0.0)
    await spending.settle(day, 0.6, 0.5)
    assert int(own_redis.client.get(f"es1-spent:{{u}}:{day}")) == 600_000_000
    with pytest.raises(SpendingLimitReached):
        await Spending("u", 1.0, state).reserve(0.5)


async def test_an_evaluation_adds_up_what_its_answers_cost(
    stack: AsyncExitStack, upstream: FaultyUpstream, data: Path
) -> None:
    address = await proxied(stack, upstream, {}, price_per_million_tokens=1000.0)
    given = EvaluatorSettings(
        embedding_addresses=[address], dataset_roots=[data], drain_seconds=0, data_folder=data / "state"
    )
    evaluator = await served(stack, evaluator_bootstrap.build(given), given)
    async with AsyncEvaluationClient(evaluator) as client:
        evaluation = await finished(client, "remote", str(data / "small.json"))
    assert evaluation.state == evaluation_pb.EVALUATION_STATE_SUCCEEDED
    assert evaluation.result.usage.cost == pytest.approx(5 * 1000 / 1e6)


async def test_logs_hold_neither_key_nor_the_upstreams_words(
    stack: AsyncExitStack,
    upstream: FaultyUpstream,
    channel_to: Callable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("EMBEDSCALE_UPSTREAM_KEY_FAKE", "sk-very-secret")
    caplog.set_level(logging.INFO)
    address = await proxied(stack, upstream, {}, upstream_retries=0)
    stub = EmbeddingServiceStub(channel_to(address))
    for fault in ("http400", "http401", "http429", "http500", "html", "reset", "nan"):
        upstream.fault = fault
        await failure(embed(stub, ["a"]))
    assert upstream.headers["authorization"] == "Bearer sk-very-secret"
    assert "secret" not in caplog.text
    assert "authorization" not in caplog.text.lower()
