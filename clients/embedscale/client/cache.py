"""The caches of embedding servers from Python."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedscale.client.channel import AsyncClosing, Channel, opened
from embedscale.client.errors import NotFound
from embedscale.client.options import DEFAULT, ClientOptions
from embedscale.v1 import cache_service_pb2 as pb
from embedscale.v1.cache_service_pb2_grpc import CacheServiceStub

if TYPE_CHECKING:
    from embedscale.v1.cache_service_pb2_grpc import CacheServiceAsyncStub

_TIMEOUT_SECONDS = 120.0


class AsyncCacheClient(AsyncClosing):
    """Looks into the caches of one or several servers, and empties them."""

    def __init__(self, addresses: Sequence[str], options: ClientOptions = DEFAULT) -> None:
        self._channels = opened(addresses, options)

    async def stats(self) -> dict[str, pb.GetCacheStatsResponse]:
        """Return the state of each server's cache by its address. Raises ClientError if one does not answer."""
        answers = await asyncio.gather(*(self._stats(channel) for channel in self._channels))
        return {channel.address: answer for channel, answer in zip(self._channels, answers, strict=True)}

    async def purge(self, *, model: str = "", fingerprint: str = "") -> int:
        """Drop the vectors of a model, or of a fingerprint, at all servers; returns how many there were.

        Raises NotFound if no server has the model, and ClientError.
        """
        request = pb.PurgeCacheRequest(model=model) if model else pb.PurgeCacheRequest(fingerprint=fingerprint)
        answers = await asyncio.gather(*(self._purge(channel, request) for channel in self._channels))
        purged = [answer for answer in answers if isinstance(answer, int)]
        if not purged:
            raise next(answer for answer in answers if isinstance(answer, NotFound))
        return sum(purged)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _stats(self, channel: Channel) -> pb.GetCacheStatsResponse:
        return await channel.call(_stub(channel).GetCacheStats(pb.GetCacheStatsRequest(), timeout=_TIMEOUT_SECONDS))

    async def _purge(self, channel: Channel, request: pb.PurgeCacheRequest) -> int | NotFound:
        try:
            return (await channel.call(_stub(channel).PurgeCache(request, timeout=_TIMEOUT_SECONDS))).purged_vectors
        except NotFound as error:
            return error


def _stub(channel: Channel) -> "CacheServiceAsyncStub":
    return CacheServiceStub(channel.grpc)
