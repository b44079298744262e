"""What may be spent at an upstream on one day."""

import asyncio
from datetime import UTC, datetime, timedelta

from embedscale.core.errors import SpendingLimitReached
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.openai_proxy.telemetry import UPSTREAM_DAY_DOLLARS, UPSTREAM_DAY_LIMIT

_NANO = 1e9
_KEPT_SECONDS = 2 * 86400
_NO_LIMIT = -1

# KEYS: the day's total. ARGV: what is owed to it, change, limit (none: -1), seconds to keep.
# Answers whether the change fitted, and the total.
_CHANGE = """
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
local change, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
local fits = limit < 0 or total + change <= limit
if fits then
  total = redis.call('INCRBY', KEYS[1], ARGV[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return (fits and '1 ' or '0 ') .. string.format('%.0f', total)
"""


class Spending:
    """US dollars of a day (UTC), counted in thousand-millionths, with all processes that share a Redis.

    Where Redis does not answer, counting goes on from the last total that it told; what was counted meanwhile is
    added to Redis's total when it is back.
    """

    def __init__(self, upstream: str, dollars_per_day: float | None, state: SharedState) -> None:
        self._upstream = upstream
        self._limit = dollars_per_day
        self._state = state
        self._day = ""
        self._known = 0
        self._owed = 0
        if dollars_per_day is not None:
            UPSTREAM_DAY_LIMIT.labels(upstream).set(dollars_per_day)
            UPSTREAM_DAY_DOLLARS.labels(upstream).set_function(self._spent_today)

    async def reserve(self, dollars: float) -> str:
        """Count what a call may cost; the day it counts for. Raises SpendingLimitReached if that exceeds the limit."""
        day = _today()
        if self._limit is not None and not await self._reserved(day, dollars, self._limit):
            message = f"the spending limit of upstream {self._upstream!r} is {self._limit:g} US dollars a day"
            raise SpendingLimitReached(f"{message}, and this request would exceed it", retry_after=_to_next_day())
        return day

    async def settle(self, day: str, reserved: float, spent: float) -> None:
        """Count what the call of that day did cost in place of what it might have."""
        if self._limit is not None and spent != reserved:
            await self._changed(day, round((spent - reserved) * _NANO), _NO_LIMIT)

    async def _reserved(self, day: str, dollars: float, limit: float) -> bool:
        """Ask to the end even if the caller gives up, for what is owed is told with it; then nothing stays reserved."""
        change = round(dollars * _NANO)
        changing = asyncio.ensure_future(self._changed(day, change, round(limit * _NANO)))
        try:
            return await asyncio.shield(changing)
        except asyncio.CancelledError:
            if await changing:
                await self._changed(day, -change, _NO_LIMIT)
            raise

    def _spent_today(self) -> float:
        return self._known / _NANO if self._day == _today() else 0.0

    async def _changed(self, day: str, change: int, limit: int) -> bool:
        if day > self._day:
            self._day, self._known, self._owed = day, 0, 0
        key = f"es1-spent:{{{self._upstream}}}:{day}"
        owed = self._taken_debt() if day == self._day else 0
        answer = await self._state.run(_CHANGE, [key], [str(owed), str(change), str(limit), str(_KEPT_SECONDS)])
        if answer is None:
            return self._changed_here(day, change, owed, limit)
        fits, total = answer.split()
        self._known = int(total) if day == self._day else self._known
        return fits == "1"

    def _changed_here(self, day: str, change: int, owed: int, limit: int) -> bool:
        fits = limit < 0 or self._known + change <= limit
        if day == self._day:
            self._known += change if fits else 0
            self._owed += owed + (change if fits else 0)
        return fits

    def _taken_debt(self) -> int:
        owed, self._owed = self._owed, 0
        return owed


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _to_next_day() -> float:
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()
