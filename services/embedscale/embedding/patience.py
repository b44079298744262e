"""A time-out that does not take a busy event loop for a slow server."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

_GRACE_TURNS = 5
"""Turns of the event loop in which an answer that has arrived is read, parsed and handed on."""


async def within(seconds: float, operation: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await an operation, or cancel it. Raises TimeoutError, and what the operation raises.

    When the time is over, an answer that arrived while the loop was busy with other things still counts.
    """
    task = asyncio.create_task(operation)
    try:
        await asyncio.wait({task}, timeout=seconds)
        for _ in range(_GRACE_TURNS):
            if task.done():
                return task.result()
            await asyncio.sleep(0)
    finally:
        task.cancel()
    raise TimeoutError
