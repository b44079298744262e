"""Requests and tokens a minute: a generic cell rate algorithm.

A tenth of a minute's limit may be used at once, and the rest flows at nine tenths of the rate, so that no minute,
wherever it begins, has more than its limit. Calls are packed so that none is more than that tenth. A single text that
is waits until the bucket is full, and its minute may have as much more than the limit.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

_BURST = 0.1
_MINUTE_SECONDS = 60.0


@dataclass(frozen=True)
class Bucket:
    """A limit of so many a minute."""

    per_minute: int

    def seconds(self, cost: float) -> float:
        """Time in which so much flows."""
        return cost * _MINUTE_SECONDS / ((1 - _BURST) * self.per_minute)

    @property
    def burst(self) -> int:
        """What may be used at once."""
        return max(int(_BURST * self.per_minute), 1)

    @property
    def burst_seconds(self) -> float:
        """Time in which the burst flows."""
        return self.seconds(self.burst)


class Limiter(Protocol):
    """Says when calls may be made."""

    @property
    def opens_at(self) -> float:
        """Time of time.monotonic before which not even the smallest call may be made, as far as is known here."""

    async def reserve(self, tokens: int, most_seconds: float) -> float:
        """Reserve one call of so many tokens; seconds to wait for it. If these are more, nothing is reserved."""

    async def pause(self, seconds: float) -> None:
        """Let nothing through for so long, because the upstream says so."""


def buckets(requests_per_minute: int, tokens_per_minute: int) -> Mapping[str, Bucket]:
    """Those limits that are not 0."""
    limits = {"requests": requests_per_minute, "tokens": tokens_per_minute}
    return {name: Bucket(limit) for name, limit in limits.items() if limit}


class LocalLimiter:
    """See `Limiter`; for this process alone."""

    def __init__(self, limits: Mapping[str, Bucket], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._full_at = dict.fromkeys(limits, 0.0)
        self._slack = slack(limits)
        self.paused_until = 0.0
        self.opens_at = 0.0

    async def reserve(self, tokens: int, most_seconds: float) -> float:
        """See `Limiter`."""
        now = self._clock()
        opens = start = max(now, self.paused_until)
        costs = {name: bucket.seconds(tokens if name == "tokens" else 1) for name, bucket in self._limits.items()}
        for name, cost in costs.items():
            full_at = max(self._full_at[name], start) + cost
            opens = max(opens, full_at - max(cost, self._limits[name].burst_seconds))
        if opens - now <= most_seconds:
            # A bucket is drawn on when the call is made, which another limit may put off: until then it fills up.
            self._full_at = {name: max(self._full_at[name], opens) + cost for name, cost in costs.items()}
        self.opens_at = max(opens - self._slack, self.paused_until)
        return opens - now

    async def pause(self, seconds: float) -> None:
        """See `Limiter`."""
        self.paused_until = max(self.paused_until, self._clock() + seconds)
        self.opens_at = max(self.opens_at, self.paused_until)


def slack(limits: Mapping[str, Bucket]) -> float:
    """By how much a small call may come before a large one."""
    return max((bucket.burst_seconds for bucket in limits.values()), default=0.0)
