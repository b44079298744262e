"""Puts the vector cache together from settings."""

from embedscale.core.ports import ComputeLeases
from embedscale.embedding.breaker import Breaker
from embedscale.embedding.cache_meter import CacheMeter
from embedscale.embedding.leases import HeldLeases, NoLeases, RedisLeases
from embedscale.embedding.memory_cache import MemoryCache
from embedscale.embedding.redis_cache import RedisReader
from embedscale.embedding.redis_store import RedisStore
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.embedding.tiered_cache import RedisTier, TieredVectorCache
from embedscale.embedding.write_behind import WriteBehind
from embedscale.servicekit.redis_url import parse_redis_url

_READ_SHARE, _CLAIM_SHARE, _POLL_SHARE = 0.4, 0.4, 0.2
"""Shares of a request's time for the cache: a lookup, a claim, and a last look at others' work that fails."""

_PROBES = [b"es1:probe:%d" % number for number in range(16)]
"""Keys that are never written; in a cluster they are spread over the nodes."""


def build_cache(settings: EmbeddingServerSettings) -> tuple[TieredVectorCache, ComputeLeases]:
    """Build the cache and the leases that go with it. Must be called where an event loop runs."""
    meter = CacheMeter()
    memory = MemoryCache(settings.cache_memory_bytes)
    if not settings.redis_url:
        return TieredVectorCache(memory, None, meter), NoLeases()
    store = RedisStore(parse_redis_url(settings.redis_url))
    budget = settings.redis_timeout_seconds
    breaker = Breaker(lambda: store.read(_PROBES), budget * _READ_SHARE, meter)
    reader = RedisReader(store, breaker, meter)
    held = HeldLeases()
    half = settings.cache_dtype == "float16"
    writer = WriteBehind(
        store, breaker, meter, held.releasable,
        ttl_seconds=settings.cache_ttl_seconds, half=half, most_pending=settings.cache_pending_writes,
    )  # fmt: skip
    tier = RedisTier(store, breaker, reader, writer, budget * _READ_SHARE, settings.drain_seconds, half)
    leases = _leases(settings, store, breaker, reader, held, meter)
    return TieredVectorCache(memory, tier, meter), leases


def _leases(
    settings: EmbeddingServerSettings,
    store: RedisStore,
    breaker: Breaker,
    reader: RedisReader,
    held: HeldLeases,
    meter: CacheMeter,
) -> ComputeLeases:
    if not settings.cache_lease_seconds:
        return NoLeases()
    return RedisLeases(
        store, breaker, reader, held, meter,
        lease_seconds=settings.cache_lease_seconds,
        claim_seconds=settings.redis_timeout_seconds * _CLAIM_SHARE,
        poll_seconds=settings.redis_timeout_seconds * _POLL_SHARE,
    )  # fmt: skip
