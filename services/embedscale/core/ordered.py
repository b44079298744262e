"""Work on a stream, a few items at a time, with results in the order of the items."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


async def in_order(
    work: Callable[[ItemT], Awaitable[ResultT]], items: AsyncIterator[ItemT], window: int
) -> AsyncGenerator[ResultT, None]:
    """Yield `work(item)` for each item, in order, as soon as it is done; at most `window` are unanswered at a time.

    Items are read while there is room, and one beyond it, whether or not results are asked for: a caller may send one
    item and wait for its result, or send everything first. What is unfinished is cancelled when the iteration ends.
    """
    running: asyncio.Queue[asyncio.Task[ResultT] | None] = asyncio.Queue()
    room = asyncio.Semaphore(window)

    async def read() -> None:
        async for item in items:
            await room.acquire()
            running.put_nowait(asyncio.create_task(_awaited(work, item)))

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda _: running.put_nowait(None))
    current: asyncio.Task[ResultT] | None = None
    try:
        while (current := await running.get()) is not None:
            yield await current
            room.release()
        await reader
    finally:
        left = [current, *(running.get_nowait() for _ in range(running.qsize()))]
        await _cancelled([reader, *(task for task in left if task)])


async def _awaited(work: Callable[[ItemT], Awaitable[ResultT]], item: ItemT) -> ResultT:
    return await work(item)


async def _cancelled(tasks: "Sequence[asyncio.Task[ResultT] | asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
