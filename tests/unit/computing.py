"""What schedulers of tests compute with: quick, held back, out of memory."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from embedscale.embedder.scheduler import BatchTooLarge, Scheduler

Make = Callable[..., Scheduler]


def vectors_of(batch: Sequence[Sequence[int]], alone: bool = True) -> np.ndarray:
    """A vector that shows whose it is."""
    return np.array([[tokens[0], len(tokens)] for tokens in batch], np.float32)


class Gate:
    """Holds the first batch until it is opened; keeps what was computed."""

    def __init__(self) -> None:
        self.opened, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []
        self.alone: list[bool] = []

    def __call__(self, batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        self.batches.append([tokens[0] for tokens in batch])
        self.alone.append(alone)
        self.entered.set()
        assert self.opened.wait(60)
        return vectors_of(batch)


class Slots:
    """Lets batches end only when as many are being computed at once as are expected; keeps how each was computed."""

    def __init__(self, count: int) -> None:
        self.together = threading.Barrier(count)
        self.seen: list[tuple[int, bool]] = []

    def __call__(self, batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        self.seen.append((len(batch), alone))
        self.together.wait(60)
        return vectors_of(batch)


class SmallMemory:
    """Has memory for so many padded tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens, self.failures, self.sizes = tokens, 0, []

    def __call__(self, batch: Sequence[Sequence[int]], alone: bool) -> np.ndarray:
        size = len(batch) * max(map(len, batch))
        if size > self.tokens:
            self.failures += 1
            raise BatchTooLarge(f"{size}")
        self.sizes.append(size)
        return vectors_of(batch)
