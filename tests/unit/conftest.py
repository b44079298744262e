"""Fixtures of several unit tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from embedscale.embedder.scheduler import QueuePolicy, Scheduler
from tests.unit.computing import Make, vectors_of


@pytest.fixture
async def scheduler() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def make(compute: Callable = vectors_of, budget: int = 64, slots: int = 1, **others: Callable) -> Scheduler:
            made = Scheduler("test", compute, budget, QueuePolicy(), **others)
            made.compute_with(budget, slots)
            stack.push_async_callback(made.close)
            return made

        yield make
