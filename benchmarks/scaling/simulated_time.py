"""Simulated time for asyncio: a clock that jumps to the next event, so that an hour of waiting takes no time."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any


@dataclass
class Clock:
    """Seconds since the start of the simulation. What computes for some time puts it forward by as much."""

    now: float = 0.0

    def __call__(self) -> float:
        """Tell the time, as `time.monotonic` does."""
        return self.now


class _Jumps(selectors.DefaultSelector):
    """Waits for nothing: the clock is put forward instead."""

    clock: Clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.clock.now += max(timeout or 0.0, 0.0)
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop on such a clock. What an executor is given is done at once, and finished when its time is over."""

    def __init__(self, clock: Clock) -> None:
        selector = _Jumps()
        selector.clock = self.clock = clock
        super().__init__(selector)

    def time(self) -> float:
        """See `asyncio.AbstractEventLoop`."""
        return self.clock.now

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """See `asyncio.AbstractEventLoop`."""
        future: asyncio.Future[Any] = self.create_future()
        started = self.clock.now
        try:
            outcome = func(*args)
        finally:
            finished, self.clock.now = self.clock.now, started
        self.call_at(finished, lambda: future.done() or future.set_result(outcome))
        return future


def simulated(clock: Clock, main: Any) -> Any:
    """Run a coroutine on simulated time; what it returns."""
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(clock)) as runner:
        return runner.run(main)
