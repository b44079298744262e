"""A data set in a file: read a little at a time, whatever its size."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from embedscale.core.dataset import DatasetCard, Judgements, Lengths

_ROWS_AT_ONCE = 512


class DiskDataset:
    """The port `Dataset` over a finished file, which is never changed."""

    def __init__(self, path: Path, uri: str) -> None:
        self._path = path
        self._uri = uri

    @cached_property
    def card(self) -> DatasetCard:
        """See `Dataset`."""
        with closing(self._connect()) as database:
            content = json.loads(database.execute("SELECT content FROM card").fetchone()[0])
        lengths = {name: Lengths(**content[name]) for name in ("query_characters", "document_characters")}
        card = DatasetCard(**{**content, **lengths, "languages": tuple(content["languages"])})
        return replace(card, uri=self._uri, source=card.uri)

    def documents(self) -> Iterator[tuple[str, str]]:
        """See `Dataset`."""
        return self._rows("SELECT id, text FROM documents ORDER BY number")

    def queries(self) -> Iterator[tuple[str, str]]:
        """See `Dataset`."""
        return self._rows("SELECT id, text FROM queries ORDER BY number")

    def judgements(self, query_ids: Sequence[str]) -> list[Judgements]:
        """See `Dataset`."""
        statement = "SELECT document_id, grade FROM judgements WHERE query_id = ?"
        with closing(self._connect()) as database:
            return [dict(database.execute(statement, (query,))) for query in query_ids]

    def texts(self, document_ids: Sequence[str]) -> list[str]:
        """See `Dataset`."""
        statement = "SELECT text FROM documents WHERE id = ?"
        with closing(self._connect()) as database:
            return [database.execute(statement, (document,)).fetchone()[0] for document in document_ids]

    def _rows(self, statement: str) -> Iterator[tuple[str, str]]:
        with closing(self._connect()) as database:
            found = database.execute(statement)
            while rows := found.fetchmany(_ROWS_AT_ONCE):
                yield from rows

    def _connect(self) -> sqlite3.Connection:
        # Blocks are read on whichever thread is free, one after the other.
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
