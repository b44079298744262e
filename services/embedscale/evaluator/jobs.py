"""Evaluations as jobs of this process: started, queued, watched, cancelled, kept until too many newer ones came."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from embedscale.core.errors import EvaluationNotFinished, EvaluationNotFound, Overloaded
from embedscale.core.evaluation import Evaluation, EvaluationSpec, Event, Progress, QueryResult, State
from embedscale.evaluator.comparison import check_comparable
from embedscale.evaluator.pipeline import Pipeline

log = logging.getLogger(__name__)

_RETRY_SECONDS = 10.0


@dataclass
class _Job:
    evaluation: Evaluation
    events: list[Event] = field(default_factory=list)
    results: Sequence[QueryResult] = ()
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class EvaluationJobs:
    """All evaluations of this process, by id."""

    def __init__(self, pipeline: Pipeline, *, running: int, queued: int, kept: int) -> None:
        self._pipeline = pipeline
        self._places = asyncio.Semaphore(running)
        self._queued = queued
        self._kept = kept
        self._jobs: dict[str, _Job] = {}
        self._requests: dict[str, str] = {}

    def create(self, spec: EvaluationSpec, request_id: str) -> Evaluation:
        """Start an evaluation, or return the one that the same request started before. Raises Overloaded."""
        if (known := self._requests.get(request_id)) in self._jobs:
            return self._jobs[known].evaluation
        queued = sum(job.evaluation.state is State.QUEUED for job in self._jobs.values())
        if queued >= self._queued:
            raise Overloaded(f"{queued} evaluations are waiting, which is the limit", retry_after=_RETRY_SECONDS)
        job = _Job(Evaluation(uuid.uuid4().hex, spec, State.QUEUED, datetime.now(UTC)))
        self._jobs[job.evaluation.id] = job
        if request_id:
            self._requests[request_id] = job.evaluation.id
        self._record(job, State.QUEUED, Progress())
        job.task = asyncio.create_task(self._run(job))
        self._forget_oldest()
        return job.evaluation

    def get(self, evaluation_id: str) -> Evaluation:
        """Return an evaluation as it stands. Raises EvaluationNotFound."""
        return self._find(evaluation_id).evaluation

    def all(self) -> list[Evaluation]:
        """All evaluations, the newest first."""
        return [job.evaluation for job in reversed(self._jobs.values())]

    def results(self, evaluation_id: str) -> Sequence[QueryResult]:
        """Results of each query. Raises EvaluationNotFound or EvaluationNotFinished."""
        job = self._find(evaluation_id)
        if job.evaluation.state is not State.SUCCEEDED:
            state = job.evaluation.state.value
            raise EvaluationNotFinished(f"evaluations/{evaluation_id} has no results: it is {state}", field="name")
        return job.results

    def comparable(self, names: Sequence[str], cutoff: int) -> dict[str, Sequence[QueryResult]]:
        """Results by id of evaluations that may be compared. Raises EvaluationNotFound or NotComparable."""
        evaluations = [self._find(name).evaluation for name in names]
        check_comparable(evaluations, cutoff)
        return {one.id: self._find(one.id).results for one in evaluations}

    async def watch(self, evaluation_id: str, after: int) -> AsyncIterator[Event]:
        """Yield events with a sequence above `after` until the evaluation has ended. Raises EvaluationNotFound."""
        job = self._find(evaluation_id)
        while True:
            news = job.news
            for event in job.events[after:]:
                after = event.sequence
                yield event
            if news is not job.news:
                continue
            if job.evaluation.state.ended:
                return
            await news.wait()

    async def cancel(self, evaluation_id: str) -> Evaluation:
        """Stop an evaluation and wait until it has. Raises EvaluationNotFound."""
        job = self._find(evaluation_id)
        await self._stop(job)
        return job.evaluation

    async def delete(self, evaluation_id: str) -> None:
        """Stop and forget an evaluation. Raises EvaluationNotFound."""
        await self._stop(self._find(evaluation_id))
        self._jobs.pop(evaluation_id, None)

    async def close(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(self._stop(job) for job in self._jobs.values()))

    async def _stop(self, job: _Job) -> None:
        if job.task:
            job.task.cancel()
            await asyncio.wait([job.task])
        if not job.evaluation.state.ended:
            self._end(job, State.CANCELLED)

    async def _run(self, job: _Job) -> None:
        try:
            async with self._places:
                result, job.results = await self._pipeline.run(job.evaluation.spec, lambda p: self._progress(job, p))
                self._progress(job, replace(job.events[-1].progress, running=result.metrics))
            self._end(job, State.SUCCEEDED, result=result)
        except Exception as error:
            log.warning("evaluation %s failed", job.evaluation.id, exc_info=error)
            self._end(job, State.FAILED, error=error)

    def _progress(self, job: _Job, progress: Progress) -> None:
        self._record(job, State.RUNNING, progress)
        job.evaluation = job.evaluation.into(State.RUNNING)

    def _end(self, job: _Job, state: State, **outcome: object) -> None:
        job.evaluation = job.evaluation.into(state, ended=datetime.now(UTC), **outcome)
        self._record(job, state, job.events[-1].progress)

    def _record(self, job: _Job, state: State, progress: Progress) -> None:
        job.events.append(Event(len(job.events) + 1, datetime.now(UTC), state, progress))
        job.news.set()
        job.news = asyncio.Event()

    def _find(self, evaluation_id: str) -> _Job:
        if evaluation_id not in self._jobs:
            raise EvaluationNotFound(f"no evaluation 'evaluations/{evaluation_id}'", field="name")
        return self._jobs[evaluation_id]

    def _forget_oldest(self) -> None:
        ended = [key for key, job in self._jobs.items() if job.evaluation.state.ended]
        for key in ended[: max(len(self._jobs) - self._kept, 0)]:
            del self._jobs[key]
        self._requests = {request: key for request, key in self._requests.items() if key in self._jobs}
