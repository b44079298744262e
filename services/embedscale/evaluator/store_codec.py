"""Evaluations as bytes for a store: JSON, and results compressed."""

import zlib
from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from embedscale.core.errors import EvaluationAbandoned
from embedscale.core.evaluation import EvaluationSpec, Failure, Progress, QueryResult, Result
from embedscale.servicekit.status import failure_of

ValueT = TypeVar("ValueT")

ROWS = 256
"""Results of queries in a chunk."""
_LEVEL = 1
"""Of compression: the fastest; identifiers shrink well all the same."""


class Codec(Generic[ValueT]):
    """Writes values of one type as JSON, and reads them."""

    def __init__(self, kind: type[ValueT]) -> None:
        self._adapter: TypeAdapter[ValueT] = TypeAdapter(kind)

    def write(self, value: ValueT) -> bytes:
        """As JSON."""
        return self._adapter.dump_json(value)

    def read(self, written: bytes) -> ValueT:
        """From JSON."""
        return self._adapter.validate_json(written)


SPEC = Codec(EvaluationSpec)
PROGRESS = Codec(Progress)
RESULT = Codec(Result)
FAILURE = Codec(Failure)
_ROWS = Codec(list[QueryResult])


def read_progress(written: bytes) -> Progress:
    """Progress as it was written; nothing means none."""
    return PROGRESS.read(written) if written else Progress()


def write_rows(results: Sequence[QueryResult]) -> list[bytes]:
    """Chunks of ROWS results, the last one shorter."""
    starts = range(0, len(results), ROWS)
    return [zlib.compress(_ROWS.write(list(results[start : start + ROWS])), _LEVEL) for start in starts]


def chunks_of(start: int, count: int) -> range:
    """Numbers of the chunks that hold results `start` to `start + count`."""
    return range(start // ROWS, (start + count - 1) // ROWS + 1)


def read_rows(chunks: Sequence[bytes], start: int, count: int) -> list[QueryResult]:
    """Results from `start` on, `count` at most, out of the chunks of `chunks_of`."""
    rows = [row for chunk in chunks for row in _ROWS.read(zlib.decompress(chunk))]
    return rows[start % ROWS : start % ROWS + count]


def died(times: int) -> Failure:
    """Why an evaluation is given up whose replicas died."""
    return failure_of(
        EvaluationAbandoned(f"given up: {times} evaluators died or stopped answering while they worked on it")
    )
