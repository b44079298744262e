"""Data sets in LlamaIndex's layout: what is read, and what is said of those that break it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from embedscale.core.dataset import Dataset
from tests import dataset_files

URI = "file:///data/set.json"


def good() -> dict[str, Any]:
    return {
        "queries": {"q1": "Où ?", "q2": "When?"},
        "corpus": {"d1": "Ici.", "d2": "Now.", "d3": "Later."},
        "relevant_docs": {"q1": ["d1"], "q2": ["d3", "d2", "d3"]},
        "mode": "text",
    }


class Folder:
    """Reads what is written to `set.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def parse(self, content: Any) -> Dataset:
        return dataset_files.read(self.path, self._written(content))

    def refusal(self, content: Any) -> str:
        return dataset_files.refusal(self.path, self._written(content)).replace("set.json: ", "")

    def _written(self, content: Any) -> Path:
        file = self.path / "set.json"
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return file


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_good_file_is_read(folder: Folder) -> None:
    dataset = folder.parse(good())
    assert dict(dataset.queries()) == good()["queries"]
    assert dict(dataset.documents()) == good()["corpus"]
    assert dataset.texts(["d3", "d1"]) == ["Later.", "Ici."]
    assert dataset.card.uri.endswith("set.json")


def test_a_document_named_twice_for_a_query_counts_once(folder: Folder) -> None:
    assert folder.parse(good()).judgements(["q1", "q2"]) == [{"d1": 1}, {"d3": 1, "d2": 1}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_encoding_of_json_is_read(folder: Folder, encoding: str) -> None:
    content = json.dumps(good(), ensure_ascii=False).encode(encoding)
    assert dict(folder.parse(content).queries())["q1"] == "Où ?"


def test_the_digest_is_of_the_content_and_not_of_its_layout(folder: Folder) -> None:
    plain = folder.parse(good())
    assert folder.parse(json.dumps(good(), indent=2, sort_keys=True).encode()).card.digest == plain.card.digest
    for table, key, value in (("queries", "q1", "Why?"), ("corpus", "d3", "Never."), ("relevant_docs", "q1", ["d2"])):
        changed = good()
        changed[table][key] = value
        assert folder.parse(changed).card.digest != plain.card.digest


@pytest.mark.parametrize("content", [b"", b"{", b"queries", b'{"queries": "\xff"}', json.dumps(good()).encode()[:-1]])
def test_what_is_not_json_is_refused(folder: Folder, content: bytes) -> None:
    assert folder.refusal(content).startswith("not JSON: ")


def test_json_nested_too_deeply_is_refused(folder: Folder) -> None:
    folder.refusal(b"[" * 200_000 + b"]" * 200_000)


@pytest.mark.parametrize("content", [[], "text", 7, None, [good()]])
def test_what_is_not_an_object_is_refused(folder: Folder, content: Any) -> None:
    assert folder.refusal(content).startswith(
        "an unknown format; there is LlamaIndex JSON (queries, corpus, relevant_docs)"
    )


@pytest.mark.parametrize("table", ["queries", "corpus", "relevant_docs"])
def test_a_missing_table_is_named(folder: Folder, table: str) -> None:
    content = good()
    del content[table]
    assert folder.refusal(content).startswith(f"{table} is missing or not an object")


@pytest.mark.parametrize("table", ["queries", "corpus", "relevant_docs"])
@pytest.mark.parametrize("value", [None, [], "text", ["q1"]])
def test_a_table_that_is_not_an_object_is_named(folder: Folder, table: str, value: Any) -> None:
    assert folder.refusal(good() | {table: value}).startswith(f"{table} is missing or not an object")


@pytest.mark.parametrize("table", ["queries", "corpus", "relevant_docs"])
def test_an_empty_table_is_named(folder: Folder, table: str) -> None:
    assert folder.refusal(good() | {table: {}}).startswith(f"{table} is empty")


@pytest.mark.parametrize("table", ["queries", "corpus"])
@pytest.mark.parametrize("text", ["", None, 7, ["text"], {"text": "a"}])
def test_an_empty_text_or_what_is_no_text_is_named(folder: Folder, table: str, text: Any) -> None:
    content = good()
    content[table] = dict.fromkeys(content[table], "text") | {next(iter(content[table])): text}
    key = next(iter(content[table]))
    said = "the text is empty" if text == "" else "not a text"
    assert folder.refusal(content).partition(";")[0].startswith(f"{table}['{key}']: the text is ")
    assert said in folder.refusal(content).partition(";")[0]


@pytest.mark.parametrize("unknown", ["d9", "", "D1", 1, None, ["d1"], {"id": "d1"}])
def test_an_unknown_document_id_is_named_even_if_it_is_no_text(folder: Folder, unknown: Any) -> None:
    content = good()
    content["relevant_docs"]["q1"] = ["d1", unknown]
    shown = f"unknown document {unknown!r}" if isinstance(unknown, str) else f"{unknown!r}, which is no id"
    assert folder.refusal(content) == f"relevant_docs['q1']: names {shown}"


def test_an_unknown_query_id_is_named(folder: Folder) -> None:
    content = good()
    content["relevant_docs"]["q9"] = ["d1"]
    assert folder.refusal(content) == "relevant_docs['q9']: names unknown query 'q9'"


def test_a_query_without_an_entry_is_named(folder: Folder) -> None:
    content = good()
    del content["relevant_docs"]["q2"]
    assert folder.refusal(content) == "queries['q2']: relevant_docs lacks query 'q2'"


@pytest.mark.parametrize("ids", [[], None, "d1", {"d1": 1}, 7])
def test_a_query_without_relevant_documents_is_named(folder: Folder, ids: Any) -> None:
    content = good()
    content["relevant_docs"]["q2"] = ids
    assert folder.refusal(content).startswith("relevant_docs['q2']: is not a list of ids, or empty")


@pytest.mark.parametrize("table", ["queries", "corpus"])
def test_a_text_that_utf8_cannot_carry_is_named(folder: Folder, table: str) -> None:
    content = good()
    key = next(iter(content[table]))
    content[table][key] = "half of a pair: \ud83d"
    assert f"{table}['{key}']" in folder.refusal(content)


def test_an_id_that_utf8_cannot_carry_is_refused(folder: Folder) -> None:
    content = good()
    content["corpus"]["\ud83d"] = "text"
    assert "corpus" in folder.refusal(content)


def test_many_faults_are_counted_and_the_first_three_shown(folder: Folder) -> None:
    content = good()
    content["queries"] |= {f"x{number}": "" for number in range(10)}
    message = folder.refusal(content)
    assert re.findall(r"queries\['(x\d)'\]", message) == ["x0", "x1", "x2"]
    assert message.endswith("(and 7 more)")


def test_three_faults_are_all_shown_without_a_count(folder: Folder) -> None:
    assert folder.refusal({"queries": None}).count(" is missing") == 3
    assert "more)" not in folder.refusal({"queries": None})
