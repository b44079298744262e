"""What is wrong with a data set is named by its place, and left out where that is asked for."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.datasets.intake import content_id
from tests.dataset_files import content, lines, read, refusal, take_in
from tests.unit.test_dataset_formats import QRELS, beir, hub_tables, parquet


def replace_line(path: Path, number: int, line: bytes) -> None:
    found = path.read_bytes().splitlines(keepends=True)
    found[number - 1] = line
    path.write_bytes(b"".join(found))


@pytest.mark.parametrize(
    ("file", "number", "line", "said", "kind"),
    [
        ("corpus.jsonl", 2, b'{"_id": "d2", "text": ""}\n', "corpus.jsonl:2: the text is empty", "empty_text"),
        ("corpus.jsonl", 2, b'{"_id": "d2", "text": "   "}\n', "corpus.jsonl:2: the text is empty", "empty_text"),
        ("corpus.jsonl", 2, b'{"_id": "d2", "text": 7}\n', "corpus.jsonl:2: the text is a number", "wrong_type"),
        ("corpus.jsonl", 2, b'{"_id": "d2"}\n', "corpus.jsonl:2: the text is missing", "wrong_type"),
        ("corpus.jsonl", 2, b'{"text": "Cows."}\n', "corpus.jsonl:2: the id is None", "wrong_type"),
        ("corpus.jsonl", 2, b'["d2", "Cows."]\n', "corpus.jsonl:2: not a JSON object", "wrong_type"),
        ("corpus.jsonl", 2, b'{"_id": "d2", "text\n', "corpus.jsonl:2: not JSON: ", "bad_json"),
        ("corpus.jsonl", 2, b'{"_id": "d2", "text": "\xff"}\n', "corpus.jsonl:2: byte 24 is not UTF-8", "bad_encoding"),
        ("corpus.jsonl", 2, b'{"_id": "d2", "text": "\\ud83d"}\n', "corpus.jsonl:2: has half of a sur", "bad_encoding"),
        ("corpus.jsonl", 3, b'{"_id": "d1", "text": "Cats."}\n',
         "corpus.jsonl:3: the document 'd1' was there before, at corpus.jsonl:1", "duplicate_id"),
        ("queries.jsonl", 3, b'{"_id": "q1", "text": "Why?"}\n',
         "queries.jsonl:3: the query 'q1' was there before, at queries.jsonl:1", "duplicate_id"),
        ("qrels/test.tsv", 3, b"q2\td9\t1\n", "qrels/test.tsv:3: names unknown document 'd9'", "dangling_judgement"),
        ("qrels/test.tsv", 3, b"q9\td2\t1\n", "qrels/test.tsv:3: names unknown query 'q9'", "dangling_judgement"),
        ("qrels/test.tsv", 3, b"q1\td1\t1\n", "qrels/test.tsv:3: query 'q1' and document 'd1' were judged before, "
         "at qrels/test.tsv:2", "duplicate_judgement"),
        ("qrels/test.tsv", 3, b"q2\td2\tyes\n", "qrels/test.tsv:3: the grade is 'yes'", "wrong_type"),
        ("qrels/test.tsv", 3, b"q2\td2\t0.5\n", "qrels/test.tsv:3: the grade is '0.5'", "wrong_type"),
        ("qrels/test.tsv", 3, b"q2\td2\n", "qrels/test.tsv:3: has 2 columns, not 3", "wrong_type"),
        ("qrels/test.tsv", 1, b"", "qrels/test.tsv:1: the header query-id corpus-id score is missing",
         "missing_header"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_file_and_line_and_skipped_where_lenient(
    tmp_path: Path, file: str, number: int, line: bytes, said: str, kind: str
) -> None:
    folder = beir(tmp_path / "set")
    replace_line(folder / file, number, line)
    assert said in refusal(tmp_path, folder)
    imported = take_in(tmp_path, folder, lenient=True)
    assert imported.dataset.card.skipped[kind] >= 1
    assert said in "; ".join(map(str, imported.faults))
    assert all(text.strip() for text in content(imported.dataset)[1].values())


def test_what_is_said_of_a_fault_stays_short(tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    replace_line(folder / "qrels" / "test.tsv", 3, b"q2\t" + b"d" * 10**6 + b"\t1\n")
    assert len(refusal(tmp_path, folder)) < 400


def test_a_missing_header_costs_no_judgement_where_lenient(tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    replace_line(folder / "qrels" / "test.tsv", 1, b"")
    assert content(take_in(tmp_path, folder, lenient=True).dataset)[2] == QRELS


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"positives": ["b"]}, "set.jsonl:2 query: the text is missing"),
        ({"query": "", "positives": ["b"]}, "set.jsonl:2 query: the text is empty"),
        ({"query": "a"}, "set.jsonl:2: positives is missing or not a list"),
        ({"query": "a", "positives": "b"}, "set.jsonl:2: positives is missing or not a list"),
        ({"query": "a", "positives": ["b", 7]}, "set.jsonl:2 positives[1]: the text is a number"),
        ({"query": "a", "positives": ["b"], "negatives": ["c", ""]}, "set.jsonl:2 negatives[1]: the text is empty"),
        ({"query": "a", "positives": ["b"], "negatives": ["b"]}, "set.jsonl:2 negatives[0]: query "),
    ],
)
def test_faults_of_json_lines_are_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = lines(tmp_path / "set.jsonl", [{"query": "x", "positives": ["y"]}, row])
    assert said in refusal(tmp_path, path)
    assert content(take_in(tmp_path, path, lenient=True).dataset)[1][content_id("y")] == "y"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"paragraphs": 7}, "squad.json: data[0]: paragraphs is missing or not a list"),
        ({"paragraphs": [7]}, "squad.json: data[0].paragraphs[0]: is not an object"),
        ({"paragraphs": [{"context": "", "qas": []}]}, "squad.json: data[0].paragraphs[0].context: the text is empty"),
        ({"paragraphs": [{"context": "x"}]}, "squad.json: data[0].paragraphs[0]: qas is missing or not a list"),
        ({"paragraphs": [{"context": "x", "qas": [{"id": "1"}]}]},
         "squad.json: data[0].paragraphs[0].qas[0]: the text is missing"),
    ],
)  # fmt: skip
def test_faults_of_squad_are_named_with_their_path(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "squad.json").write_text(json.dumps({"data": [change]}))
    assert refusal(tmp_path, tmp_path / "squad.json").startswith(said)


def test_a_fault_in_parquet_is_named_with_its_row(tmp_path: Path) -> None:
    hub_tables()(tmp_path / "set")
    parquet(tmp_path / "set" / "queries" / "queries-00000-of-00001.parquet", [
        {"_id": "q1", "text": "Cats?"}, {"_id": "q2", "text": ""}, {"_id": "q3", "text": "Who?"},
    ])  # fmt: skip
    assert "queries/queries-00000-of-00001.parquet:2: the text is empty" in refusal(tmp_path, tmp_path / "set")


def test_a_set_without_documents_or_queries_is_refused_even_if_lenient(tmp_path: Path) -> None:
    folder = beir(tmp_path / "set", corpus={"d1": " "})
    with pytest.raises(DatasetInvalid, match="has 0 documents"):
        take_in(tmp_path, folder, lenient=True)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    lines(folder / "a.jsonl", [{}])
    lines(folder / "b.jsonl", [{}])
    assert "none is a corpus" in refusal(tmp_path, folder)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(DatasetInvalid, match="not a zip archive"):
        read(tmp_path, tmp_path / "bad.zip")
    (tmp_path / "bad.json.gz").write_bytes(gzip.compress(b'{"queries": {' + b" " * 10**6)[:-20])
    with pytest.raises(DatasetInvalid, match="the compression is broken"):
        read(tmp_path, tmp_path / "bad.json.gz")
