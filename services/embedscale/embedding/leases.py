"""Leases in Redis: while one replica computes a text, others wait for its vector instead of computing it too.

A lease is a key of its own beside the value's, `es1-lease:` for `es1:`, that only its first writer can write and that
ends by itself. It is dropped in the same pipeline that writes the vector, if it cannot have ended by then: so nobody
drops a lease that has become another's, and no script is needed.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from itertools import takewhile

from embedscale.core.embedding import Embedding, PreparedText, VectorSpace
from embedscale.embedding.breaker import Breaker
from embedscale.embedding.cache_codec import cache_key
from embedscale.embedding.cache_meter import CacheMeter
from embedscale.embedding.patience import within
from embedscale.embedding.redis_cache import RedisReader
from embedscale.embedding.redis_store import RedisStore
from embedscale.embedding.telemetry import COALESCED_TEXTS
from embedscale.servicekit.redis_connection import FAILURES

_SAFE_SHARE = 0.8
"""Share of a lease's time in which its owner takes it for its own."""
_FIRST_POLL_SECONDS = 0.005
_LONGEST_POLL_SECONDS = 0.05


def lease_key(key: bytes) -> bytes:
    """Where the lease of a value is."""
    return b"es1-lease:" + key.removeprefix(b"es1:")


class HeldLeases:
    """The leases that this process holds, and until when, the first to end first."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def hold(self, keys: Sequence[bytes], seconds: float) -> None:
        """Note new leases of values."""
        now = time.monotonic()
        self._forget_ended(now)
        for key in keys:
            self._until.pop(key, None)
            self._until[key] = now + seconds * _SAFE_SHARE

    def releasable(self, keys: Sequence[bytes]) -> list[bytes]:
        """Forget the leases of values; returns the keys of those leases that are surely still held."""
        now = time.monotonic()
        return [lease_key(key) for key in keys if self._until.pop(key, 0.0) > now]

    def _forget_ended(self, now: float) -> None:
        """Leases of vectors that were never written, being unsound or too many at once, end by themselves."""
        for key in list(takewhile(lambda key: self._until[key] <= now, self._until)):
            del self._until[key]


class RedisLeases:
    """See `ComputeLeases`."""

    def __init__(
        self,
        store: RedisStore,
        breaker: Breaker,
        reader: RedisReader,
        held: HeldLeases,
        meter: CacheMeter,
        *,
        lease_seconds: float,
        claim_seconds: float,
        poll_seconds: float,
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._reader = reader
        self._held = held
        self._meter = meter
        self._lease_seconds = lease_seconds
        self._claim_seconds = claim_seconds
        self._poll_seconds = poll_seconds
        self._token = secrets.token_hex(8).encode()
        self._releases: set[asyncio.Task[None]] = set()

    async def claim(self, space: VectorSpace, texts: Sequence[PreparedText]) -> Sequence[bool]:
        """See `ComputeLeases`."""
        if not self._breaker.closed:
            return [True] * len(texts)
        keys = [cache_key(space.fingerprint, text) for text in texts]
        try:
            with self._meter.timed("claim"):
                milliseconds = round(1000 * self._lease_seconds)
                wanted = [lease_key(key) for key in keys]
                free = await within(self._claim_seconds, self._store.claim(wanted, self._token, milliseconds))
        except TimeoutError as error:
            self._breaker.trip("claim", error)
            return [True] * len(texts)
        except FAILURES:
            self._meter.error("claim")  # a full Redis refuses leases and still answers lookups
            return [True] * len(texts)
        self._held.hold([key for key, ours in zip(keys, free, strict=True) if ours], self._lease_seconds)
        return free

    async def awaited(self, space: VectorSpace, texts: Sequence[PreparedText]) -> Mapping[PreparedText, Embedding]:
        """See `ComputeLeases`. Waits as long as a lease lasts, at most, and only while Redis answers."""
        found: dict[PreparedText, Embedding] = {}
        until = time.monotonic() + self._lease_seconds
        pause = _FIRST_POLL_SECONDS
        while (left := [text for text in texts if text not in found]) and self._breaker.closed:
            if time.monotonic() + pause > until:
                break
            await asyncio.sleep(pause)
            keys = [cache_key(space.fingerprint, text) for text in left]
            held = await self._still_held(keys)
            entries = await self._reader.read(space, keys, self._poll_seconds)
            found |= {text: entry for text, entry in zip(left, entries, strict=True) if entry is not None}
            if not any(there for there, entry in zip(held, entries, strict=True) if entry is None):
                break  # nobody computes what is left
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)
        COALESCED_TEXTS.labels("replica").inc(len(found))
        return found

    def release(self, space: VectorSpace, texts: Sequence[PreparedText]) -> None:
        """See `ComputeLeases`."""
        leases = self._held.releasable([cache_key(space.fingerprint, text) for text in texts])
        if leases and self._breaker.closed:
            task = asyncio.create_task(self._unlink(leases))
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    async def _still_held(self, keys: Sequence[bytes]) -> list[bool]:
        """Whether there is a lease on key i. Asked before the values are, so that no value is missed in between."""
        try:
            leases = await within(self._poll_seconds, self._store.read([lease_key(key) for key in keys]))
        except FAILURES as error:
            self._breaker.trip("claim", error)
            return [False] * len(keys)
        return [lease is not None for lease in leases]

    async def _unlink(self, leases: Sequence[bytes]) -> None:
        try:
            async with asyncio.timeout(self._lease_seconds):
                await self._store.unlink(leases)
        except FAILURES:
            self._meter.error("claim")


class NoLeases:
    """Where no Redis is shared, everybody computes."""

    async def claim(self, space: VectorSpace, texts: Sequence[PreparedText]) -> Sequence[bool]:  # noqa: ARG002
        """See `ComputeLeases`."""
        return [True] * len(texts)

    async def awaited(self, space: VectorSpace, texts: Sequence[PreparedText]) -> Mapping[PreparedText, Embedding]:  # noqa: ARG002
        """See `ComputeLeases`."""
        return {}

    def release(self, space: VectorSpace, texts: Sequence[PreparedText]) -> None:
        """See `ComputeLeases`."""
