"""Files of a data set in the layouts that others read: the same rows in the same order are always the same bytes.

Rows are read once and never held, so that a set may be larger than memory.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.client import EvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb

Texts = Iterable[tuple[str, str]]
"""Ids and texts."""
Grades = Iterable[tuple[str, Mapping[str, int]]]
"""Ids of queries, and grades by document id."""

_QRELS = "query-id\tcorpus-id\tscore\n"
_LINE_BREAKING = ("\t", "\n", "\r")


def write_set(folder: Path, made: pb.GenerateDatasetResponse, reader: EvaluationClient) -> None:
    """Write a finished set in both layouts, with its manifest: the folder is a data set of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, path in ((write_llama_index, folder / "llama_index.json"), (write_beir, folder)):
        uri = made.dataset.uri
        kind(path, reader.queries(uri), reader.documents(uri), reader.judgements(uri))
    (folder / "manifest.json").write_text(made.manifest, "utf-8")


def write_llama_index(path: Path, queries: Texts, corpus: Texts, judgements: Grades) -> None:
    """Write one JSON file as LlamaIndex's `EmbeddingQAFinetuneDataset` has it; only grades above 0 are in it."""
    relevant = ((query, [key for key, grade in grades.items() if grade > 0]) for query, grades in judgements)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("{\n")
        for name, members in (("queries", queries), ("corpus", corpus), ("relevant_docs", relevant)):
            _write_object(file, name, members)
        file.write('    "mode": "text"\n}\n')


def write_beir(folder: Path, queries: Texts, corpus: Texts, judgements: Grades) -> None:
    """Write `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv`. Titles are empty: readers put them before texts.

    Raises CommandFailed for an id with a tab or a line break, which a table cannot hold.
    """
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "queries.jsonl", ({"_id": key, "text": text} for key, text in queries))
    _write_lines(folder / "corpus.jsonl", ({"_id": key, "title": "", "text": text} for key, text in corpus))
    with (folder / "qrels" / "test.tsv").open("w", encoding="utf-8", newline="\n") as file:
        file.write(_QRELS)
        file.writelines(_qrels(judgements))


def _write_object(file: TextIO, name: str, members: Iterable[tuple[str, object]]) -> None:
    file.write(f'    "{name}": {{')
    separator = "\n"
    for key, value in members:
        file.write(f"{separator}        {_json(key)}: {_json(value)}")
        separator = ",\n"
    file.write("\n    },\n")


def _write_lines(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{_json(row)}\n" for row in rows)


def _qrels(judgements: Grades) -> Iterator[str]:
    for query, grades in judgements:
        for document, grade in grades.items():
            if any(character in query + document for character in _LINE_BREAKING):
                raise CommandFailed(
                    f"{query!r}, {document!r}: no id in a table may have a tab or line break", EXIT_USER
                )
            yield f"{query}\t{document}\t{grade}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
