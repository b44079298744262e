"""Waits for what happens a little later."""

import asyncio
import inspect
import time
from collections.abc import Callable

_PAUSE_SECONDS = 0.01


async def eventually(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Ask again and again, where need be with an await, until it is so; `what` says what is wrong if it never is."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if inspect.isawaitable(found) else found:
            return
        assert time.monotonic() < deadline, what
        await asyncio.sleep(_PAUSE_SECONDS)
