"""Between many callers and one model: batches across callers, on threads of their own, one in each of its slots."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import Context
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedscale.core.embedding import Matrix
from embedscale.core.errors import ModelStarting
from embedscale.embedder.batch_meter import BatchMeter
from embedscale.embedder.learnt import Speed, TokenBudget
from embedscale.embedder.length_batches import are_few, equal_parts
from embedscale.embedder.window_queue import Window, WindowQueue
from embedscale.embedding.stages import INPUTS, MODEL, TOKENS
from embedscale.embedding.waits import Wait, batch_span
from embedscale.tracing.spans import Span

log = logging.getLogger(__name__)

Compute = Callable[[Sequence[Sequence[int]], bool], Matrix]
"""From n windows of token ids, and whether they are computed alone, to pooled vectors, float32 (n, dimensions).

May raise BatchTooLarge.
"""


class BatchTooLarge(Exception):
    """The device has no memory for a batch of this size; a smaller one may fit."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Who comes first, as `Scheduler` and `WindowQueue` say, and the most tokens that may wait."""

    interactive_windows: int = 8
    aging_seconds: float = 0.5
    queued_tokens: int = 400_000


class Scheduler:
    """Computes callers' windows in batches of at most `token_budget` padded tokens (a longer window goes by itself).

    As many batches are computed at once as the model has slots. A few windows that come when nothing is computed are
    shared out in equal parts or, where there are none, computed alone: with all threads, in a batch of all budgets.

    Work of at most `policy.interactive_windows` windows is interactive and goes before the rest, which is bulk. It
    waits for the first slot to be free, at most one batch of bulk that has aged, and interactive work that came before
    it: behind a corpus alone, for two batches at most. See `WindowQueue` for the rule.

    What a caller no longer awaits is not computed. A batch that fails fails its callers and no others. One for which
    the device has no memory is halved and tried again, and the budget comes back, an eighth of the whole after every
    64 batches. All methods are for the event loop's thread. `clock` is in seconds.
    """

    def __init__(
        self,
        name: str,
        compute: Compute,
        token_budget: int,
        policy: QueuePolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._clock = clock
        self._compute = compute
        self._queue: WindowQueue[_Job] = WindowQueue(policy.aging_seconds, clock)
        self._interactive_windows = policy.interactive_windows
        self._meter = BatchMeter(name, clock)
        self._running: set[asyncio.Task[None]] = set()
        self.compute_with(token_budget, slots=1)
        self._work = asyncio.Event()
        self._in_batches = 0
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self.batches = 0
        """Batches that were computed since the start."""

    def compute_with(self, token_budget: int, slots: int) -> None:
        """Form batches of so many padded tokens for so many slots from now on; the speed is measured anew.

        Raises RuntimeError if something is being computed.
        """
        if not all(task.done() for task in self._running):
            raise RuntimeError(f"batches of {self._name} are being computed")
        self._slots = self._free = slots
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix=f"{self._name}-compute")
        self._budget = TokenBudget(token_budget)
        self._speed = Speed(token_budget, slots)
        self._meter.token_budget(token_budget)
        self._meter.speed(None)

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait or are being computed."""
        return self._queue.tokens + self._in_batches

    @property
    def tokens_per_second(self) -> float | None:
        """Measured speed; None until a batch was at least half full."""
        return self._speed.tokens_per_second

    async def run(self, windows: Sequence[Sequence[int]]) -> tuple[Matrix, float]:
        """Pooled vectors of the windows, float32 (n, dimensions), row i for window i; and seconds in their batches.

        Raises what `compute` raised for one of the batches, and ModelStarting once the scheduler is closed.
        """
        if self._closed:
            raise ModelStarting("the model is being stopped")
        started = time.perf_counter()
        job = _Job(windows, interactive=len(windows) <= self._interactive_windows)
        self._queue.push(job.windows)
        self._meter.queued(self.queued_tokens)
        # In a context of its own: batches are no part of the trace of whoever came first.
        self._worker = self._worker or asyncio.create_task(self._batch_after_batch(), context=Context())
        self._work.set()
        try:
            result = await job.result
            self._meter.answered(time.perf_counter() - started, job.seconds)
            return result
        finally:
            job.wait.over({})
            self._queue.drop(job.windows)
            self._meter.queued(self.queued_tokens)

    async def idle(self) -> None:
        """Wait for the end of the batches that are being computed."""
        if self._running:
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """Let the running batches end, and fail what waits."""
        self._closed = True
        self._work.set()
        if self._worker:
            await self._worker
        await self.idle()
        while batch := self._queue.take(1):
            self._fail(batch, ModelStarting("the model is being stopped"))
        await asyncio.to_thread(self._threads.shutdown)

    async def _batch_after_batch(self) -> None:
        while not self._closed:
            if self._queue and self._free:
                self._start(*self._next())
            else:
                self._work.clear()
                await self._work.wait()

    def _next(self) -> tuple[Sequence["_Batch"], int]:
        """The next batches, and how many slots each of them takes."""
        tokens = self._queue.tokens
        few = are_few(len(self._queue), tokens, self._budget.tokens, self._slots)
        if self._free < self._slots or not few:
            share = -(-tokens // self._free)
            return [self._queue.take(min(self._budget.tokens, share))], 1
        batch = self._queue.take(self._slots * self._budget.tokens)
        parts = equal_parts([len(window) for window in batch], self._slots)
        return ([[batch[row] for row in rows] for rows in parts], 1) if parts else ([batch], self._slots)

    def _start(self, batches: Sequence["_Batch"], slots: int) -> None:
        for batch in batches:
            self._free -= slots
            self._in_batches += sum(map(len, batch))
            task = asyncio.create_task(self._settle(batch, slots))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _settle(self, batch: "_Batch", slots: int) -> None:
        tokens = sum(map(len, batch))
        self._meter.taken(batch)
        self.batches += 1
        try:
            with _traced(self._name, batch):
                loop = asyncio.get_running_loop()
                vectors, time_of = await loop.run_in_executor(self._threads, self._timed, batch, slots == self._slots)
            _deliver(batch, vectors, time_of)
        except BatchTooLarge as error:
            self._halve(batch, slots, error)
        except Exception as error:
            self._fail(batch, error)
        else:
            self._observe(tokens, slots, time_of)
            self._budget.recover()
            self._meter.computed(batch, slots)
        finally:
            self._in_batches -= tokens
            self._free += slots
            self._meter.queued(self.queued_tokens)
            self._work.set()

    def _observe(self, tokens: int, slots: int, time_of: "_Interval") -> None:
        """Learn the speed of all slots from a batch in some of them; while others are idle it says nothing of that."""
        if not self._free:
            began, ended = time_of
            self._speed.observe(tokens, slots, ended - began)
            self._meter.speed(self.tokens_per_second)

    def _timed(self, batch: "_Batch", alone: bool) -> tuple[Matrix, "_Interval"]:
        began = self._clock()
        vectors = self._compute([window.tokens for window in batch], alone)
        return vectors, (began, self._clock())

    def _halve(self, batch: "_Batch", slots: int, error: BatchTooLarge) -> None:
        if len(batch) == 1:
            self._fail(batch, error)
            return
        self._budget.halve(len(batch) * max(map(len, batch)) // slots)
        log.warning("no memory for a batch of %d windows; the budget is now %d tokens", len(batch), self._budget.tokens)
        self._queue.put_back([window for window in batch if not window.owner.result.done()])

    def _fail(self, batch: Iterable["_Window"], error: Exception) -> None:
        for job in {window.owner for window in batch}:
            self._queue.drop(job.windows)
            if not job.result.done():
                job.result.set_exception(error)


class _Job:
    """One caller's windows, how they wait, and what is known of their vectors."""

    def __init__(self, windows: Sequence[Sequence[int]], *, interactive: bool) -> None:
        self.wait = Wait()
        self.windows = [Window(tokens, self, row, interactive) for row, tokens in enumerate(windows)]
        self.result: asyncio.Future[tuple[Matrix, float]] = asyncio.get_running_loop().create_future()
        self.computed: list[_Interval] = []
        self._rows: dict[int, NDArray[np.float32]] = {}

    @property
    def seconds(self) -> float:
        """Time in which at least one of its batches was computed."""
        total, until = 0.0, -math.inf
        for began, ended in sorted(self.computed):
            total += max(ended - max(began, until), 0.0)
            until = max(until, ended)
        return total

    def put(self, row: int, vector: NDArray[np.float32]) -> None:
        self._rows[row] = vector
        if len(self._rows) == len(self.windows) and not self.result.done():
            self.result.set_result((np.stack([self._rows[row] for row in range(len(self.windows))]), self.seconds))


_Window = Window[_Job]
_Batch = Sequence[_Window]
_Interval = tuple[float, float]


def _traced(model: str, batch: _Batch) -> AbstractContextManager[Span]:
    waits = [job.wait for job in dict.fromkeys(window.owner for window in batch)]
    return batch_span("batch", waits, {MODEL: model, INPUTS: len(batch), TOKENS: sum(map(len, batch))})


def _deliver(batch: _Batch, vectors: Matrix, time_of: _Interval) -> None:
    for job in {window.owner for window in batch}:
        job.computed.append(time_of)
    for window, vector in zip(batch, vectors, strict=True):
        window.owner.put(window.row, vector)
