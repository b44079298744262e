"""Files of vectors, written block by block: a row a text, in the order of the texts."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.client import EmbedResult
from embedscale.client.results import UNTOLD


class VectorFile(ABC):
    """Takes blocks while it is open: writes beside the place, and moves the whole file there at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.part")

    def __enter__(self) -> Self:
        self._opened: BinaryIO = self._draft.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = False
        try:
            self.finish()  # after a failure too: what is left open complains when it is collected
            whole = kind is None
        finally:
            self._opened.close()
            if whole:
                self._draft.replace(self._path)
            else:
                self._draft.unlink()

    @abstractmethod
    def write(self, texts: Sequence[str], result: EmbedResult) -> None:
        """Append a block; all blocks have vectors of one length and encoding."""

    def finish(self) -> None:  # noqa: B027 - most kinds have nothing to write at the end
        """Write what comes last."""


class NpyFile(VectorFile):
    """A matrix of a row a text, as numpy reads it; the header is written anew when the number of rows is known."""

    _rows = 0
    _columns = 0
    _descr = "<f4"

    def write(self, texts: Sequence[str], result: EmbedResult) -> None:
        """Append a block."""
        if not self._rows:
            self._columns, self._descr = result.vectors.shape[1], result.vectors.dtype.str
            self._header()
        self._opened.write(result.vectors.tobytes())
        self._rows += len(texts)

    def finish(self) -> None:
        """Tell the number of rows. numpy leaves room for it in the first header."""
        self._opened.seek(0)
        self._header()

    def _header(self) -> None:
        described = {"descr": self._descr, "fortran_order": False, "shape": (self._rows, self._columns)}
        np.lib.format.write_array_header_1_0(self._opened, described)


class JsonLinesFile(VectorFile):
    """An object a line: text, token_count, truncated, cache_hit, embedding."""

    def write(self, texts: Sequence[str], result: EmbedResult) -> None:
        """Append a block."""
        for row in rows(texts, result):
            self._opened.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


class ParquetFile(VectorFile):
    """The same as columns; `embedding` is a list."""

    _writer: Any = None

    def __enter__(self) -> Self:
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError:
            raise CommandFailed("Parquet needs pyarrow: pip install 'embedscale[parquet]'", EXIT_USER) from None
        return super().__enter__()

    def write(self, texts: Sequence[str], result: EmbedResult) -> None:
        """Append a block."""
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        if not self._writer:
            columns = {
                "text": pa.string(),
                "token_count": pa.int64(),
                "truncated": pa.bool_(),
                "cache_hit": pa.bool_(),
                "embedding": pa.list_(pa.from_numpy_dtype(result.vectors.dtype)),
            }
            self._writer = ParquetWriter(self._opened, pa.schema(columns))
        self._writer.write_table(pa.Table.from_pylist(rows(texts, result), self._writer.schema))

    def finish(self) -> None:
        """Write the footer."""
        if self._writer:
            self._writer.close()


def rows(texts: Sequence[str], result: EmbedResult) -> list[dict[str, Any]]:
    """What is known of each text, floats with all their digits."""
    counts = (None if count == UNTOLD else int(count) for count in result.token_counts)
    known = zip(texts, counts, result.truncated_rows, result.cached_rows, result.vectors.tolist(), strict=True)
    return [
        {
            "text": text,
            "token_count": count,
            "truncated": bool(truncated),
            "cache_hit": bool(cached),
            "embedding": vector,
        }
        for text, count, truncated, cached, vector in known
    ]


KINDS: Mapping[str, type[VectorFile]] = {"npy": NpyFile, "jsonl": JsonLinesFile, "parquet": ParquetFile}


def vector_file(path: Path, kind: str | None) -> VectorFile:
    """File of a kind, by default that of its ending. Raises CommandFailed where neither tells."""
    known = kind or path.suffix.removeprefix(".")
    if known not in KINDS:
        raise CommandFailed(f"{path}: end it with .{', .'.join(KINDS)}, or give --format", EXIT_USER)
    return KINDS[known](path)
