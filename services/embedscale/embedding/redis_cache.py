"""Reading vectors from Redis. It fails open: whatever goes wrong is a miss, a metric and a log line, never an error."""

from collections.abc import Sequence

from embedscale.core.embedding import Embedding, VectorSpace
from embedscale.embedding.breaker import Breaker
from embedscale.embedding.cache_codec import CorruptValue, unpack
from embedscale.embedding.cache_meter import CacheMeter
from embedscale.embedding.patience import within
from embedscale.embedding.redis_store import RedisStore
from embedscale.embedding.soundness import sound
from embedscale.servicekit.redis_connection import FAILURES


class RedisReader:
    """One MGET a lookup, given up after some seconds; none at all while the breaker is open."""

    def __init__(self, store: RedisStore, breaker: Breaker, meter: CacheMeter) -> None:
        self._store = store
        self._breaker = breaker
        self._meter = meter

    async def read(self, space: VectorSpace, keys: Sequence[bytes], seconds: float) -> list[Embedding | None]:
        """Embedding i, or None, for key i; damaged and unsound values are counted and are None."""
        if not keys or not self._breaker.closed:
            return [None] * len(keys)
        try:
            with self._meter.timed("read"):
                values = await within(seconds, self._store.read(keys))
        except FAILURES as error:
            self._breaker.trip("read", error)
            return [None] * len(keys)
        return self._checked(space, [self._unpacked(key, value) for key, value in zip(keys, values, strict=True)])

    def _unpacked(self, key: bytes, value: object) -> Embedding | None:
        if value is None:
            return None
        try:
            return unpack(key, value if isinstance(value, bytes) else b"")
        except CorruptValue:
            self._meter.error("corrupt")
            return None

    def _checked(self, space: VectorSpace, found: list[Embedding | None]) -> list[Embedding | None]:
        present = [(row, entry) for row, entry in enumerate(found) if entry is not None]
        for (row, _), fine in zip(present, sound(space, [entry for _, entry in present]), strict=True):
            if not fine:
                self._meter.error("unsound")
                found[row] = None
        return found
