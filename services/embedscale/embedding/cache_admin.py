"""Looking into the cache and emptying it."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedscale.core.errors import InvalidField, UpstreamUnavailable
from embedscale.core.ports import Engine
from embedscale.embedding.redis_store import RedisStore
from embedscale.embedding.registry import ModelRegistry
from embedscale.embedding.tiered_cache import TieredVectorCache
from embedscale.servicekit.redis_connection import FAILURES

_FINGERPRINT_DIGITS = 32
_SECONDS = 60.0


@dataclass(frozen=True)
class SpaceUsage:
    """What one vector space takes in Redis; `model` is empty where none of this server's has the fingerprint."""

    fingerprint: str
    model: str
    keys: int
    bytes: int


@dataclass(frozen=True)
class RedisUsage:
    """What Redis holds: its memory in bytes, of everything, and each vector space."""

    used_bytes: int
    spaces: list[SpaceUsage]


class CacheAdmin:
    """Answers questions about the cache that no request for vectors waits for."""

    def __init__(self, cache: TieredVectorCache, models: ModelRegistry) -> None:
        self.cache = cache
        self._models = models

    async def usage(self) -> RedisUsage | None:
        """What Redis holds, read by SCAN; None where there is no Redis or it does not answer."""
        redis = self.cache.redis
        if not redis or not redis.breaker.closed:
            return None
        try:
            async with asyncio.timeout(_SECONDS):
                return RedisUsage(await redis.store.used_bytes(), await self._spaces(redis.store))
        except FAILURES:
            self.cache.meter.error("admin")
            return None

    async def purge(self, fingerprint: str) -> int:
        """Drop all vectors of a space, here and in Redis; returns how many there were in Redis, or else here.

        Raises InvalidField, and UpstreamUnavailable where Redis does not answer.
        """
        if len(fingerprint) != _FINGERPRINT_DIGITS or not set(fingerprint) <= set("0123456789abcdef"):
            raise InvalidField("fingerprint is not 32 hexadecimal digits", field="fingerprint")
        prefix = f"es1:{fingerprint}:"
        redis = self.cache.redis
        if redis:
            redis.writer.purge(prefix.encode())
        purged = self.cache.memory.purge(prefix.encode())
        return await self._purge_redis(redis.store, prefix) if redis else purged

    async def purge_model(self, name: str) -> int:
        """Drop all vectors of a model, whatever the way with long texts; one never loaded is loaded to learn its name.

        Raises ModelNotFound, ModelStarting, ModelFailed, and as `purge` does.
        """
        engine = self._models.find(name)
        if not _fingerprints(engine):
            await self._models.ready(name)
        return sum([await self.purge(space) for space in _fingerprints(engine)])

    async def _purge_redis(self, store: RedisStore, prefix: str) -> int:
        try:
            async with asyncio.timeout(_SECONDS):
                return sum([await store.unlink(keys) async for keys in store.scan(f"{prefix}*")])
        except FAILURES:
            self.cache.meter.error("admin")
            raise UpstreamUnavailable("the cache's Redis does not answer") from None

    async def _spaces(self, store: RedisStore) -> list[SpaceUsage]:
        keys: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        async for batch in store.scan("es1:*"):
            unique = list(dict.fromkeys(batch))
            for key, size in zip(unique, await store.lengths(unique), strict=True):
                fingerprint = key.split(b":")[1].decode("ascii", "replace")
                keys[fingerprint] += 1
                sizes[fingerprint] += size
        models = self._by_fingerprint()
        return [SpaceUsage(name, models.get(name, ""), keys[name], sizes[name]) for name in sorted(keys)]

    def _by_fingerprint(self) -> Mapping[str, str]:
        engines = [self._models.find(info.name) for info in self._models.models()]
        return {space: engine.info.name for engine in engines for space in _fingerprints(engine)}


def _fingerprints(engine: Engine) -> Sequence[str]:
    """Of the engine's spaces, whatever the way with long texts; none for a model that was never loaded."""
    return sorted({engine.fingerprint(mode) for mode in engine.info.truncations} - {""})
