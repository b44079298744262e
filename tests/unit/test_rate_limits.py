"""Limits of requests and of tokens hold in every minute, whichever of the two a call waits for."""

import math
import time
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedscale.embedding import redis_store
from embedscale.embedding.catalog import UpstreamEntry
from embedscale.openai_proxy import shared_state
from embedscale.openai_proxy.bootstrap import packing_limits
from embedscale.openai_proxy.limiter import SharedLimiter
from embedscale.servicekit.rate_limits import Bucket, Limiter, LocalLimiter, buckets
from embedscale.servicekit.redis_url import parse_redis_url
from tests.conftest import RedisServer

MINUTE = 60 - 1e-6
"""In seconds; a little less, since sums of floating point numbers are not exact."""

Call = tuple[float, int]
"""When it is made, in seconds, and its tokens."""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def busiest(calls: Sequence[Call]) -> tuple[int, int]:
    """The most calls and the most tokens of any minute."""
    minutes = [[tokens for at, tokens in calls if start <= at < start + MINUTE] for start, _ in calls]
    return max(map(len, minutes)), max(map(sum, minutes))


runs = st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0, 1, 20]), st.floats(0, 1)), min_size=1, max_size=5)


@given(requests=st.integers(1, 120), tokens=st.integers(10, 20_000), runs=runs)
@example(requests=20, tokens=10_000, runs=[(15, 0, 0.0), (15, 0, 1.0)])
@settings(deadline=None)
async def test_no_minute_has_more_than_either_limit(
    requests: int, tokens: int, runs: list[tuple[int, float, float]]
) -> None:
    """`runs` are calls in a row, the pause before each, and its share of the tokens that may be used at once."""
    clock, calls = Clock(), list[Call]()
    limiter = LocalLimiter(buckets(requests, tokens), clock)
    for count, pause, share in runs:
        size = int(share * Bucket(tokens).burst)
        for _ in range(count):
            clock.now += pause
            calls.append((clock.now + await limiter.reserve(size, math.inf), size))
    most_calls, most_tokens = busiest(calls)
    assert most_calls <= requests
    assert most_tokens <= tokens


@pytest.mark.parametrize("most", [100, 5000, 10**6])
async def test_no_minute_has_more_tokens_than_its_limit_however_calls_are_packed(most: int) -> None:
    clock, calls = Clock(), list[Call]()
    entry = UpstreamEntry(tokens_per_minute=10_000, tokens_per_call=most)
    limiter, size = LocalLimiter(buckets(0, 10_000), clock), packing_limits(entry).tokens_per_call
    for _ in range(300):
        clock.now += await limiter.reserve(size, math.inf)
        calls.append((clock.now, size))
    assert busiest(calls)[1] <= 10_000


@pytest.fixture
async def shared(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SharedLimiter]:
    """A limiter that waits for its Redis, however busy the machine is."""
    monkeypatch.setattr(shared_state, "_PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(redis_store, "_CONNECT_SECONDS", 60.0)
    state = shared_state.SharedState(redis_store.RedisStore(parse_redis_url(own_redis.url)))
    yield SharedLimiter("u", buckets(60, 10_000), state)
    await state.close()


async def test_what_one_limit_puts_off_is_not_forgotten_by_the_other(shared: SharedLimiter) -> None:
    limiters: list[Limiter] = [LocalLimiter(buckets(60, 10_000)), shared]
    for limiter in limiters:
        for _ in range(100):
            await limiter.reserve(1, math.inf)
        moments = [time.monotonic() + await limiter.reserve(Bucket(10_000).burst, math.inf) for _ in range(4)]
        assert moments[0] > time.monotonic() + 60
        pauses = [later - earlier for earlier, later in pairwise(moments)]
        assert pauses == pytest.approx([Bucket(10_000).burst_seconds] * 3, abs=2)
