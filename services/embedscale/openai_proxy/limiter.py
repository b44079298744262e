"""Requests and tokens a minute of all replicas together, in Redis."""

import math
import time
from collections.abc import Mapping

from embedscale.openai_proxy.shared_state import SharedState
from embedscale.servicekit.rate_limits import Bucket, LocalLimiter, slack

_MICROSECONDS = 1e6

# KEYS: pause, then a bucket each. ARGV: most microseconds, then cost and burst of each bucket in microseconds.
_RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local start = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
local opens, full_at = start, {}
for i = 2, #KEYS do
  local cost, burst = tonumber(ARGV[2 * i - 2]), tonumber(ARGV[2 * i - 1])
  full_at[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or '0'), start)
  opens = math.max(opens, full_at[i] + cost - math.max(cost, burst))
end
if opens - now <= tonumber(ARGV[1]) then
  for i = 2, #KEYS do
    local full = math.max(full_at[i], opens) + tonumber(ARGV[2 * i - 2])
    redis.call('SET', KEYS[i], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
  end
end
return string.format('%.0f', opens - now)
"""

# KEYS: pause. ARGV: microseconds.
_PAUSE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local paused = math.max(now + tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1]) or '0'))
redis.call('SET', KEYS[1], string.format('%.0f', paused), 'PX', math.ceil((paused - now) / 1000) + 1)
return 'OK'
"""


class SharedLimiter:
    """See `Limiter`; for all processes that share a Redis, by its clock. Where Redis does not answer, for this one."""

    def __init__(self, upstream: str, limits: Mapping[str, Bucket], state: SharedState) -> None:
        self._limits = limits
        self._state = state
        self._alone = LocalLimiter(limits)
        self._slack = slack(limits)
        self._keys = [f"es1-limit:{{{upstream}}}:{name}" for name in ("pause", *limits)]
        self.opens_at = 0.0

    async def reserve(self, tokens: int, most_seconds: float) -> float:
        """See `Limiter`."""
        arguments = [min(most_seconds, 1e9)]
        for name, bucket in self._limits.items():
            arguments += [bucket.seconds(tokens if name == "tokens" else 1), bucket.burst_seconds]
        answer = await self._state.run(_RESERVE, self._keys, [_micro(seconds) for seconds in arguments])
        if answer is None:
            wait = await self._alone.reserve(tokens, most_seconds)
        else:  # Redis may have been away when a pause was told
            wait = max(int(answer) / _MICROSECONDS, self._alone.paused_until - time.monotonic())
        self.opens_at = max(time.monotonic() + wait - self._slack, self._alone.opens_at)
        return wait

    async def pause(self, seconds: float) -> None:
        """See `Limiter`."""
        await self._alone.pause(seconds)
        await self._state.run(_PAUSE, self._keys[:1], [_micro(seconds)])
        self.opens_at = max(self.opens_at, self._alone.opens_at)


def _micro(seconds: float) -> str:
    return str(math.ceil(seconds * _MICROSECONDS))
