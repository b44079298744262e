"""Rows of the evaluator's file as values, and its errors as errors of ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from embedscale.core.errors import StoreUnavailable
from embedscale.core.evaluation import Evaluation, Event, State
from embedscale.evaluator import store_codec as codec

Row = sqlite3.Row


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors of the file into StoreUnavailable."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"the store of evaluations cannot be used: {error}") from error


def read_evaluation(row: Row) -> Evaluation:
    """Read a row of evaluations, with its position among those that wait."""
    return Evaluation(
        id=row["id"],
        spec=codec.SPEC.read(row["spec"]),
        state=State(row["state"]),
        created=_time(row["created"]),
        ended=_time(row["ended"]) if row["ended"] is not None else None,
        result=codec.RESULT.read(row["result"]) if row["result"] else None,
        failure=codec.FAILURE.read(row["failure"]) if row["failure"] else None,
        caller=row["caller"],
        ordinal=row["ordinal"],
        attempt=row["attempt"],
        queue_position=row["position"],
    )


def read_event(row: Row) -> Event:
    """Read a row of events."""
    state, progress = State(row["state"]), codec.read_progress(row["progress"])
    return Event(row["sequence"], _time(row["time"]), state, progress, row["attempt"])


def now() -> float:
    """Seconds since 1970."""
    return datetime.now(UTC).timestamp()


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
