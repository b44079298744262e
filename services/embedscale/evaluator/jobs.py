"""What callers do with evaluations: create, watch, list, cancel, delete. Any replica answers for all of them."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial

from embedscale.core.errors import Draining, EvaluationNotFinished, EvaluationNotFound
from embedscale.core.evaluation import Evaluation, EvaluationSpec, Event, QueryResult
from embedscale.evaluator.comparison import check_comparable
from embedscale.evaluator.store import EvaluationStore, heard, insisted
from embedscale.tracing.spans import current_headers

NEWEST = 2**53
"""Above every ordinal and every sequence number; a store may have no room for a larger one."""
_EVENTS = 500
_LISTED = 200
_SCANS = 20
_ROWS = 1024
_IDLE_SECONDS = 10.0


class EvaluationJobs:
    """Evaluations in a store. Every method may raise StoreUnavailable, and EvaluationNotFound for an id."""

    def __init__(self, store: EvaluationStore) -> None:
        self._store = store
        self._draining = False

    async def create(self, spec: EvaluationSpec, caller: str, request_id: str) -> Evaluation:
        """Queue an evaluation, or return the one that the same request created before. Raises Overloaded."""
        spec = replace(spec, trace=current_headers().get("traceparent", ""))
        return await self._store.create(spec, caller, request_id)

    async def get(self, evaluation_id: str) -> Evaluation:
        """Return an evaluation as it stands."""
        return await self._store.get(evaluation_id)

    async def page(
        self, before: int, count: int, wanted: Callable[[Evaluation], bool]
    ) -> tuple[list[Evaluation], int | None]:
        """Wanted evaluations with ordinals below `before`, the newest first, and where the next page begins."""
        found: list[Evaluation] = []
        for _ in range(_SCANS):
            batch = await self._store.page(before, _LISTED)
            for place, evaluation in enumerate(batch, 1):
                before = evaluation.ordinal
                if wanted(evaluation):
                    found.append(evaluation)
                if len(found) == count:
                    return found, before if place < len(batch) or len(batch) == _LISTED else None
            if len(batch) < _LISTED:
                return found, None
        return found, before

    async def results(self, evaluation_id: str, start: int, count: int) -> tuple[Sequence[QueryResult], int]:
        """Results of some queries, and of how many there are. Raises EvaluationNotFinished."""
        evaluation = await self._store.get(evaluation_id)
        if evaluation.result is None:
            state = evaluation.state.value
            raise EvaluationNotFinished(f"evaluations/{evaluation_id} has no results: it is {state}", field="name")
        rows = await self._store.results(evaluation, start, count)
        if not rows and start < evaluation.result.query_count:
            raise _lost(evaluation)
        return rows, evaluation.result.query_count

    async def comparable(self, names: Sequence[str], cutoff: int) -> dict[str, Sequence[QueryResult]]:
        """Results by id of evaluations that may be compared. Raises NotComparable."""
        evaluations = [await self._store.get(name) for name in names]
        check_comparable(evaluations, cutoff)
        return {one.id: await self._all_results(one) for one in evaluations}

    async def watch(self, evaluation_id: str, after: int) -> AsyncIterator[Event]:
        """Yield events with a sequence above `after` until the evaluation has ended.

        A store that goes away is waited for, once it has answered. Raises Draining when this server shuts down.
        """
        await self._store.get(evaluation_id)
        after = min(after, NEWEST)
        ended = False
        while True:
            news = self._store.news.of(evaluation_id)
            if self._draining:
                raise Draining("this evaluator is shutting down; another one goes on")
            events = await insisted(partial(self._store.events, evaluation_id, after, _EVENTS))
            for event in events:
                after = event.sequence
                yield event
            if ended or (events and events[-1].state.ended):
                return
            if not events:
                # One more look after it has ended: the last event may have come since.
                ended = (await insisted(partial(self._store.get, evaluation_id))).state.ended
                if not ended:
                    await heard(news, _IDLE_SECONDS)

    async def cancel(self, evaluation_id: str) -> Evaluation:
        """End an evaluation as cancelled; whichever replica works on it stops. One that has ended stays as it is."""
        return await self._store.cancel(evaluation_id)

    async def delete(self, evaluation_id: str) -> None:
        """Stop and forget an evaluation."""
        await self._store.delete(evaluation_id)

    def drain(self) -> None:
        """Send watchers to another replica."""
        self._draining = True
        self._store.news.tell_all()

    async def _all_results(self, evaluation: Evaluation) -> list[QueryResult]:
        rows: list[QueryResult] = []
        while batch := await self._store.results(evaluation, len(rows), _ROWS):
            rows += batch
        if evaluation.result and len(rows) < evaluation.result.query_count:
            raise _lost(evaluation)
        return rows


def _lost(evaluation: Evaluation) -> EvaluationNotFound:
    message = f"evaluations/{evaluation.id} has lost its results: it was deleted, or Redis dropped them"
    return EvaluationNotFound(message, field="name")
