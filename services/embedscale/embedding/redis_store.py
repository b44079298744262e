"""Commands of the cache and of shared limits, the same for one Redis, sentinels and a cluster.

Errors are the caller's.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import cast

from redis.asyncio.cluster import RedisCluster

from embedscale.servicekit.redis_connection import connect
from embedscale.servicekit.redis_url import RedisUrl

_SCAN_COUNT = 1000
_CONNECT_SECONDS = 1.0
"""Limits of a socket; how long a caller waits is decided by who asks, and is much less."""


@dataclass(frozen=True, slots=True)
class Write:
    """A value to be kept for some milliseconds."""

    key: bytes
    value: bytes
    milliseconds: int


class RedisStore:
    """Keys and values as bytes. Every method may raise one of `FAILURES`, or not return for long.

    UNLINK is sent by name: a cluster's pipeline would run its method `unlink` by itself.
    """

    def __init__(self, url: RedisUrl) -> None:
        # A client is typed for its synchronous and asynchronous forms at once, hence Any.
        self._client, self._sentinels = connect(url, _CONNECT_SECONDS)
        self._cluster = isinstance(self._client, RedisCluster)
        self._mget = self._client.mget_nonatomic if self._cluster else self._client.mget

    async def read(self, keys: Sequence[bytes]) -> list[object]:
        """Value i, or None, for key i."""
        values = await self._mget(keys)
        if not isinstance(values, list) or len(values) != len(keys):
            raise ConnectionError("not an answer to MGET")
        return values

    async def write(self, writes: Sequence[Write], unlinked: Sequence[bytes] = ()) -> None:
        """Write values and drop keys in one round trip a node."""
        pipeline = self._client.pipeline(transaction=False)
        for write in writes:
            pipeline.set(write.key, write.value, px=write.milliseconds)
        for key in unlinked:
            pipeline.execute_command("UNLINK", key)
        await pipeline.execute()

    async def claim(self, keys: Sequence[bytes], token: bytes, milliseconds: int) -> list[bool]:
        """Write the token under each key that does not exist yet; whether key i was free."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.set(key, token, nx=True, px=milliseconds)
        return [answer is True or answer == b"OK" for answer in await pipeline.execute()]

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str]) -> object:
        """Answer of a Lua script; in a cluster its keys must have one hash tag."""
        return await self._client.eval(script, len(keys), *keys, *arguments)

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """Keys that match, in batches of about a thousand; a key may come twice."""
        batch: list[bytes] = []
        async for key in self._client.scan_iter(match=pattern, count=_SCAN_COUNT):
            batch.append(key)
            if len(batch) == _SCAN_COUNT:
                yield batch
                batch = []
        if batch:
            yield batch

    async def unlink(self, keys: Sequence[bytes]) -> int:
        """Drop keys; returns how many there were."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command("UNLINK", key)
        return sum(cast("list[int]", await pipeline.execute()))

    async def lengths(self, keys: Sequence[bytes]) -> list[int]:
        """Bytes of value i; 0 for what is not a string."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.strlen(key)
        answers = await pipeline.execute(raise_on_error=False)
        return [answer if isinstance(answer, int) else 0 for answer in answers]

    async def used_bytes(self) -> int:
        """Memory in use, of all masters together."""
        if not self._cluster:
            return int((await self._client.info("memory"))["used_memory"])
        answers = await self._client.info("memory", target_nodes=RedisCluster.PRIMARIES)
        several = answers if "used_memory" not in answers else {"": answers}
        return sum(int(answer["used_memory"]) for answer in several.values())

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        for sentinel in self._sentinels:
            await sentinel.aclose()
