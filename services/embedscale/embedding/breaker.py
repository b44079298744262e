"""A circuit breaker: after a failure Redis is passed over, and a background task finds out when it is well again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from embedscale.embedding.cache_meter import CacheMeter
from embedscale.embedding.telemetry import CACHE_BREAKER_OPEN
from embedscale.servicekit.redis_connection import FAILURES

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_PROBE_SECONDS = 1.0


class Breaker:
    """Open from the start until a probe is answered within `budget_seconds`, and from every failure on."""

    def __init__(self, probe: Callable[[], Awaitable[object]], budget_seconds: float, meter: CacheMeter) -> None:
        self._probe = probe
        self._budget_seconds = budget_seconds
        self._meter = meter
        self._closed = asyncio.Event()
        self._recovery: asyncio.Task[None] | None = None
        CACHE_BREAKER_OPEN.inc()

    @property
    def closed(self) -> bool:
        """Whether Redis may be used."""
        return self._closed.is_set()

    async def wait_closed(self) -> None:
        """Return when Redis may be used."""
        await self._closed.wait()

    async def start(self) -> None:
        """Try Redis for the first time; if it does not answer, go on trying in the background."""
        if not await self._try() and not await self._try():
            log.warning("the cache's Redis does not answer; going on without it")
            self._recover_soon()

    def trip(self, operation: str, error: BaseException) -> None:
        """Pass Redis over from now on, because `operation` failed."""
        self._meter.error(operation)
        if self.closed:
            self._closed.clear()
            CACHE_BREAKER_OPEN.inc()
            log.warning("the cache's Redis is passed over: %s failed: %s", operation, type(error).__name__)
            self._recover_soon()

    async def close(self) -> None:
        """Give up trying."""
        if self._recovery:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        if not self.closed:
            CACHE_BREAKER_OPEN.dec()

    def _recover_soon(self) -> None:
        self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            if await self._try():
                log.warning("the cache's Redis is back")
                return
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _try(self) -> bool:
        """Probe; a first answer may be slow for the sake of connecting, so only a second one is judged by time."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._probe()
                started = time.monotonic()
                await self._probe()
        except FAILURES:
            return False
        if time.monotonic() - started > self._budget_seconds:
            return False
        self._closed.set()
        CACHE_BREAKER_OPEN.dec()
        return True
