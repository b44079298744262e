"""BEIR's folder, its three files one after the other with a line of === between: what is read is in the files."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from tests.fuzz.importing import checked
from tests.fuzz.mutating import mutated_lines

_BETWEEN = b"\n===\n"
_NAMES = ("corpus.jsonl", "queries.jsonl", "qrels/test", "README.md")


def check(data: bytes) -> None:
    files = dict(zip(_NAMES, data.split(_BETWEEN), strict=False))
    if len(files) < len(_NAMES) - 1:
        return
    qrels = files.pop("qrels/test")
    suffix = ".jsonl" if qrels.startswith(b"{") else ".tsv"
    content = checked({**files, f"qrels/test{suffix}": qrels})
    if content is None:
        return
    assert content.documents == _table(files["corpus.jsonl"])
    assert content.queries.items() <= _table(files["queries.jsonl"]).items()
    rows = list(_judged(qrels, suffix))
    assert len(rows) == sum(map(len, content.grades.values()))
    for query, document, grade in rows:
        assert content.grades[str(query)][str(document)] == float(grade)


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_lines(data, pick)


def _judged(data: bytes, suffix: str) -> Iterator[Any]:
    lines = [line.rstrip("\r") for line in data.decode("utf-8-sig").split("\n") if line.rstrip("\r")]
    if suffix == ".tsv":
        return (line.split("\t") for line in lines[1:])
    return ((row["query-id"], row["corpus-id"], row["score"]) for row in map(json.loads, lines))


def _table(data: bytes) -> dict[str, str]:
    table = {}
    for line in data.decode("utf-8-sig").split("\n"):
        if line.rstrip("\r"):
            row = json.loads(line)
            title, text = row.get("title"), row["text"]
            with_title = f"{title} {text}".strip() if isinstance(title, str) and title else text
            table[str(row.get("_id", row.get("id")))] = with_title
    return table
