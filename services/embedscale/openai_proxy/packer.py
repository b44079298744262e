"""Merges the texts of many callers into calls, and splits what is too much for one."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

from embedscale.embedding.catalog import UpstreamEntry
from embedscale.openai_proxy.orders import QueuedText

_TICK_SECONDS = 0.001
_BUSY_TICK_SECONDS = 0.0025
_BUSY_TICK = 0.05
"""What a tick that took longer than that counts for."""

Send = Callable[[Sequence[QueuedText]], Awaitable[None]]


class Packer:
    """One queue of texts that may be sent together.

    A call leaves as soon as it is full, or when its first text has waited for the window, and a slot is free. With a
    window of 0 a text waits for nothing but a slot; those that wait for one leave together. The window is counted in
    ticks of the event loop, and while the loop is busy it hardly passes: texts that have arrived, and that the loop has
    not come to, are waited for.
    """

    def __init__(self, send: Send, slots: asyncio.Semaphore, limits: UpstreamEntry, window_seconds: float) -> None:
        self._send = send
        self._slots = slots
        self._limits = limits
        self._window = round(window_seconds / _TICK_SECONDS)
        self._ticks = 0.0
        self._queue: deque[tuple[float, QueuedText]] = deque()
        self._queued_tokens = 0
        self._dispatcher: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def add(self, texts: Sequence[QueuedText]) -> None:
        """Queue texts; their orders hear what becomes of them."""
        self._queue.extend((self._ticks, text) for text in texts)
        self._queued_tokens += sum(text.tokens for text in texts)
        if not self._dispatcher or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch(), context=Context())

    async def close(self) -> None:
        """Give up what is queued and what is in flight."""
        tasks = [*self._calls, *([self._dispatcher] if self._dispatcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dispatch(self) -> None:
        while self._queue:
            await self._window_over()
            await self._slots.acquire()
            if texts := self._next():
                self._start(texts)
            else:
                self._slots.release()

    async def _window_over(self) -> None:
        while not self._full() and self._ticks - self._queue[0][0] < self._window:
            started = time.monotonic()
            await asyncio.sleep(_TICK_SECONDS)
            busy = time.monotonic() - started > _BUSY_TICK_SECONDS
            self._ticks += _BUSY_TICK if busy else 1

    def _full(self) -> bool:
        limits = self._limits
        return len(self._queue) >= limits.inputs_per_call or self._queued_tokens >= limits.tokens_per_call

    def _next(self) -> list[QueuedText]:
        """Take the texts of one call, the oldest first, and drop on the way what nobody waits for."""
        texts: list[QueuedText] = []
        tokens = 0
        while self._queue and len(texts) < self._limits.inputs_per_call:
            text = self._queue[0][1]
            wanted = text.order.wanted
            if wanted and texts and tokens + text.tokens > self._limits.tokens_per_call:
                break
            self._queue.popleft()
            self._queued_tokens -= text.tokens
            if wanted:
                texts.append(text)
                tokens += text.tokens
        return texts

    def _start(self, texts: Sequence[QueuedText]) -> None:
        call = asyncio.create_task(self._sent(texts))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        orders = {text.order for text in texts}

        def cancel_if_unwanted(_: object) -> None:
            if not any(order.wanted for order in orders):
                call.cancel()

        for order in orders:
            order.done.add_done_callback(cancel_if_unwanted)

    async def _sent(self, texts: Sequence[QueuedText]) -> None:
        try:
            await self._send(texts)
        except Exception as error:
            for text in texts:
                text.order.fail(error)
        finally:
            self._slots.release()
