"""Texts of a data set in blocks that are neither too small for a fast model nor too large for a slow one."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice

SMALLEST, LARGEST = 16, 1024
_QUICK_SECONDS, _SLOW_SECONDS = 0.5, 5.0

Block = Sequence[tuple[str, str]]


class Blocks:
    """Cuts (id, text) pairs into blocks; the size follows how long blocks took."""

    def __init__(self, first: int = SMALLEST) -> None:
        self._size = first

    async def of(self, texts: Iterator[tuple[str, str]]) -> AsyncIterator[Block]:
        """Read on a thread: the texts may come from a disk."""
        while block := await asyncio.to_thread(lambda: list(islice(texts, self._size))):
            yield block

    def took(self, count: int, seconds: float) -> None:
        """Learn that a block of `count` texts was answered after `seconds`."""
        if count < self._size:
            return
        if seconds < _QUICK_SECONDS:
            self._size = min(2 * self._size, LARGEST)
        elif seconds > _SLOW_SECONDS:
            self._size = max(self._size // 2, SMALLEST)
