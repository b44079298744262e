"""Turns staged rows into a data set's file: sorted by id, each id once, no judgement that dangles."""

import json
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedscale.core.dataset import ContentDigest, DatasetCard, FaultKind, Lengths
from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.datasets import intake
from embedscale.evaluator.datasets.faults import FaultLog
from embedscale.evaluator.datasets.intake import Intake
from embedscale.evaluator.datasets.languages import language_of

_SCHEMA = """
CREATE TABLE documents (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE queries (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE judgements (query_id TEXT, document_id TEXT, grade INTEGER NOT NULL, PRIMARY KEY (query_id, document_id))
  WITHOUT ROWID;
CREATE TABLE card (content TEXT NOT NULL);
"""
# Nobody sees the file before it is whole, so that nothing needs to survive a crash.
_PRAGMAS = """
PRAGMA main.journal_mode = OFF; PRAGMA main.synchronous = OFF; PRAGMA main.cache_size = -16000;
PRAGMA staged.journal_mode = OFF; PRAGMA staged.synchronous = OFF; PRAGMA staged.cache_size = -4000;
"""
_JUDGEMENTS = """
SELECT j.query_id, j.document_id, j.grade, j.place, q.id IS NOT NULL, d.id IS NOT NULL
FROM staged.judgements j LEFT JOIN queries q ON q.id = j.query_id LEFT JOIN documents d ON d.id = j.document_id
ORDER BY j.query_id, j.document_id, j.rowid
"""
_UNJUDGED = "SELECT id, place FROM staged.queries WHERE id NOT IN (SELECT query_id FROM staged.judgements)"
_UNANSWERED = """
SELECT count(*) FROM queries WHERE id NOT IN (SELECT query_id FROM judgements WHERE grade > 0)
"""

_STEPS_UNHEARD = 100_000
"""Steps of SQLite after which it looks whether it should stop: some milliseconds."""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Built:
    """A finished file and what was wrong with its source."""

    card: DatasetCard
    faults: FaultLog


def build(target: Path, uri: str, fill: Callable[[Intake], None], *, lenient: bool, stop: threading.Event) -> Built:
    """Write the set that `fill` puts into the intake to the new file `target`; memory does not grow with the set.

    Raises DatasetInvalid that names the first faults, unless `lenient`: then what is wrong is left out and counted.
    Once `stop` is set, Stopped or sqlite3.OperationalError: nobody waits for it.
    """
    staging = target.with_suffix(".staged")
    faults = FaultLog()
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as database:
            database.execute("ATTACH ? AS staged", (str(staging),))
            database.executescript(_PRAGMAS + _SCHEMA + intake.SCHEMA)
            database.set_progress_handler(stop.is_set, _STEPS_UNHEARD)
            database.execute("BEGIN")
            taken = Intake(database, faults, stop)
            fill(taken)
            taken.flush()
            card = _Builder(database, taken, faults).run(uri, refuse=not lenient)
            database.execute("INSERT INTO card VALUES (?)", (json.dumps(asdict(card)),))
            database.execute("COMMIT")
    finally:
        staging.unlink(missing_ok=True)
    return Built(card, faults)


class _Builder:
    def __init__(self, database: sqlite3.Connection, taken: Intake, faults: FaultLog) -> None:
        self._database = database
        self._taken = taken
        self._faults = faults
        self._digest = ContentDigest()

    def run(self, uri: str, *, refuse: bool) -> DatasetCard:
        documents = self._write("documents", self._texts("documents", "document"))
        queries = self._write("queries", self._texts("queries", "query"))
        self._database.executemany("INSERT INTO judgements VALUES (?, ?, ?)", self._judgements())
        if self._taken.judgement_needed:
            for key, place in self._database.execute(_UNJUDGED):
                self._faults.add(FaultKind.MISSING_JUDGEMENT, place, f"relevant_docs lacks query {key!r}")
        if refuse:
            self._faults.refuse(uri)
        if not documents or not queries:
            raise DatasetInvalid(f"{uri}: has {len(documents)} documents and {len(queries)} queries", field="dataset")
        return DatasetCard(
            uri=uri,
            digest=self._digest.hexdigest(),
            query_count=len(queries),
            document_count=len(documents),
            title=self._taken.title,
            languages=self._taken.languages or self._languages(),
            license=self._taken.license,
            unanswered_count=self._database.execute(_UNANSWERED).fetchone()[0],
            query_characters=Lengths.of(queries),
            document_characters=Lengths.of(documents),
            skipped=dict(self._faults.counts),
        )

    def _write(self, table: str, rows: Iterable[tuple[str, str]]) -> "array[int]":
        """Write texts; returns the length of each."""
        lengths = array("Q")

        def counted() -> Iterator[tuple[str, str]]:
            for key, text in rows:
                lengths.append(len(text))
                yield key, text

        self._database.executemany(f"INSERT INTO {table} (id, text) VALUES (?, ?)", counted())  # noqa: S608
        return lengths

    def _texts(self, table: str, kind: str) -> Iterator[tuple[str, str]]:
        """Rows by id, each id once: the first of several."""
        kept = "WHERE id IN (SELECT query_id FROM staged.judgements)"
        where = kept if table == "queries" and self._taken.judged_only else ""
        found = self._database.execute(f"SELECT id, text, place FROM staged.{table} {where} ORDER BY id, rowid")  # noqa: S608
        for key, text, place, first in _with_first(found, 1):
            if first is None:
                self._digest.add(kind, key, text)
                yield key, text
            elif table not in self._taken.content_ids:
                self._faults.add(FaultKind.DUPLICATE_ID, place, f"the {kind} {key!r} was there before, at {first}")

    def _judgements(self) -> Iterator[tuple[str, str, int]]:
        """Judgements by both ids, each pair once."""
        known: int | None = None
        for query, document, grade, place, has_query, has_document, first in _with_first(
            self._database.execute(_JUDGEMENTS), 2
        ):
            if not has_query or not has_document:
                unknown = f"query {query!r}" if not has_query else f"document {document!r}"
                self._faults.add(FaultKind.DANGLING_JUDGEMENT, place, f"names unknown {unknown}")
            elif first is None:
                known = grade
                self._digest.add("judgement", query, document, str(grade))
                yield query, document, grade
            elif grade != known or "queries" not in self._taken.content_ids:
                message = f"query {query!r} and document {document!r} were judged before, at {first}"
                self._faults.add(FaultKind.DUPLICATE_JUDGEMENT, place, message)

    def _languages(self) -> tuple[str, ...]:
        """Detected language of the queries, then that of the corpus if another."""
        sample = "SELECT text FROM {} WHERE number % max(1, (SELECT count(*) FROM {}) / 100) = 0 LIMIT 100"
        found = [
            language_of([text for (text,) in self._database.execute(sample.format(table, table))])
            for table in ("queries", "documents")
        ]
        return tuple(dict.fromkeys(found))


def _with_first(rows: Iterable[Row], key_length: int) -> Iterator[Row]:
    """Append to each sorted row the place of the first with the same key, or None if it is the first."""
    key: Row = ()
    first = ""
    for row in rows:
        if row[:key_length] == key:
            yield (*row, first)
        else:
            key, first = row[:key_length], row[3 if key_length == 2 else 2]
            yield (*row, None)
