"""Evaluations in a file, for one evaluator: what ran when its process ended is taken up again at the next start."""

import asyncio
import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import ParamSpec, TypeVar

from embedscale.core.errors import EvaluationNotFound, Overloaded, StoreUnavailable
from embedscale.core.evaluation import Evaluation, EvaluationSpec, Event, Failure, QueryResult, Result, State
from embedscale.evaluator import store_codec as codec
from embedscale.evaluator.sqlite_rows import Row, now, read_evaluation, read_event, reported
from embedscale.evaluator.store import QUEUE, Claim, LeaseLost, News, QueueLimits

Parameters = ParamSpec("Parameters")
ReturnT = TypeVar("ReturnT")

RETRY_SECONDS = 10.0
_SCHEMA = (files(__package__) / "sqlite_schema.sql").read_text("utf-8")
_SELECT = """SELECT *, CASE WHEN state = 'queued' THEN (SELECT count(*) FROM evaluations AS before
    WHERE before.state = 'queued' AND before.ordinal <= evaluations.ordinal) ELSE 0 END AS position FROM evaluations"""
_NEXT = """SELECT * FROM evaluations WHERE state = 'queued' AND (:most = 0 OR :most > (SELECT count(*)
    FROM evaluations AS others WHERE others.state = 'running' AND others.caller = evaluations.caller))
    ORDER BY ordinal LIMIT 1"""


