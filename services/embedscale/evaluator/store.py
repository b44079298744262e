"""Where evaluations, their events, their results and the queue live: the port, and the values that pass through it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from embedscale.core.errors import StoreUnavailable
from embedscale.core.evaluation import Evaluation, EvaluationSpec, Event, Failure, QueryResult, Result, State

ReturnT = TypeVar("ReturnT")

_PAUSE_SECONDS = 0.5
_CANCEL_SECONDS = 0.1

QUEUE = ""
"""The name under which news of the queue come."""


class LeaseLost(Exception):
    """The evaluation was cancelled, deleted, or taken over: nothing that this attempt does counts any more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An evaluation to work on. `attempt` is its fencing token: the store refuses what an older attempt writes."""

    id: str
    spec: EvaluationSpec
    attempt: int
    sequence: int
    """Number of its latest event."""
    taken_over: bool
    """Whether the replica that had it died or stopped answering."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What the queue takes and gives out; 0 running for each caller means no limit."""

    queued: int = 1000
    running_per_caller: int = 0
    attempts_that_die: int = 3


class News:
    """Wakes those who wait for an evaluation or for the queue. Take the event first, then read the store, then wait."""

    def __init__(self) -> None:
        self._events: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Event:
        """An event that is set when there is news of an evaluation, by id, or of QUEUE."""
        event = self._events.get(name)
        if event is None:
            self._events[name] = event = asyncio.Event()
        return event

    def tell(self, name: str) -> None:
        """Wake all who wait for `name`."""
        if (event := self._events.pop(name, None)) is not None:
            event.set()

    def tell_all(self) -> None:
        """Wake everybody."""
        for name in list(self._events):
            self.tell(name)


async def heard(news: asyncio.Event, seconds: float) -> None:
    """Wait for news, but no longer than some seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()


async def insisted(step: Callable[[], Awaitable[ReturnT]]) -> ReturnT:
    """Repeat a step until the store answers."""
    while True:
        try:
            return await step()
        except StoreUnavailable:
            await asyncio.sleep(_PAUSE_SECONDS)


async def stopped(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks until they are done: a Redis client that is just connecting takes a cancellation for a failure."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_SECONDS)


class EvaluationStore(Protocol):
    """Keeps evaluations. Every step is atomic, and any may raise StoreUnavailable.

    Steps of work on a claim raise LeaseLost once it is void; all of them may be repeated when it is not known whether
    they were done. Steps on an id raise EvaluationNotFound.
    """

    @property
    def news(self) -> News:
        """Where to wait for changes."""

    async def start(self) -> None:
        """Reach or open what is behind it."""

    async def close(self) -> None:
        """Give back connections and files."""

    async def create(self, spec: EvaluationSpec, caller: str, request_id: str) -> Evaluation:
        """Queue an evaluation, or return what the same request queued before. Raises Overloaded."""

    async def get(self, evaluation_id: str) -> Evaluation:
        """Return an evaluation as it stands."""

    async def page(self, before: int, count: int) -> Sequence[Evaluation]:
        """Evaluations with an ordinal below `before`, the newest first."""

    async def events(self, evaluation_id: str, after: int, count: int) -> Sequence[Event]:
        """Events with a sequence above `after`, in order."""

    async def results(self, evaluation: Evaluation, start: int, count: int) -> Sequence[QueryResult]:
        """Results of some queries of a succeeded evaluation, in order."""

    async def cancel(self, evaluation_id: str) -> Evaluation:
        """End an evaluation as cancelled, unless it has ended."""

    async def delete(self, evaluation_id: str) -> None:
        """Forget an evaluation, its events and results; ends it first."""

    async def claim(self) -> Claim | None:
        """Take the next evaluation: one whose lease ran out, one that was given back, or the oldest that waits."""

    async def renew(self, claim: Claim) -> None:
        """Keep a claim from running out."""

    async def record(self, claim: Claim, events: Sequence[Event]) -> None:
        """Append events, numbered from the claim's sequence on."""

    async def succeed(self, claim: Claim, result: Result, results: Sequence[QueryResult]) -> None:
        """End with a result."""

    async def fail(self, claim: Claim, failure: Failure) -> None:
        """End with a failure."""

    async def give_back(self, claim: Claim) -> None:
        """Stop working on it, so that another replica takes it at once."""

    async def counts(self) -> Mapping[State, int]:
        """How many evaluations are in each state."""

    async def expired(self, kept: int, seconds: float) -> Sequence[str]:
        """Ids of ended evaluations beyond the newest `kept`, or that ended more than `seconds` ago."""
