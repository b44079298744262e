"""The tier in front: vectors in this process, the least recently used of them dropped beyond a number of bytes."""

from collections import OrderedDict
from collections.abc import Sequence

from embedscale.core.embedding import Embedding
from embedscale.embedding.telemetry import CACHE_MEMORY_BYTES

_OVERHEAD_BYTES = 512
"""Of an entry beside its vector: key, objects and table, measured with tracemalloc and rounded up."""


class MemoryCache:
    """Bounded in bytes; keeps nothing with a limit of 0. For one event loop, without locks."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[bytes, Embedding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, keys: Sequence[bytes]) -> list[Embedding | None]:
        """Embedding i, or None, for key i; what is found counts as used."""
        found = list(map(self._entries.get, keys))
        refresh = self._entries.move_to_end
        for key, entry in zip(keys, found, strict=True):
            if entry is not None:
                refresh(key)
        return found

    def put(self, key: bytes, embedding: Embedding) -> None:
        """Keep an entry as the most recently used; one that is larger than the whole limit is not kept."""
        self._drop(key)
        if _size(embedding) <= self.limit_bytes:
            self._entries[key] = embedding
            self._grow(_size(embedding))
            while self.used_bytes > self.limit_bytes:
                self._drop(next(iter(self._entries)))

    def purge(self, prefix: bytes) -> int:
        """Drop all keys that start so; returns how many."""
        keys = [key for key in self._entries if key.startswith(prefix)]
        for key in keys:
            self._drop(key)
        return len(keys)

    def clear(self) -> None:
        """Drop everything."""
        self.purge(b"")

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._grow(-_size(entry))

    def _grow(self, by: int) -> None:
        self.used_bytes += by
        CACHE_MEMORY_BYTES.inc(by)


def _size(embedding: Embedding) -> int:
    return embedding.vector.nbytes + _OVERHEAD_BYTES
