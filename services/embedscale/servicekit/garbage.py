"""Keeps Python's collector of cycles from stopping a server.

A full collection looks at every object there is and holds up all threads meanwhile: with torch and transformers loaded
for a quarter of a second, once in some thousand calls.
"""

import gc
import time
from typing import Literal

_FULL = 2
_LONG_SECONDS = 0.01


def spare_survivors() -> None:
    """Leave what is there now out of all collections to come, and from now on what survives a long full one.

    What is spared is freed as ever when nothing refers to it any more, but not if it is in a cycle: that takes
    `collect_all`.
    """
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_Sparing())


def collect_all() -> None:
    """Collect what was spared, too. It stops all of Python for a quarter of a second."""
    gc.unfreeze()
    gc.collect()


class _Sparing:
    """Called by the collector, before and after each collection.

    Only full ones count, and only their own processor time: a short one that had to wait for a processor would spare
    whatever is under way.
    """

    def __init__(self) -> None:
        self._started = 0.0

    def __call__(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        if info["generation"] < _FULL:
            return
        if phase == "start":
            self._started = time.thread_time()
        elif time.thread_time() - self._started > _LONG_SECONDS:
            gc.freeze()