class SqliteEvaluations:
    """The port `EvaluationStore`: one connection, on a thread of its own, which no other process may share."""

    def __init__(self, file: Path, limits: QueueLimits) -> None:
        self._file = file
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, "evaluations")
        self._news = News()
        self._opened: sqlite3.Connection | None = None

    @property
    def news(self) -> News:
        """See `EvaluationStore`."""
        return self._news

    async def start(self) -> None:
        """Open the file, and queue again what was running when its process ended. Raises OSError if it is in use."""
        await self._in_thread(self._open)

    async def close(self) -> None:
        """Close the file."""
        await self._in_thread(self._close)
        self._thread.shutdown()

    async def create(self, spec: EvaluationSpec, caller: str, request_id: str) -> Evaluation:
        """See `EvaluationStore`."""
        return await self._changing(self._create, spec, caller, request_id)

    async def get(self, evaluation_id: str) -> Evaluation:
        """See `EvaluationStore`."""
        return await self._in_thread(lambda: read_evaluation(self._row(evaluation_id)))

    async def page(self, before: int, count: int) -> Sequence[Evaluation]:
        """See `EvaluationStore`."""
        query = f"{_SELECT} WHERE ordinal < ? ORDER BY ordinal DESC LIMIT ?"
        return await self._in_thread(lambda: [read_evaluation(row) for row in self._all(query, before, count)])

    async def events(self, evaluation_id: str, after: int, count: int) -> Sequence[Event]:
        """See `EvaluationStore`."""
        query = "SELECT * FROM events WHERE ordinal = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        return await self._in_thread(
            lambda: [read_event(row) for row in self._all(query, self._row(evaluation_id)["ordinal"], after, count)]
        )

    async def results(self, evaluation: Evaluation, start: int, count: int) -> Sequence[QueryResult]:
        """See `EvaluationStore`."""
        chunks = codec.chunks_of(start, count)
        query = "SELECT rows FROM results WHERE ordinal = ? AND chunk BETWEEN ? AND ? ORDER BY chunk"
        rows = await self._in_thread(lambda: self._all(query, evaluation.ordinal, chunks.start, chunks.stop - 1))
        return await asyncio.to_thread(codec.read_rows, [row["rows"] for row in rows], start, count)

    async def cancel(self, evaluation_id: str) -> Evaluation:
        """See `EvaluationStore`."""
        return await self._changing(self._cancel, evaluation_id)

    async def delete(self, evaluation_id: str) -> None:
        """See `EvaluationStore`."""
        await self._changing(self._delete, evaluation_id)

    async def claim(self) -> Claim | None:
        """See `EvaluationStore`. No lease runs out: whoever could take over would be this process."""
        return await self._changing(self._claim)

    async def renew(self, claim: Claim) -> None:
        """See `EvaluationStore`."""
        await self._in_thread(lambda: self._held(claim))

    async def record(self, claim: Claim, events: Sequence[Event]) -> None:
        """See `EvaluationStore`."""
        await self._changing(self._record, claim, events)

    async def succeed(self, claim: Claim, result: Result, results: Sequence[QueryResult]) -> None:
        """See `EvaluationStore`."""
        chunks = await asyncio.to_thread(codec.write_rows, results)
        await self._changing(self._finish, claim, State.SUCCEEDED, ("result", codec.RESULT.write(result)), chunks)

    async def fail(self, claim: Claim, failure: Failure) -> None:
        """See `EvaluationStore`."""
        await self._changing(self._finish, claim, State.FAILED, ("failure", codec.FAILURE.write(failure)), ())

    async def give_back(self, claim: Claim) -> None:
        """See `EvaluationStore`."""
        await self._changing(self._give_back, claim)

    async def counts(self) -> Mapping[State, int]:
        """See `EvaluationStore`."""
        rows = await self._in_thread(lambda: self._all("SELECT state, count(*) FROM evaluations GROUP BY state"))
        return dict.fromkeys(State, 0) | {State(state): count for state, count in rows}

    async def expired(self, kept: int, seconds: float) -> Sequence[str]:
        """See `EvaluationStore`."""
        ended = "SELECT id, ended FROM evaluations WHERE ended IS NOT NULL ORDER BY ended DESC"
        rows = await self._in_thread(lambda: self._all(ended))
        oldest = datetime.now(UTC).timestamp() - seconds
        return [row["id"] for place, row in enumerate(rows) if place >= kept or row["ended"] < oldest]

    async def _in_thread(self, work: Callable[[], ReturnT]) -> ReturnT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _changing(
        self, step: Callable[Parameters, tuple[ReturnT, str]], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> ReturnT:
        """Run a step in a transaction, and tell of the evaluation that it changed."""

        loop = asyncio.get_running_loop()

        def run() -> ReturnT:
            with reported(), self._database:
                returned, changed = step(*arguments, **named)
            loop.call_soon_threadsafe(self._tell, changed)
            return returned

        return await self._in_thread(run)

    def _tell(self, changed: str) -> None:
        if changed:
            self._news.tell(changed)
            self._news.tell(QUEUE)

    def _open(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._opened = sqlite3.connect(self._file, timeout=1.0)
        self._opened.row_factory = Row
        try:
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_SCHEMA)
            with self._database:
                self._take_up()
        except sqlite3.OperationalError as error:
            self._database.close()
            message = f"{error}; is another evaluator using it? Give each a --data-folder, or all one --redis-url"
            raise OSError(0, message, str(self._file)) from None

    def _close(self) -> None:
        if self._opened:
            self._opened.close()

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            raise StoreUnavailable("the evaluator is starting and has not opened its evaluations yet")
        return self._opened

    def _take_up(self) -> None:
        for row in self._all("SELECT * FROM evaluations WHERE state = 'running'"):
            deaths = row["deaths"] + 1
            self._set(row, deaths=deaths)
            if deaths < self._limits.attempts_that_die:
                self._move(row, State.QUEUED)
            else:
                self._set(row, failure=codec.FAILURE.write(codec.died(deaths)))
                self._move(row, State.FAILED)

    def _create(self, spec: EvaluationSpec, caller: str, request_id: str) -> tuple[Evaluation, str]:
        known = self._all(f"{_SELECT} WHERE request = ?", request_id)
        if known:
            return read_evaluation(known[0]), ""
        (waiting,) = self._all("SELECT count(*) FROM evaluations WHERE state = 'queued'")[0]
        if waiting >= self._limits.queued:
            raise Overloaded(f"{waiting} evaluations are waiting, which is the limit", retry_after=RETRY_SECONDS)
        evaluation_id, state = uuid.uuid4().hex, State.QUEUED.value
        self._database.execute(
            "INSERT INTO evaluations (id, request, caller, spec, state, created) VALUES (?, ?, ?, ?, ?, ?)",
            (evaluation_id, request_id or None, caller, codec.SPEC.write(spec), state, now()),
        )
        self._move(self._row(evaluation_id), State.QUEUED)
        return read_evaluation(self._row(evaluation_id)), evaluation_id

    def _cancel(self, evaluation_id: str) -> tuple[Evaluation, str]:
        row = self._row(evaluation_id)
        if State(row["state"]).ended:
            return read_evaluation(row), ""
        self._move(row, State.CANCELLED)
        return read_evaluation(self._row(evaluation_id)), evaluation_id

    def _delete(self, evaluation_id: str) -> tuple[None, str]:
        self._database.execute("DELETE FROM evaluations WHERE ordinal = ?", (self._row(evaluation_id)["ordinal"],))
        return None, evaluation_id

    def _claim(self) -> tuple[Claim | None, str]:
        rows = self._database.execute(_NEXT, {"most": self._limits.running_per_caller}).fetchall()
        if not rows:
            return None, ""
        row = rows[0]
        self._set(row, attempt=row["attempt"] + 1)
        self._move(row, State.RUNNING)
        ((sequence,),) = self._all("SELECT max(sequence) FROM events WHERE ordinal = ?", row["ordinal"])
        spec = codec.SPEC.read(row["spec"])
        return Claim(row["id"], spec, row["attempt"] + 1, sequence, row["deaths"] > 0), row["id"]

    def _record(self, claim: Claim, events: Sequence[Event]) -> tuple[None, str]:
        row = self._held(claim)
        for one in events:
            self._add(row, one)
        return None, claim.id

    def _finish(
        self, claim: Claim, state: State, outcome: tuple[str, bytes], chunks: Sequence[bytes]
    ) -> tuple[None, str]:
        row = self._held(claim)
        self._set(row, **dict([outcome]))
        self._database.executemany(
            "INSERT INTO results VALUES (?, ?, ?)", [(row["ordinal"], n, chunk) for n, chunk in enumerate(chunks)]
        )
        self._move(row, state)
        return None, claim.id

    def _give_back(self, claim: Claim) -> tuple[None, str]:
        self._move(self._held(claim), State.QUEUED)
        return None, claim.id

    def _move(self, row: Row, state: State) -> None:
        """Change the state and say so in an event; one that ends keeps the progress that was reached."""
        self._set(row, state=state.value, ended=now() if state.ended else None)
        last = self._last(row)
        progress = last["progress"] if last and state.ended else b""
        (attempt,) = self._all("SELECT attempt FROM evaluations WHERE ordinal = ?", row["ordinal"])[0]
        sequence = last["sequence"] + 1 if last else 1
        self._add(row, Event(sequence, datetime.now(UTC), state, codec.read_progress(progress), attempt))

    def _add(self, row: Row, one: Event) -> None:
        self._database.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (row["ordinal"], one.sequence, one.time.timestamp(), one.state.value, one.attempt,
             codec.PROGRESS.write(one.progress)),
        )  # fmt: skip

    def _last(self, row: Row) -> Row | None:
        rows = self._all("SELECT * FROM events WHERE ordinal = ? ORDER BY sequence DESC LIMIT 1", row["ordinal"])
        return rows[0] if rows else None

    def _set(self, row: Row, **values: object) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._database.execute(
            f"UPDATE evaluations SET {columns} WHERE ordinal = ?",  # noqa: S608 - names of ours
            (*values.values(), row["ordinal"]),
        )

    def _held(self, claim: Claim) -> Row:
        query = "SELECT * FROM evaluations WHERE id = ? AND state = 'running' AND attempt = ?"
        rows = self._all(query, claim.id, claim.attempt)
        if not rows:
            raise LeaseLost(claim.id)
        return rows[0]

    def _row(self, evaluation_id: str) -> Row:
        rows = self._all(f"{_SELECT} WHERE id = ?", evaluation_id)
        if not rows:
            raise EvaluationNotFound(f"no evaluation 'evaluations/{evaluation_id}'", field="name")
        return rows[0]

    def _all(self, query: str, *arguments: object) -> list[Row]:
        with reported():
            return self._database.execute(query, arguments).fetchall()
