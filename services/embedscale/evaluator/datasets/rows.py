"""Rows of tables, each with its file and line: JSON lines, tab-separated values, Parquet."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from embedscale.core.dataset import FaultKind
from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.datasets.files import SourceFile
from embedscale.evaluator.datasets.intake import Intake
from embedscale.evaluator.datasets.json_stream import why_not_json

SUFFIXES = (".jsonl", ".tsv", ".parquet")
QRELS_COLUMNS = ("query-id", "corpus-id", "score")
_MOST_BYTES = 2**26
_ROWS_AT_ONCE = 1024

Row = tuple[str, dict[str, Any]]


def rows_of(file: SourceFile, intake: Intake) -> Iterator[Row]:
    """Read rows as their place and their values by column; what is no row is a fault."""
    with file.open() as opened:
        if file.name.endswith(".parquet"):
            yield from _parquet(opened, file.name)
        elif file.name.endswith(".tsv"):
            yield from _qrels(opened, file.name, intake)
        else:
            yield from _json_lines(opened, file.name, intake)


def _json_lines(file: BinaryIO, name: str, intake: Intake) -> Iterator[Row]:
    for place, line in _lines(file, name, intake):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            intake.fault(FaultKind.BAD_JSON, place, f"not JSON: {why_not_json(error)}")
            continue
        if isinstance(row, dict):
            yield place, row
        else:
            intake.fault(FaultKind.WRONG_TYPE, place, "not a JSON object")


def _qrels(file: BinaryIO, name: str, intake: Intake) -> Iterator[Row]:
    lines = _lines(file, name, intake)
    for number, (place, line) in enumerate(lines):
        values = line.split("\t")
        if number == 0:
            if tuple(values) == QRELS_COLUMNS:
                continue
            intake.fault(FaultKind.MISSING_HEADER, place, f"the header {' '.join(QRELS_COLUMNS)} is missing")
        if len(values) == len(QRELS_COLUMNS):
            yield place, dict(zip(QRELS_COLUMNS, values, strict=True))
        else:
            intake.fault(FaultKind.WRONG_TYPE, place, f"has {len(values)} columns, not {len(QRELS_COLUMNS)}")


def _lines(file: BinaryIO, name: str, intake: Intake) -> Iterator[tuple[str, str]]:
    """Lines that are not empty, with their places."""
    for number, raw in enumerate(iter(lambda: file.readline(_MOST_BYTES), b""), 1):
        place = f"{name}:{number}"
        if len(raw) == _MOST_BYTES:
            raise DatasetInvalid(f"{place}: the line has {_MOST_BYTES} bytes or more", field="dataset")
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            intake.fault(FaultKind.BAD_ENCODING, place, f"byte {error.start + 1} is not UTF-8")
            continue
        if line:
            yield place, line


def _parquet(file: BinaryIO, name: str) -> Iterator[Row]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise DatasetInvalid(
            f"{name}: Parquet needs pyarrow: pip install 'embedscale[parquet]'", field="dataset"
        ) from None
    try:
        number = 0
        for batch in parquet.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                number += 1
                yield f"{name}:{number}", row
    except arrow.ArrowException as error:
        raise DatasetInvalid(f"{name}: not Parquet that can be read: {type(error).__name__}", field="dataset") from None
