"""Writes the events of one attempt, in order, without making the evaluation wait."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

from embedscale.core.evaluation import Event, Progress, State
from embedscale.evaluator.store import Claim, EvaluationStore, insisted, stopped
from embedscale.evaluator.telemetry import EVALUATION_EVENTS

_PENDING = 1000


class Recorder:
    """Takes progress and records it as events; entered, it records until it is left, when all is written.

    While the store is away, progress gathers here; beyond some number the older half is thinned out.
    """

    def __init__(self, store: EvaluationStore, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._sequence = claim.sequence
        self._pending: list[tuple[datetime, Progress]] = []
        self._reported = asyncio.Event()
        self._left = False
        self.progress = Progress()

    def report(self, progress: Progress) -> None:
        """Hear of progress."""
        self.progress = progress
        self._pending.append((datetime.now(UTC), progress))
        if len(self._pending) > _PENDING:
            del self._pending[: _PENDING // 2 : 2]
        self._reported.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._record())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._reported.set()
        if isinstance(error, asyncio.CancelledError):
            await stopped(self._task)
        else:
            await self._task

    async def _record(self) -> None:
        while not (self._left and not self._pending):
            await self._reported.wait()
            self._reported.clear()
            taken, self._pending = self._pending, []
            if taken:
                events = [
                    Event(self._sequence + place, time, State.RUNNING, progress, self._claim.attempt)
                    for place, (time, progress) in enumerate(taken, 1)
                ]
                await insisted(partial(self._store.record, self._claim, events))
                self._sequence += len(taken)
                EVALUATION_EVENTS.inc(len(taken))
