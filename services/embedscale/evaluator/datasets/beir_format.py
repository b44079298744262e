"""Reads BEIR's layout, and those of the hub that follow it: tables corpus, queries and qrels, in JSON lines or Parquet.

BEIR: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`. Hub: `corpus/*.parquet`, `queries/*.parquet`, and the
judgements in the configuration `default`, `data` or `qrels`. MTEB in several languages: `<subset>-corpus` and so on.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.datasets.files import Files, SourceFile
from embedscale.evaluator.datasets.intake import Intake, as_grade, as_id
from embedscale.evaluator.datasets.rows import SUFFIXES, rows_of

_TABLE = re.compile(r"(?:(?P<subset>.+)-)?(?P<table>corpus|queries|qrels|default|data)")
_SHARD = re.compile(r"-\d+-of-\d+$")
_QRELS = ("qrels", "default", "data")
_DEFAULT_SPLIT = "test"


@dataclass(frozen=True)
class TableFile:
    """A file that is one of a set's tables, or a part of one."""

    file: SourceFile
    subset: str
    table: str
    split: str


def tables(files: Files) -> list[TableFile]:
    """Recognise tables by their names; empty unless there is a corpus with queries."""
    found = [table for file in files.values() if (table := _table(file))]
    return found if {"corpus", "queries"} <= {table.table for table in found} else []


def read(uri: str, found: Sequence[TableFile], options: Mapping[str, str], intake: Intake) -> None:
    """Read one split of one subset. Raises DatasetInvalid that names the subsets or splits there are."""
    intake.judged_only = True
    chosen = _of_subset(uri, found, options.get("subset", ""))
    split = options.get("split", _DEFAULT_SPLIT)
    for file in _qrels(uri, chosen, split):
        for place, row in rows_of(file, intake):
            query, document = as_id(row.get("query-id")), as_id(row.get("corpus-id"))
            intake.judgement(query, document, as_grade(row.get("score")), place)
    for file in _texts(chosen, "queries", split):
        for place, row in rows_of(file, intake):
            intake.query(_id(row), row.get("text"), place)
    for file in _texts(chosen, "corpus", split):
        for place, row in rows_of(file, intake):
            intake.document(_id(row), _joined(row), place)


def _table(file: SourceFile) -> TableFile | None:
    path = PurePosixPath(file.name)
    if path.suffix not in SUFFIXES:
        return None
    parts = [*path.parts[:-1], _SHARD.sub("", path.stem)]
    for depth, part in enumerate(parts):
        if match := _TABLE.fullmatch(part):
            split = parts[-1] if depth < len(parts) - 1 else ""
            return TableFile(file, match["subset"] or "", match["table"], split)
    return None


def _of_subset(uri: str, found: Sequence[TableFile], subset: str) -> list[TableFile]:
    subsets = sorted({table.subset for table in found if table.table == "corpus"})
    wanted = subset or subsets[0]
    if wanted not in subsets or (len(subsets) > 1 and not subset):
        raise DatasetInvalid(
            f"{uri}: no subset {subset!r}; there are {', '.join(subsets)}: add ?subset=NAME", field="dataset"
        )
    return [table for table in found if table.subset == wanted]


def _qrels(uri: str, found: Sequence[TableFile], split: str) -> list[SourceFile]:
    judged = next((named for name in _QRELS if (named := [table for table in found if table.table == name])), [])
    files = [table.file for table in judged if table.split == split]
    if not files:
        splits = ", ".join(sorted({table.split for table in judged})) or "none"
        raise DatasetInvalid(f"{uri}: no split {split!r}; there are {splits}: add ?split=NAME", field="dataset")
    return files


def _texts(found: Iterable[TableFile], name: str, split: str) -> list[SourceFile]:
    """Files of the table: those of the split where it is split too."""
    of_table = [table for table in found if table.table == name]
    return [table.file for table in of_table if table.split == split] or [table.file for table in of_table]


def _id(row: Mapping[str, Any]) -> Any:
    return as_id(row.get("_id", row.get("id")))


def _joined(row: Mapping[str, Any]) -> Any:
    """Title and text with a space between, as BEIR joins them."""
    title, text = row.get("title"), row.get("text")
    return f"{title} {text}".strip() if isinstance(text, str) and isinstance(title, str) and title else text
