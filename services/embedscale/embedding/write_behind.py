"""Writing vectors to Redis in the background: no answer waits for it."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from itertools import islice

from embedscale.core.embedding import Embedding
from embedscale.embedding.breaker import Breaker
from embedscale.embedding.cache_codec import pack
from embedscale.embedding.cache_meter import CacheMeter
from embedscale.embedding.redis_store import RedisStore, Write
from embedscale.embedding.telemetry import CACHE_PENDING_WRITES
from embedscale.servicekit.redis_connection import FAILURES

log = logging.getLogger(__name__)

BATCH = 128
"""Vectors in a pipelined write at most: packing them holds up the event loop for about a millisecond."""
_JITTER = 0.1
"""Share by which a lifetime is made shorter or longer, so that what was written together does not end together."""
_PAUSE_SECONDS = 1.0
_WRITE_SECONDS = 1.0


class WriteBehind:
    """A bounded queue and the task that empties it. What does not fit is dropped and counted.

    What waits to be written can be read from `pending`. `releasable` says which keys to drop with a write.
    """

    def __init__(
        self,
        store: RedisStore,
        breaker: Breaker,
        meter: CacheMeter,
        releasable: Callable[[Sequence[bytes]], list[bytes]],
        *,
        ttl_seconds: int,
        half: bool,
        most_pending: int,
    ) -> None:
        self.pending: dict[bytes, Embedding] = {}
        self._store = store
        self._breaker = breaker
        self._meter = meter
        self._releasable = releasable
        self._ttl_seconds = ttl_seconds
        self._half = half
        self._most_pending = most_pending
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    def offer(self, key: bytes, embedding: Embedding) -> None:
        """Queue a write, or drop it if the queue is full."""
        if len(self.pending) >= self._most_pending and key not in self.pending:
            self._meter.error("dropped")
            return
        CACHE_PENDING_WRITES.inc(key not in self.pending)
        self.pending[key] = embedding
        self._filled.set()

    def purge(self, prefix: bytes) -> None:
        """Forget the waiting writes of keys that start so."""
        self._forget([key for key in self.pending if key.startswith(prefix)])

    async def close(self, seconds: float) -> None:
        """Write what waits, for some seconds at most and only while Redis answers; then drop the rest."""
        while self._task and self.pending and self._breaker.closed and seconds > 0:
            await asyncio.sleep(0.01)
            seconds -= 0.01
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.pending:
            self._meter.error("dropped", len(self.pending))
            self._forget(list(self.pending))

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            await self._breaker.wait_closed()
            await self._write(dict(islice(self.pending.items(), BATCH)))
            if not self.pending:
                self._filled.clear()

    async def _write(self, batch: dict[bytes, Embedding]) -> None:
        writes = [Write(key, pack(key, entry, half=self._half), self._lifetime()) for key, entry in batch.items()]
        try:
            with self._meter.timed("write"):
                async with asyncio.timeout(_WRITE_SECONDS):
                    await self._store.write(writes, self._releasable(list(batch)))
        except FAILURES as error:
            self._meter.error("write", len(batch))
            log.warning("%d vectors were not cached: %s", len(batch), type(error).__name__)
            self._forget([key for key in batch if self.pending.get(key) is batch[key]])
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            self._forget([key for key in batch if self.pending.get(key) is batch[key]])

    def _lifetime(self) -> int:
        return round(1000 * self._ttl_seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311

    def _forget(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            del self.pending[key]
        CACHE_PENDING_WRITES.dec(len(keys))
