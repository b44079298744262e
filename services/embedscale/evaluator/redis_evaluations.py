"""Evaluations in a Redis of any kind, shared by all replicas: the store for more than one evaluator."""

import asyncio
import contextlib
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from embedscale.core.errors import EvaluationNotFound, Overloaded, StoreUnavailable
from embedscale.core.evaluation import Evaluation, EvaluationSpec, Event, Failure, QueryResult, Result, State
from embedscale.evaluator import store_codec as codec
from embedscale.evaluator.redis_news import RedisNews
from embedscale.evaluator.store import Claim, LeaseLost, News, QueueLimits
from embedscale.servicekit.redis_connection import FAILURES, connect
from embedscale.servicekit.redis_url import RedisUrl

log = logging.getLogger(__name__)

PREFIX = "{embedscale-evaluations}:"
RETRY_SECONDS = 10.0
_ANSWER_SECONDS = 5.0
_UNFINISHED_SECONDS = 86400
"""Results that no evaluation ended up with are dropped by Redis after a day."""
_NEVER_MS = 10**8
"""Longer than any lease, and shorter than the age of what was given back."""
_SCRIPT = (files(__package__) / "redis_evaluations.lua").read_text("utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisEvaluations:
    """The port `EvaluationStore`. A step is one script; the results, which are large, lie on nodes of their own.

    What lies under PREFIX is on one node of a cluster. Results are written under their attempt before the step that
    ends the evaluation, so that those of an attempt that lost its lease are never seen.
    """

    def __init__(self, url: RedisUrl, limits: QueueLimits, lease_seconds: float) -> None:
        # A client is typed for its synchronous and asynchronous forms at once, hence Any.
        self._client, self._sentinels = connect(url, _ANSWER_SECONDS)
        self._limits = limits
        self._lease_seconds = lease_seconds
        self._replica = uuid.uuid4().hex
        self._news = RedisNews(self._client, f"{PREFIX}news")

    @property
    def news(self) -> News:
        """See `EvaluationStore`."""
        return self._news

    async def start(self) -> None:
        """Listen for news; Redis need not answer yet."""
        self._news.start()
        with contextlib.suppress(StoreUnavailable):
            await self._warn_of_eviction()

    async def close(self) -> None:
        """Close all connections."""
        await self._news.stop()
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def create(self, spec: EvaluationSpec, caller: str, request_id: str) -> Evaluation:
        """See `EvaluationStore`."""
        written = codec.SPEC.write(spec)
        answer = await self._step("create", uuid.uuid4().hex, request_id, caller, written, self._limits.queued)
        if answer is None:
            raise Overloaded(
                f"{self._limits.queued} evaluations are waiting, which is the limit", retry_after=RETRY_SECONDS
            )
        return _evaluation(answer)

    async def get(self, evaluation_id: str) -> Evaluation:
        """See `EvaluationStore`."""
        return _evaluation(_found(await self._step("get", evaluation_id), evaluation_id))

    async def page(self, before: int, count: int) -> Sequence[Evaluation]:
        """See `EvaluationStore`."""
        return [_evaluation(one) for one in await self._step("page", before, count)]

    async def events(self, evaluation_id: str, after: int, count: int) -> Sequence[Event]:
        """See `EvaluationStore`; of an evaluation that is not known there are none."""
        async with _reached():
            stream = f"{PREFIX}events:{evaluation_id}"
            entries = await self._client.xrange(stream, min=f"({after}-0", count=count)
        return [_event(entry, fields) for entry, fields in entries]

    async def results(self, evaluation: Evaluation, start: int, count: int) -> Sequence[QueryResult]:
        """See `EvaluationStore`."""
        async with _reached():
            chunks = await self._client.hmget(
                _results_key(evaluation.id, evaluation.attempt), list(codec.chunks_of(start, count))
            )
        return await asyncio.to_thread(codec.read_rows, [chunk for chunk in chunks if chunk], start, count)

    async def cancel(self, evaluation_id: str) -> Evaluation:
        """See `EvaluationStore`."""
        return _evaluation(_found(await self._step("cancel", evaluation_id), evaluation_id))

    async def delete(self, evaluation_id: str) -> None:
        """See `EvaluationStore`."""
        attempts = int(_found(await self._step("delete", evaluation_id), evaluation_id))
        await self._drop_results(evaluation_id, range(1, attempts + 1))

    async def claim(self) -> Claim | None:
        """See `EvaluationStore`. After Redis was away, others get the time of a lease to renew theirs."""
        lost = self._news.reached_for >= self._lease_seconds
        lease_ms = round(self._lease_seconds * 1000) if lost else _NEVER_MS
        dying = self._limits.attempts_that_die
        failure = codec.FAILURE.write(codec.died(dying))
        taken = await self._step("claim", self._replica, lease_ms, self._limits.running_per_caller, dying, failure)
        if taken is None:
            return None
        evaluation_id, spec, attempt, sequence, taken_over = taken
        return Claim(evaluation_id.decode(), codec.SPEC.read(spec), int(attempt), int(sequence), bool(taken_over))

    async def renew(self, claim: Claim) -> None:
        """See `EvaluationStore`."""
        await self._held(claim, "renew", self._replica)

    async def record(self, claim: Claim, events: Sequence[Event]) -> None:
        """See `EvaluationStore`."""
        told = [part for one in events for part in (_microseconds(one.time), codec.PROGRESS.write(one.progress))]
        await self._held(claim, "record", events[0].sequence, *told)

    async def succeed(self, claim: Claim, result: Result, results: Sequence[QueryResult]) -> None:
        """See `EvaluationStore`."""
        key = _results_key(claim.id, claim.attempt)
        chunks = await asyncio.to_thread(codec.write_rows, results)
        async with _reached():
            for number, chunk in enumerate(chunks):
                await self._client.hset(key, str(number), chunk)
                await self._client.expire(key, _UNFINISHED_SECONDS)
            await self._client.persist(key)
        try:
            await self._held(claim, "finish", State.SUCCEEDED.value, "result", codec.RESULT.write(result))
        except LeaseLost:
            await self._drop_results(claim.id, [claim.attempt])
            raise
        await self._drop_results(claim.id, range(1, claim.attempt))

    async def fail(self, claim: Claim, failure: Failure) -> None:
        """See `EvaluationStore`."""
        await self._held(claim, "finish", State.FAILED.value, "failure", codec.FAILURE.write(failure))

    async def give_back(self, claim: Claim) -> None:
        """See `EvaluationStore`."""
        await self._held(claim, "give_back", self._replica)

    async def counts(self) -> Mapping[State, int]:
        """See `EvaluationStore`."""
        counted = _pairs(await self._step("counts"))
        return {state: int(counted.get(state.value, 0)) for state in State}

    async def expired(self, kept: int, seconds: float) -> Sequence[str]:
        """See `EvaluationStore`."""
        before = _microseconds(datetime.now(UTC) - timedelta(seconds=seconds))
        return list(dict.fromkeys(one.decode() for one in await self._step("expired", kept, before)))

    async def _held(self, claim: Claim, step: str, *arguments: object) -> None:
        if not await self._step(step, claim.id, claim.attempt, *arguments):
            raise LeaseLost(claim.id)

    async def _step(self, name: str, *arguments: object) -> Any:
        async with _reached():
            try:
                return await self._client.execute_command("EVALSHA", _SHA, 1, PREFIX, name, *arguments)
            except NoScriptError:  # Redis was started anew, or another node took over
                return await self._client.execute_command("EVAL", _SCRIPT, 1, PREFIX, name, *arguments)

    async def _drop_results(self, evaluation_id: str, attempts: Sequence[int]) -> None:
        async with _reached():
            for attempt in attempts:
                await self._client.unlink(_results_key(evaluation_id, attempt))

    async def _warn_of_eviction(self) -> None:
        async with _reached():
            with contextlib.suppress(RedisError):  # hosted servers may forbid CONFIG
                policy = (await self._client.config_get("maxmemory-policy")).get("maxmemory-policy", "")
                if policy.startswith("allkeys"):
                    log.warning("Redis may drop evaluations: its maxmemory-policy is %s, use volatile-lfu", policy)


@asynccontextmanager
async def _reached() -> AsyncIterator[None]:
    try:
        yield
    except FAILURES as error:
        log.debug("Redis failed", exc_info=error)
        raise StoreUnavailable("the store of evaluations does not answer; nothing is lost, try again soon") from None


def _found(answer: Any, evaluation_id: str) -> Any:
    if answer is None:
        raise EvaluationNotFound(f"no evaluation 'evaluations/{evaluation_id}'", field="name")
    return answer


def _results_key(evaluation_id: str, attempt: int) -> str:
    return f"embedscale-results:{{{evaluation_id}}}:{attempt}"


def _pairs(flat: Any) -> dict[str, bytes]:
    """Field and value of a hash as a script returns it: in turn."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _evaluation(described: Any) -> Evaluation:
    evaluation_id, flat, waiting = described
    fields = _pairs(flat)
    return Evaluation(
        id=evaluation_id.decode(),
        spec=codec.SPEC.read(fields["spec"]),
        state=State(fields["state"].decode()),
        created=_time(fields["created"]),
        ended=_time(fields["ended"]) if "ended" in fields else None,
        result=codec.RESULT.read(fields["result"]) if "result" in fields else None,
        failure=codec.FAILURE.read(fields["failure"]) if "failure" in fields else None,
        caller=fields["caller"].decode(),
        ordinal=int(fields["ordinal"]),
        attempt=int(fields["attempt"]),
        queue_position=0 if waiting is None else waiting + 1,
    )


def _event(entry: bytes, fields: Mapping[bytes, bytes]) -> Event:
    return Event(
        sequence=int(entry.partition(b"-")[0]),
        time=_time(fields[b"time"]),
        state=State(fields[b"state"].decode()),
        progress=codec.read_progress(fields[b"progress"]),
        attempt=int(fields[b"attempt"]),
    )


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1e6)


def _time(microseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC)
