"""Work on a stream, a few items at a time, with results in the order of the items."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from typing import Any, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


async def in_order(
    work: Callable[[ItemT], Coroutine[Any, Any, ResultT]], items: AsyncIterable[ItemT], window: int
) -> AsyncGenerator[ResultT, None]:
    """Yield `work(item)` for each item, in order; `window` are under way at a time, and no more are read ahead.

    The caller's pace is the stream's: an item is read when a result is asked for. The first failure in the order of
    the items ends the iteration, and what is unfinished when it ends is cancelled.
    """
    running: deque[asyncio.Task[ResultT]] = deque()
    try:
        async for item in items:
            running.append(asyncio.create_task(work(item)))
            if len(running) == window:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
