"""CacheService on the wire: convert, await, convert."""

from typing import Any

import grpc

from embedscale.core.errors import InvalidField
from embedscale.embedding.cache_admin import CacheAdmin, RedisUsage
from embedscale.v1 import cache_service_pb2 as pb
from embedscale.v1 import cache_service_pb2_grpc as pb_grpc

CACHE_SERVICE_NAME = pb.DESCRIPTOR.services_by_name["CacheService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


class CacheServicer(pb_grpc.CacheServiceServicer):
    """See `cache_service.proto`."""

    def __init__(self, admin: CacheAdmin) -> None:
        self._admin = admin

    async def GetCacheStats(  # noqa: N802
        self,
        request: pb.GetCacheStatsRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.GetCacheStatsResponse:
        """Count what is cached and what became of lookups."""
        return to_stats(self._admin, await self._admin.usage())

    async def PurgeCache(  # noqa: N802
        self,
        request: pb.PurgeCacheRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.PurgeCacheResponse:
        """Drop the vectors of a model or of a vector space."""
        match request.WhichOneof("target"):
            case "model":
                purged = await self._admin.purge_model(request.model)
            case "fingerprint":
                purged = await self._admin.purge(request.fingerprint)
            case _:
                raise InvalidField("neither model nor fingerprint is set", field="model")
        return pb.PurgeCacheResponse(purged_vectors=purged)


def to_stats(admin: CacheAdmin, usage: RedisUsage | None) -> pb.GetCacheStatsResponse:
    """Write the state of a cache; what Redis holds is left out where it did not say."""
    cache = admin.cache
    return pb.GetCacheStatsResponse(
        memory_hits=cache.meter.memory_hits,
        redis_hits=cache.meter.redis_hits,
        misses=cache.meter.misses,
        errors=[pb.CacheErrorCount(kind=kind, count=count) for kind, count in sorted(cache.meter.errors.items())],
        memory_vectors=len(cache.memory),
        memory_bytes=cache.memory.used_bytes,
        memory_limit_bytes=cache.memory.limit_bytes,
        pending_writes=len(cache.redis.writer.pending) if cache.redis else 0,
        redis_state=_state(admin),
        redis_used_bytes=usage.used_bytes if usage else None,
        spaces=[
            pb.CachedSpace(fingerprint=space.fingerprint, model=space.model, vectors=space.keys, bytes=space.bytes)
            for space in (usage.spaces if usage else ())
        ],
    )


def _state(admin: CacheAdmin) -> pb.RedisState:
    if not admin.cache.redis:
        return pb.REDIS_STATE_NONE
    return pb.REDIS_STATE_IN_USE if admin.cache.redis.breaker.closed else pb.REDIS_STATE_PASSED_OVER
