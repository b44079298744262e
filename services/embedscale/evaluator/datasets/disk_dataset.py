"""A data set in a file: read a little at a time, whatever its size."""

import json
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from embedscale.core.dataset import DatasetCard, Judgements, Lengths

_ROWS_AT_ONCE = 512


class DiskDataset:
    """The port `Dataset` over a finished file, which is never changed; it may be removed while it is read.

    Raises sqlite3.OperationalError if there is no such file.
    """

    def __init__(self, path: Path, uri: str) -> None:
        self._uri = uri
        # Rows are read on whichever threads are free.
        self._database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        weakref.finalize(self, self._database.close)

    @cached_property
    def card(self) -> DatasetCard:
        """See `Dataset`."""
        content = json.loads(self._database.execute("SELECT content FROM card").fetchone()[0])
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
        return [dict(self._database.execute(statement, (query,))) for query in query_ids]

    def texts(self, document_ids: Sequence[str]) -> list[str]:
        """See `Dataset`."""
        statement = "SELECT text FROM documents WHERE id = ?"
        return [self._database.execute(statement, (document,)).fetchone()[0] for document in document_ids]

    def _rows(self, statement: str) -> Iterator[tuple[str, str]]:
        found = self._database.execute(statement)
        while rows := found.fetchmany(_ROWS_AT_ONCE):
            yield from rows
