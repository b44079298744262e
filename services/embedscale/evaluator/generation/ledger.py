"""Answers of language models in a file, each as soon as it has come: what was paid for once is not asked again."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from embedscale.core.chat import Answer
from embedscale.core.errors import StoreUnavailable

ReturnT = TypeVar("ReturnT")

_WAIT_SECONDS = 30.0
_SCHEMA = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS answers (model TEXT, about TEXT, prompt TEXT, text TEXT NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, dollars REAL NOT NULL, is_cut INTEGER NOT NULL,
  time INTEGER NOT NULL DEFAULT (unixepoch()), PRIMARY KEY (model, about, prompt)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_time ON answers (time);
"""
_GET = """
SELECT text, input_tokens, output_tokens, dollars, is_cut FROM answers WHERE model = ? AND about = ? AND prompt = ?
"""
_PUT = """
INSERT OR IGNORE INTO answers (model, about, prompt, text, input_tokens, output_tokens, dollars, is_cut)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_FORGET = "DELETE FROM answers WHERE time < unixepoch() - ?"


class Ledger:
    """Answers by the model's digest, what they are about, and the prompt's digest: one connection, on its own thread.

    An answer is on the disk when `put` returns. Every method may raise StoreUnavailable.
    """

    def __init__(self, file: Path, kept_seconds: float) -> None:
        self._file = file
        self._kept_seconds = kept_seconds
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._opened: sqlite3.Connection | None = None
        self._held: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    def held(self, model: str, about: str, prompt: str) -> asyncio.Lock:
        """Return what to hold from asking for an answer until it is put, so that nobody asks for it twice."""
        return self._held.setdefault((model, about, prompt), asyncio.Lock())

    async def get(self, model: str, about: str, prompt: str) -> Answer | None:
        """Return the answer that was given before, if one was."""
        return await self._in_thread(lambda database: _read(database, (model, about, prompt)))

    async def put(self, model: str, about: str, prompt: str, answer: Answer) -> None:
        """Keep an answer; the first one stays, and what is too old is forgotten."""
        row = (answer.text, answer.input_tokens, answer.output_tokens, answer.dollars, answer.is_cut)
        await self._in_thread(lambda database: self._put(database, (model, about, prompt, *row)))

    async def close(self) -> None:
        """Close the file."""
        if self._opened:
            await self._in_thread(lambda database: database.close())
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[sqlite3.Connection], ReturnT]) -> ReturnT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._worked, work)

    def _worked(self, work: Callable[[sqlite3.Connection], ReturnT]) -> ReturnT:
        try:
            self._opened = self._opened or self._open()
            return work(self._opened)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"the file of answers cannot be used: {type(error).__name__}") from None

    def _put(self, database: sqlite3.Connection, row: tuple[str | float, ...]) -> None:
        database.execute(_PUT, row)
        database.execute(_FORGET, (self._kept_seconds,))

    def _open(self) -> sqlite3.Connection:
        """Open the file, and forget what is too old; autocommit makes every statement a transaction."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._file, _WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        database.executescript(_SCHEMA)
        database.execute(_FORGET, (self._kept_seconds,))
        return database


def _read(database: sqlite3.Connection, key: tuple[str, str, str]) -> Answer | None:
    row = database.execute(_GET, key).fetchone()
    return Answer(row[0], row[1], row[2], row[3], bool(row[4])) if row else None
