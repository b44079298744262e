"""What a cache counts: for Prometheus, over the whole process, and for `GetCacheStats`, over this cache."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from embedscale.embedding.telemetry import CACHE_ERRORS, CACHE_HITS, CACHE_MISSES, CACHE_SECONDS

_MEMORY_HITS, _REDIS_HITS = CACHE_HITS.labels("memory"), CACHE_HITS.labels("redis")


class CacheMeter:
    """Counts since the start of the server."""

    def __init__(self) -> None:
        self.memory_hits = 0
        self.redis_hits = 0
        self.misses = 0
        self.errors: Counter[str] = Counter()

    def looked_up(self, *, memory: int, redis: int, missed: int) -> None:
        """Count the outcome of one lookup, in vectors."""
        self.memory_hits += memory
        self.redis_hits += redis
        self.misses += missed
        _MEMORY_HITS.inc(memory)
        if redis:
            _REDIS_HITS.inc(redis)
        if missed:
            CACHE_MISSES.inc(missed)

    def error(self, kind: str, count: int = 1) -> None:
        """Count failures of a kind."""
        self.errors[kind] += count
        CACHE_ERRORS.labels(kind).inc(count)

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Observe how long an operation on Redis takes, failed ones included."""
        started = time.perf_counter()
        try:
            yield
        finally:
            CACHE_SECONDS.labels(operation).observe(time.perf_counter() - started)
