"""JSON lines of queries and texts: what is read strictly is what json.loads reads of each line."""

import json
from random import Random

from tests.fuzz.importing import checked
from tests.fuzz.mutating import mutated_lines


def check(data: bytes) -> None:
    content = checked({"set.jsonl": data})
    if content is None:
        return
    lines = [line for line in data.decode("utf-8-sig").split("\n") if line.rstrip("\r\n")]
    rows = [json.loads(line) for line in lines]
    texts = {text for row in rows for text in [*row["positives"], *row.get("negatives", [])]}
    assert set(content.queries.values()) == {row["query"] for row in rows}
    assert set(content.documents.values()) == texts
    by_text = {text: key for key, text in content.documents.items()}
    keys = {text: key for key, text in content.queries.items()}
    for row in rows:
        assert all(content.grades[keys[row["query"]]][by_text[text]] in (0, 1) for text in row["positives"])


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_lines(data, pick)
