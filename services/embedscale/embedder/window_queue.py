"""Which token windows are computed next, and together. Knows neither threads nor models."""

import time
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

OwnerT = TypeVar("OwnerT")


@dataclass(slots=True, eq=False)
class Window(Generic[OwnerT]):
    """Row `row` of its owner's work: token ids that fit the model, special tokens included."""

    tokens: Sequence[int]
    owner: OwnerT
    row: int
    interactive: bool
    arrived: float = 0.0

    def __len__(self) -> int:
        return len(self.tokens)


class WindowQueue(Generic[OwnerT]):
    """Two lanes, interactive before bulk, and batches of windows of like length within a lane.

    A bulk window that has waited for `aging_seconds` counts as interactive, and takes turns with the interactive ones.
    So an interactive window waits for the batch that is being computed, at most one batch of bulk, and the interactive
    windows that came before it; and a bulk window, once old, for at most every other batch before its lane's own turn.
    """

    def __init__(self, aging_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._aging_seconds = aging_seconds
        self._clock = clock
        self._interactive = _Lane[OwnerT]()
        self._bulk = _Lane[OwnerT]()
        self._bulk_was_last = False
        self.tokens = 0
        """Tokens that wait, without padding."""

    def __bool__(self) -> bool:
        return bool(self._interactive or self._bulk)

    def push(self, windows: Iterable[Window[OwnerT]]) -> None:
        """Append windows to their lanes; they begin to age now."""
        now = self._clock()
        for window in windows:
            window.arrived = now
            self._lane_of(window).add(window)
            self.tokens += len(window)

    def put_back(self, windows: Sequence[Window[OwnerT]]) -> None:
        """Return windows that were taken to the heads of their lanes, with the age they had."""
        for window in reversed(windows):
            self._lane_of(window).add(window, first=True)
            self.tokens += len(window)

    def drop(self, windows: Iterable[Window[OwnerT]]) -> None:
        """Remove those of the windows that still wait."""
        for window in windows:
            if self._lane_of(window).discard(window):
                self.tokens -= len(window)

    def take(self, token_budget: int) -> list[Window[OwnerT]]:
        """Remove and return the next batch: empty only if nothing waits, and within the budget unless a row is alone.

        The batch has the longest-waiting window of its lane and the nearest in length to it; padded to the longest,
        it has at most twice the tokens of its windows.
        """
        lane = self._next_lane()
        self._bulk_was_last = lane is self._bulk
        batch = lane.take(token_budget)
        self.tokens -= sum(map(len, batch))
        return batch

    def _next_lane(self) -> "_Lane[OwnerT]":
        if not self._interactive:
            return self._bulk
        old = bool(self._bulk) and self._clock() - self._bulk.oldest.arrived >= self._aging_seconds
        return self._bulk if old and not self._bulk_was_last else self._interactive

    def _lane_of(self, window: Window[OwnerT]) -> "_Lane[OwnerT]":
        return self._interactive if window.interactive else self._bulk


class _Lane(Generic[OwnerT]):
    """Windows in the order of their arrival and, for each length, likewise."""

    def __init__(self) -> None:
        self._all: OrderedDict[Window[OwnerT], None] = OrderedDict()
        self._by_length: dict[int, OrderedDict[Window[OwnerT], None]] = {}
        self._lengths: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def oldest(self) -> Window[OwnerT]:
        return next(iter(self._all))

    def add(self, window: Window[OwnerT], *, first: bool = False) -> None:
        if len(window) not in self._by_length:
            self._by_length[len(window)] = OrderedDict()
            insort(self._lengths, len(window))
        for order in (self._all, self._by_length[len(window)]):
            order[window] = None
            order.move_to_end(window, last=not first)

    def discard(self, window: Window[OwnerT]) -> bool:
        if window not in self._all:
            return False
        del self._all[window]
        same = self._by_length[len(window)]
        del same[window]
        if not same:
            del self._by_length[len(window)]
            del self._lengths[bisect_left(self._lengths, len(window))]
        return True

    def take(self, token_budget: int) -> list[Window[OwnerT]]:
        if not self._all:
            return []
        batch = [self.oldest]
        shortest = longest = len(batch[0])
        for length in self._nearest_lengths(longest):
            if token_budget // longest <= len(batch):
                break
            low, high = min(shortest, length), max(longest, length)
            room = token_budget // high - len(batch)
            if room > 0 and high <= 2 * low:
                others = (window for window in self._by_length[length] if window is not batch[0])
                batch += islice(others, room)
                shortest, longest = low, high
        for window in batch:
            self.discard(window)
        return batch

    def _nearest_lengths(self, length: int) -> Iterator[int]:
        above = bisect_left(self._lengths, length)
        below = above - 1
        while below >= 0 or above < len(self._lengths):
            up = self._lengths[above] - length if above < len(self._lengths) else float("inf")
            down = length - self._lengths[below] if below >= 0 else float("inf")
            if up <= down:
                yield self._lengths[above]
                above += 1
            else:
                yield self._lengths[below]
                below -= 1
