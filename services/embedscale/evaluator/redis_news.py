"""Hears of changes that any replica makes to evaluations, over one connection, however many wait for them."""

import asyncio
import contextlib
from typing import Any

from redis.exceptions import RedisError

from embedscale.evaluator.store import QUEUE, News, stopped

_BLOCK_MS = 1000
_PAUSE_SECONDS = 0.2


class RedisNews(News):
    """Reads the stream of news. When Redis was away, everybody is woken: nobody misses what happened meanwhile."""

    def __init__(self, client: Any, stream: str) -> None:
        super().__init__()
        self._client = client
        self._stream = stream
        self._task: asyncio.Task[None] | None = None
        self._reached_since: float | None = None

    @property
    def reached_for(self) -> float:
        """Seconds for which Redis has answered without a break."""
        return asyncio.get_running_loop().time() - self._reached_since if self._reached_since is not None else 0.0

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """Stop listening."""
        if self._task:
            await stopped(self._task)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                await self._read_on()
            self._reached_since = None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read_on(self) -> None:
        newest = await self._client.xrevrange(self._stream, count=1)
        last = newest[0][0] if newest else b"0-0"
        self._reached_since = asyncio.get_running_loop().time()
        self.tell_all()
        while True:
            answer = await self._client.execute_command(
                "XREAD", "BLOCK", _BLOCK_MS, "STREAMS", self._stream, last, keys=[self._stream]
            )
            for entry, fields in _entries(answer):
                last = entry
                self.tell(fields[b"id"].decode())
                if fields[b"queue"] == b"1":
                    self.tell(QUEUE)


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Entries of the one stream that was read; the two protocols of Redis nest them differently."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (batches,) = answer.values()
        return [entry for batch in batches for entry in batch]
    return list(answer[0][1])
