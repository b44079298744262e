"""Works on the queue: takes evaluations, keeps their leases, ends them or gives them back."""

import asyncio
import contextlib
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

from embedscale.core.errors import EvaluationNotFound, StoreUnavailable
from embedscale.evaluator.pipeline import Pipeline
from embedscale.evaluator.recorder import Recorder
from embedscale.evaluator.store import QUEUE, Claim, EvaluationStore, LeaseLost, heard, insisted, stopped
from embedscale.evaluator.telemetry import EVALUATION_LEASE_LOSSES, EVALUATION_TAKEOVERS, EVALUATIONS
from embedscale.servicekit.status import failure_of
from embedscale.tracing.spans import Attributes, Span, span

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.5
_RENEWALS = 3
"""Tries to renew a lease before it runs out."""
_SWEEP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How many ended evaluations are kept, and how long in seconds."""

    kept: int
    seconds: float


class Workers:
    """Runs some evaluations at once until it drains."""

    def __init__(
        self, store: EvaluationStore, pipeline: Pipeline, *, running: int, lease_seconds: float, retention: Retention
    ) -> None:
        self._store = store
        self._pipeline = pipeline
        self._running = running
        self._pause = lease_seconds / _RENEWALS
        self._retention = retention
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to take work."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._running)]
        self._sweeping = asyncio.create_task(self._sweep())

    async def drain(self) -> None:
        """Take no more work, and give back what is unfinished."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            await stopped(self._sweeping)
        self._tasks = []

    async def _work(self) -> None:
        while True:
            news = self._store.news.of(QUEUE)
            claim = await self._claimed()
            if claim:
                await self._attend(claim)
            else:
                await heard(news, self._pause)

    async def _claimed(self) -> Claim | None:
        taking = asyncio.ensure_future(self._store.claim())
        try:
            claim = await asyncio.shield(taking)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreUnavailable):
                if unwanted := await taking:
                    await self._leave(unwanted)
            raise
        except Exception as error:  # whatever is wrong with one evaluation, the others are worked on
            if not isinstance(error, StoreUnavailable):
                log.error("no evaluation could be taken", exc_info=error)
            await asyncio.sleep(_PAUSE_SECONDS)
            return None
        if claim and claim.taken_over:
            EVALUATION_TAKEOVERS.inc()
            log.warning("took over evaluation %s: attempt %d", claim.id, claim.attempt)
        return claim

    async def _attend(self, claim: Claim) -> None:
        """Run an evaluation for as long as its lease is ours."""
        run = asyncio.create_task(self._run(claim))
        keep = asyncio.create_task(self._keep(claim))
        try:
            await asyncio.wait((run, keep), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stopped(run, keep)
            if run.cancelled():
                await self._leave(claim)
            elif error := run.exception():
                log.error("evaluation %s stays unfinished", claim.id, exc_info=error)

    async def _leave(self, claim: Claim) -> None:
        """Give an unfinished evaluation back, if it is still ours."""
        try:
            await self._store.give_back(claim)
        except LeaseLost:
            EVALUATION_LEASE_LOSSES.inc()
            log.info("evaluation %s is not ours any more", claim.id)
        except StoreUnavailable:
            log.warning("evaluation %s could not be given back; its lease runs out", claim.id)

    async def _keep(self, claim: Claim) -> None:
        """Renew the lease; returns when it is lost."""
        while True:
            news = self._store.news.of(claim.id)
            try:
                await self._store.renew(claim)
            except LeaseLost:
                return
            except StoreUnavailable:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            await heard(news, self._pause)

    async def _run(self, claim: Claim) -> None:
        try:
            with _traced(claim):
                await self._end(claim)
        except LeaseLost:
            EVALUATION_LEASE_LOSSES.inc()
            log.info("evaluation %s is not ours any more", claim.id)

    async def _end(self, claim: Claim) -> None:
        try:
            async with Recorder(self._store, claim) as recorder:
                result, results = await self._pipeline.run(claim.spec, recorder.report)
                recorder.report(replace(recorder.progress, running=result.metrics))
        except LeaseLost:
            raise
        except Exception as error:
            log.warning("evaluation %s failed", claim.id, exc_info=error)
            await insisted(partial(self._store.fail, claim, failure_of(error)))
        else:
            await insisted(partial(self._store.succeed, claim, result, results))

    async def _sweep(self) -> None:
        """Forget old evaluations, and count the others."""
        while True:
            with contextlib.suppress(StoreUnavailable, EvaluationNotFound):
                for evaluation_id in await self._store.expired(self._retention.kept, self._retention.seconds):
                    await self._store.delete(evaluation_id)
                for state, count in (await self._store.counts()).items():
                    EVALUATIONS.labels(state.value).set(count)
            await asyncio.sleep(_SWEEP_SECONDS)


def _traced(claim: Claim) -> AbstractContextManager[Span]:
    """Continue the trace in which the evaluation was created, whichever replica that was."""
    attributes: Attributes = {
        "embedscale.evaluation": claim.id,
        "embedscale.attempt": claim.attempt,
        "embedscale.model": claim.spec.model,
    }
    return span("evaluation", attributes, parent={"traceparent": claim.spec.trace} if claim.spec.trace else {})
