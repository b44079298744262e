"""The vector cache in Redis. It fails open: whatever goes wrong is a miss, a metric and a log line, never an error."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from embedscale.core.embedding import Embedding, PreparedText
from embedscale.embedding.cache_codec import CorruptValue, cache_key, pack, unpack
from embedscale.servicekit.telemetry import CACHE_ERRORS, CACHE_LOOKUPS

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0
_FAILURES = (RedisError, OSError, asyncio.TimeoutError)


class RedisVectorCache:
    """One MGET and one pipelined write a batch; after a failure reads, or writes, are left out for a second."""

    def __init__(self, url: str, *, ttl_seconds: int, timeout_seconds: float) -> None:
        self._redis = Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
        )
        self._ttl_seconds = ttl_seconds
        self._closed_until = {"read": 0.0, "write": 0.0}

    async def get(self, fingerprint: str, texts: Sequence[PreparedText]) -> Sequence[Embedding | None]:
        """See `VectorCache`."""
        keys = [cache_key(fingerprint, text) for text in texts]
        values = await self._read(keys)
        found = [_unpacked(key, value) for key, value in zip(keys, values, strict=True)]
        hits = sum(entry is not None for entry in found)
        CACHE_LOOKUPS.labels("hit").inc(hits)
        CACHE_LOOKUPS.labels("miss").inc(len(found) - hits)
        return found

    async def put(self, fingerprint: str, entries: Mapping[PreparedText, Embedding]) -> None:
        """See `VectorCache`."""
        if not self._usable("write") or not entries:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for text, embedding in entries.items():
                    key = cache_key(fingerprint, text)
                    pipeline.set(key, pack(key, embedding), ex=self._ttl_seconds)
                await pipeline.execute()
        except _FAILURES as error:
            self._pause("write", error)

    async def close(self) -> None:
        """See `VectorCache`."""
        await self._redis.aclose()

    async def _read(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        if self._usable("read") and keys:
            try:
                values = cast("Sequence[bytes | None]", await self._redis.mget(keys))
            except _FAILURES as error:
                self._pause("read", error)
            else:
                if isinstance(values, list) and len(values) == len(keys):
                    return values
                self._pause("read", TypeError())
        return [None] * len(keys)

    def _usable(self, kind: str) -> bool:
        return time.monotonic() >= self._closed_until[kind]

    def _pause(self, kind: str, error: BaseException) -> None:
        CACHE_ERRORS.labels(kind).inc()
        self._closed_until[kind] = time.monotonic() + _PAUSE_SECONDS
        log.warning("no cache %s for %g s: %s", kind, _PAUSE_SECONDS, type(error).__name__)


class NoCache:
    """The cache of a server that has none: everything is a miss."""

    async def get(self, fingerprint: str, texts: Sequence[PreparedText]) -> Sequence[Embedding | None]:  # noqa: ARG002
        """See `VectorCache`."""
        return [None] * len(texts)

    async def put(self, fingerprint: str, entries: Mapping[PreparedText, Embedding]) -> None:
        """See `VectorCache`."""

    async def close(self) -> None:
        """See `VectorCache`."""


def _unpacked(key: bytes, value: object) -> Embedding | None:
    if value is None:
        return None
    try:
        return unpack(key, value if isinstance(value, bytes) else b"")
    except CorruptValue:
        CACHE_ERRORS.labels("corrupt").inc()
        return None
