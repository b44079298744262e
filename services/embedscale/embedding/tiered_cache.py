"""The vector cache: memory of this process in front, Redis behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedscale.core.embedding import Embedding, PreparedText, VectorSpace
from embedscale.embedding.breaker import Breaker
from embedscale.embedding.cache_codec import cache_key
from embedscale.embedding.cache_meter import CacheMeter
from embedscale.embedding.memory_cache import MemoryCache
from embedscale.embedding.redis_cache import RedisReader
from embedscale.embedding.redis_store import RedisStore
from embedscale.embedding.soundness import sound
from embedscale.embedding.write_behind import WriteBehind

LARGEST_HALF = 65504.0
"""Largest magnitude in float16."""


@dataclass(frozen=True)
class RedisTier:
    """What serves the cache from Redis."""

    store: RedisStore
    breaker: Breaker
    reader: RedisReader
    writer: WriteBehind
    read_seconds: float
    flush_seconds: float
    half: bool


class TieredVectorCache:
    """See `VectorCache`: finds in Redis move to memory, and what is kept goes to both."""

    def __init__(self, memory: MemoryCache, redis: RedisTier | None, meter: CacheMeter) -> None:
        self.memory = memory
        self.redis = redis
        self.meter = meter
        self._largest = LARGEST_HALF if redis and redis.half else float("inf")

    async def start(self) -> None:
        """See `VectorCache`."""
        if self.redis:
            await self.redis.breaker.start()
            self.redis.writer.start()

    async def get(self, space: VectorSpace, texts: Sequence[PreparedText]) -> Sequence[Embedding | None]:
        """See `VectorCache`."""
        keys = [cache_key(space.fingerprint, text) for text in texts]
        found = self._at_hand(keys)
        missing = [row for row, entry in enumerate(found) if entry is None]
        near = len(found) - len(missing)
        if missing and self.redis:
            promoted = await self._promoted(self.redis, space, [keys[row] for row in missing])
            for row, entry in zip(missing, promoted, strict=True):
                found[row] = entry
            missing = [row for row, entry in enumerate(found) if entry is None]
        self.meter.looked_up(memory=near, redis=len(found) - near - len(missing), missed=len(missing))
        return found

    def put(self, space: VectorSpace, entries: Mapping[PreparedText, Embedding]) -> None:
        """See `VectorCache`."""
        checked = sound(space, list(entries.values()), largest=self._largest)
        for (text, entry), fine in zip(entries.items(), checked, strict=True):
            if not fine:
                self.meter.error("unsound")
                continue
            key = cache_key(space.fingerprint, text)
            own = _own(entry)
            self.memory.put(key, own)
            if self.redis:
                self.redis.writer.offer(key, own)

    async def close(self) -> None:
        """See `VectorCache`."""
        if self.redis:
            await self.redis.writer.close(self.redis.flush_seconds)
            await self.redis.breaker.close()
            await self.redis.store.close()
        self.memory.clear()

    async def _promoted(
        self, redis: RedisTier, space: VectorSpace, keys: Sequence[bytes]
    ) -> Sequence[Embedding | None]:
        """Read keys from Redis into memory; what is not there may have come to hand meanwhile."""
        remote = await redis.reader.read(space, keys, redis.read_seconds)
        for key, entry in zip(keys, remote, strict=True):
            if entry is not None:
                self.memory.put(key, entry)
        near = self._at_hand(keys) if any(entry is None for entry in remote) else remote
        return [nearer if entry is None else entry for entry, nearer in zip(remote, near, strict=True)]

    def _at_hand(self, keys: Sequence[bytes]) -> list[Embedding | None]:
        found = self.memory.get(keys)
        if self.redis and (pending := self.redis.writer.pending):
            return [pending.get(key) if entry is None else entry for key, entry in zip(keys, found, strict=True)]
        return found


def _own(entry: Embedding) -> Embedding:
    """The same embedding, whose vector keeps no larger array alive and cannot be changed."""
    vector = entry.vector.copy()
    vector.setflags(write=False)
    return Embedding(vector, entry.token_count, entry.truncated)
