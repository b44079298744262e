"""Exports of query results: what TREC's files and Parquet hold is read back as it was, whatever the ids are.

The input is a message of the wire, ListQueryResultsResponse.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any, cast
from urllib.parse import unquote

from google.protobuf.message import DecodeError
from pyarrow import parquet

from embedscale.cli import results
from embedscale.cli.export_formats import FORMATS
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.fuzz.mutating import mutated_message

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))


class _Client:
    """Gives rows to exports as a server would."""

    def __init__(self, rows: list[pb.QueryResult]) -> None:
        self._rows = rows

    async def query_results(self, name: str) -> AsyncIterator[pb.QueryResult]:
        for row in self._rows:
            yield row

    async def watch(self, name: str) -> AsyncIterator[pb.EvaluationEvent]:
        for _ in ():
            yield pb.EvaluationEvent()


def check(data: bytes) -> None:
    try:
        rows = list(pb.ListQueryResultsResponse.FromString(data).results)
    except DecodeError:
        return
    files = {kind: _exported(kind, rows) for kind in FORMATS}
    run = [line.split() for line in files["trec"][0].read_text("utf-8").split("\n") if line]
    retrieved = [(row.query_id, one.document_id) for row in rows for one in row.retrieved]
    assert [_read(line[0], line[2]) for line in run] == retrieved
    assert all(len(line) == 6 for line in run)
    qrels = [line.split() for line in files["trec"][1].read_text("utf-8").split("\n") if line]
    judged = [(row.query_id, one.document_id, one.grade) for row in rows for one in row.judgements]
    assert [(*_read(line[0], line[2]), int(line[3])) for line in qrels] == judged
    expected = [results.query_as_dict(row) for row in rows]
    assert _plain(parquet.read_table(files["parquet"][0]).to_pylist()) == _plain(expected)
    assert _plain(json.loads(files["json"][0].read_text("utf-8"))["query_results"]) == _plain(expected)


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_message(data, pb.ListQueryResultsResponse, pick)


def _exported(kind: str, rows: list[pb.QueryResult]) -> list[Path]:
    async def export() -> list[Path]:
        client = cast(AsyncEvaluationClient, _Client(rows))
        lines = [line async for line in FORMATS[kind](client, pb.Evaluation(), _FOLDER / "export")]
        return [Path(line) for line in lines if line.startswith(str(_FOLDER))]

    return asyncio.run(export())


def _read(*words: str) -> tuple[str, ...]:
    return tuple("" if word == "%" else unquote(word) for word in words)


def _plain(rows: list[dict[str, Any]]) -> str:
    """Comparable, not-a-number included."""
    kept = [{key: row.get(key) for key in ("query_id", "rank", "retrieved", "judgements")} for row in rows]
    return json.dumps(kept, sort_keys=True)
