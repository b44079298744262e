"""Which token windows are computed next, and together. Knows neither threads nor models."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

OwnerT = TypeVar("OwnerT")

_BATCHES_IN_REACH = 4
_MOST_IN_REACH = 2048


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
    """Two lanes, interactive before bulk, and in each the owners in turn, with batches of windows of like length.

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

    def __len__(self) -> int:
        return len(self._interactive) + len(self._bulk)

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

        The batch is of the owner who has waited longest in its lane, long windows first; room that is left is filled
        with others' windows of like length, from what fills the next four batches. Padded to its longest window a batch
        has at most twice the tokens of its windows.
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
    """Windows in the order of their arrival."""

    def __init__(self) -> None:
        self._windows: OrderedDict[Window[OwnerT], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def oldest(self) -> Window[OwnerT]:
        return next(iter(self._windows))

    def add(self, window: Window[OwnerT], *, first: bool = False) -> None:
        self._windows[window] = None
        self._windows.move_to_end(window, last=not first)

    def discard(self, window: Window[OwnerT]) -> bool:
        return self._windows.pop(window, window) is None

    def take(self, token_budget: int) -> list[Window[OwnerT]]:
        batch: list[Window[OwnerT]] = []
        shortest = longest = 0
        for window in self._candidates(token_budget):
            low, high = min(shortest or len(window), len(window)), max(longest, len(window))
            if longest * (len(batch) + 1) > token_budget and batch:
                break
            if not batch or (high <= 2 * low and high * (len(batch) + 1) <= token_budget):
                batch.append(window)
                shortest, longest = low, high
        for window in batch:
            self.discard(window)
        return batch

    def _candidates(self, token_budget: int) -> list[Window[OwnerT]]:
        """Those of the owner who has waited longest, long ones first, and then others, the nearest in length first."""
        reach = list(self._reach(token_budget))
        own = [window for window in reach if window.owner is reach[0].owner]
        own.sort(key=lambda window: -len(window))
        others = [window for window in reach if window.owner is not reach[0].owner]
        others.sort(key=lambda window: abs(len(window) - len(own[-1])))
        return own + others

    def _reach(self, token_budget: int) -> Iterator[Window[OwnerT]]:
        """Windows that may be in the next batch: the oldest owner's and, to fill it up, few of others."""
        tokens = 0
        for window in islice(self._windows, _MOST_IN_REACH):
            tokens += 0 if window.owner is self.oldest.owner else len(window)
            if tokens > _BATCHES_IN_REACH * token_budget:
                return
            yield window
