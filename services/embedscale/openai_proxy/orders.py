"""What one caller wants embedded, and what became of each of its texts."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedscale.core.errors import EmbedscaleError
from embedscale.embedding.waits import Wait


@dataclass(frozen=True, slots=True)
class Row:
    """A vector, float32 of shape (dimensions,), and the tokens charged for it.

    `exact` says whether the upstream named these tokens for this text alone.
    """

    vector: NDArray[np.float32]
    tokens: int
    exact: bool


class Order:
    """Ends when every text has its row or was refused, or with the first other error; then nothing of it is wanted.

    `deadline` is a time of time.monotonic, in seconds.
    """

    def __init__(self, count: int, deadline: float) -> None:
        self.deadline = deadline
        self.rows: dict[int, Row] = {}
        self.refused: set[int] = set()
        self.wait = Wait()
        self._count = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits."""
        return not self.done.done()

    def fill(self, position: int, row: Row) -> None:
        """Give a text its row."""
        self.rows[position] = row
        self._end_if_complete()

    def refuse(self, position: int) -> None:
        """Note that the upstream refuses this text, whatever it is sent with."""
        self.refused.add(position)
        self._end_if_complete()

    def fail(self, error: Exception) -> None:
        """End with an error."""
        if self.wanted:
            self.done.set_exception(error)

    def give_up(self, error: Exception) -> None:
        """End with the texts that are known to be refused, or with an error if none is."""
        if self.wanted and self.refused:
            self.done.set_result(None)
        self.fail(error)

    def _end_if_complete(self) -> None:
        if self.wanted and len(self.rows) + len(self.refused) == self._count:
            self.done.set_result(None)


@dataclass(frozen=True, slots=True, eq=False)
class QueuedText:
    """Text number `position` of an order, as it is sent, and its tokens, counted or estimated."""

    text: str
    tokens: int
    order: Order
    position: int


def wanted(texts: Iterable[QueuedText]) -> list[QueuedText]:
    """Those that somebody waits for."""
    return [text for text in texts if text.order.wanted]


def fail(texts: Iterable[QueuedText], error: EmbedscaleError) -> None:
    """End the orders of these texts with an error."""
    for text in texts:
        text.order.fail(error)


def drop_late(texts: Sequence[QueuedText], seconds: float, error: EmbedscaleError) -> list[QueuedText]:
    """End with `error` what could not be sent before its deadline, `seconds` from now; returns what is left."""
    start = time.monotonic() + seconds
    fail((text for text in texts if text.order.deadline < start), error)
    return wanted(texts)
