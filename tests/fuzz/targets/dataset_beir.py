"""BEIR's folder, its three files one after the other with a line of === between: what is read is in the files."""

import json
from random import Random

from tests.fuzz.importing import checked
from tests.fuzz.mutating import mutated_lines

_BETWEEN = b"\n===\n"
_NAMES = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "README.md")


def check(data: bytes) -> None:
    files = dict(zip(_NAMES, data.split(_BETWEEN), strict=False))
    if len(files) < len(_NAMES) - 1:
        return
    content = checked(files)
    if content is None:
        return
    assert content.documents == _table(files["corpus.jsonl"])
    assert content.queries.items() <= _table(files["queries.jsonl"]).items()
    rows = [line.split("\t") for line in files["qrels/test.tsv"].decode("utf-8-sig").split("\n") if line.strip("\r")]
    assert len(rows) == 1 + sum(map(len, content.grades.values()))
    for query, document, grade in rows[1:]:
        assert content.grades[query][document] == float(grade)


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_lines(data, pick)


def _table(data: bytes) -> dict[str, str]:
    table = {}
    for line in data.decode("utf-8-sig").split("\n"):
        if line.rstrip("\r"):
            row = json.loads(line)
            title, text = row.get("title"), row["text"]
            with_title = f"{title} {text}".strip() if isinstance(title, str) and title else text
            table[str(row.get("_id", row.get("id")))] = with_title
    return table
