"""Takes in what a format reads: checks every text and puts the rows into a staging database, unsorted."""

import hashlib
import sqlite3
import threading
from typing import Any

from embedscale.core.dataset import FaultKind
from embedscale.evaluator.datasets.faults import FaultLog

SCHEMA = """
CREATE TABLE staged.documents (id TEXT, text TEXT, place TEXT);
CREATE TABLE staged.queries (id TEXT, text TEXT, place TEXT);
CREATE TABLE staged.judgements (query_id TEXT, document_id TEXT, grade INTEGER, place TEXT);
"""
_INSERTS = {
    "documents": "INSERT INTO staged.documents VALUES (?, ?, ?)",
    "queries": "INSERT INTO staged.queries VALUES (?, ?, ?)",
    "judgements": "INSERT INTO staged.judgements VALUES (?, ?, ?, ?)",
}
_ROWS_AT_ONCE = 1000
_CHARACTERS_AT_ONCE = 2**22
_GRADE_LIMIT = 2**31


class Stopped(Exception):
    """Nobody waits for the import any more."""


class Intake:
    """Where formats put documents, queries, judgements and faults, each with its place in the source."""

    def __init__(self, database: sqlite3.Connection, faults: FaultLog, stop: threading.Event) -> None:
        self._database = database
        self._faults = faults
        self._stop = stop
        self._rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _INSERTS}
        self._characters = 0
        self.content_ids: frozenset[str] = frozenset()
        """Tables whose ids are made from the texts: the same one again is the same thing, and no fault."""
        self.judged_only = False
        """Queries that no judgement names belong to another split, and are left out."""
        self.judgement_needed = False
        """A query that no judgement names is a fault."""
        self.title = ""
        self.languages: tuple[str, ...] = ()
        self.license = ""

    def document(self, key: Any, text: Any, place: str) -> None:
        """Take a document, or note why not."""
        if self._is_sound(key, text, place):
            self._put("documents", (key, text, place), len(text))

    def query(self, key: Any, text: Any, place: str) -> None:
        """Take a query, or note why not."""
        if self._is_sound(key, text, place):
            self._put("queries", (key, text, place), len(text))

    def judgement(self, query: Any, document: Any, grade: Any, place: str) -> None:
        """Take a judgement, or note why not; whether its query and document exist is checked once all are read."""
        if not (is_text(query) and is_text(document)):
            wrong = document if is_text(query) else query
            self.fault(FaultKind.DANGLING_JUDGEMENT, place, f"names {wrong!r}, which is no id")
        elif not isinstance(grade, int) or isinstance(grade, bool) or abs(grade) >= _GRADE_LIMIT:
            self.fault(FaultKind.WRONG_TYPE, place, f"the grade is {grade!r}, not a whole number")
        else:
            self._put("judgements", (query, document, grade, place), len(query) + len(document))

    def fault(self, kind: FaultKind, place: str, message: str) -> None:
        """Note what could not be read."""
        self._faults.add(kind, place, message)

    def flush(self) -> None:
        """Write what waits. Raises Stopped."""
        if self._stop.is_set():
            raise Stopped
        for table, rows in self._rows.items():
            self._database.executemany(_INSERTS[table], rows)
            rows.clear()
        self._characters = 0

    def _put(self, table: str, row: tuple[Any, ...], characters: int) -> None:
        rows = self._rows[table]
        rows.append(row)
        self._characters += characters
        if len(rows) >= _ROWS_AT_ONCE or self._characters >= _CHARACTERS_AT_ONCE:
            self.flush()

    def _is_sound(self, key: Any, text: Any, place: str) -> bool:
        if not isinstance(key, str) or not key:
            self.fault(FaultKind.WRONG_TYPE, place, f"the id is {key!r}, not a text")
        elif not isinstance(text, str):
            self.fault(FaultKind.WRONG_TYPE, place, f"the text is {_kind(text)}, not a text")
        elif not text.strip():
            self.fault(FaultKind.EMPTY_TEXT, place, "the text is empty")
        elif not (is_text(key) and is_text(text)):
            self.fault(FaultKind.BAD_ENCODING, place, "has half of a surrogate pair")
        else:
            return True
        return False


def content_id(text: str) -> str:
    """Id of a text in formats without ids, 32 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def as_id(value: Any) -> Any:
    """Numbers are ids too in some tables; the rest is left as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_grade(value: Any) -> Any:
    """Read a grade such as 2, 2.0 or "2"; what is no whole number is left as it is."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return int(number) if number.is_integer() and not isinstance(value, bool) else value


def is_text(value: Any) -> bool:
    """Whether it is a text that UTF-8 can write: none with half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    return {type(None): "missing", list: "a list", dict: "an object", bool: "a boolean"}.get(type(value), "a number")
