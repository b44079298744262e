"""Data sets in LlamaIndex's layout: what is read, and what is said of those that break it."""

import json
import re
from typing import Any

import pytest
from embedscale.evaluator.llama_index_format import parse

from embedscale.core.errors import DatasetInvalid

URI = "file:///data/set.json"


def good() -> dict[str, Any]:
    return {
        "queries": {"q1": "Où ?", "q2": "When?"},
        "corpus": {"d1": "Ici.", "d2": "Now.", "d3": "Later."},
        "relevant_docs": {"q1": ["d1"], "q2": ["d3", "d2", "d3"]},
        "mode": "text",
    }


def refusal(content: Any) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(DatasetInvalid) as caught:
        parse(URI, raw)
    assert caught.value.field == "dataset"
    assert caught.value.message.startswith(f"{URI}: ")
    return caught.value.message.removeprefix(f"{URI}: ")


def test_a_good_file_is_read() -> None:
    dataset = parse(URI, json.dumps(good()).encode())
    assert dataset.uri == URI
    assert dataset.query_texts == good()["queries"]
    assert dataset.corpus == good()["corpus"]
    assert list(dataset.corpus) == ["d1", "d2", "d3"]


def test_a_document_named_twice_for_a_query_counts_once() -> None:
    assert parse(URI, json.dumps(good()).encode()).qrels == {"q1": {"d1": 1}, "q2": {"d3": 1, "d2": 1}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_encoding_of_json_is_read(encoding: str) -> None:
    content = json.dumps(good(), ensure_ascii=False).encode(encoding)
    assert parse(URI, content).query_texts["q1"] == "Où ?"


def test_the_digest_is_of_the_content_and_not_of_its_layout() -> None:
    plain = parse(URI, json.dumps(good()).encode())
    assert (
        parse("file:///other", json.dumps(good(), indent=2, sort_keys=True).encode()).card.digest == plain.card.digest
    )
    for table, key, value in (("queries", "q1", "Why?"), ("corpus", "d3", "Never."), ("relevant_docs", "q1", ["d2"])):
        changed = good()
        changed[table][key] = value
        assert parse(URI, json.dumps(changed).encode()).card.digest != plain.card.digest


@pytest.mark.parametrize("content", [b"", b"{", b"queries", b'{"queries": "\xff"}', json.dumps(good()).encode()[:-1]])
def test_what_is_not_json_is_refused(content: bytes) -> None:
    assert refusal(content).startswith("not JSON: ")


def test_json_nested_too_deeply_is_refused() -> None:
    refusal(b"[" * 200_000 + b"]" * 200_000)


@pytest.mark.parametrize("content", [[], "text", 7, None, [good()]])
def test_what_is_not_an_object_is_refused(content: Any) -> None:
    assert refusal(content) == "must be a JSON object with queries, corpus and relevant_docs"


@pytest.mark.parametrize("table", ["queries", "corpus", "relevant_docs"])
def test_a_missing_table_is_named(table: str) -> None:
    content = good()
    del content[table]
    assert refusal(content) == f"{table} is missing or not an object"


@pytest.mark.parametrize("table", ["queries", "corpus", "relevant_docs"])
@pytest.mark.parametrize("value", [None, [], "text", ["q1"]])
def test_a_table_that_is_not_an_object_is_named(table: str, value: Any) -> None:
    assert refusal(good() | {table: value}) == f"{table} is missing or not an object"


@pytest.mark.parametrize("table", ["queries", "corpus", "relevant_docs"])
def test_an_empty_table_is_named(table: str) -> None:
    assert refusal(good() | {table: {}}) == f"{table} is empty"


@pytest.mark.parametrize("table", ["queries", "corpus"])
@pytest.mark.parametrize("text", ["", None, 7, ["text"], {"text": "a"}])
def test_an_empty_text_or_what_is_no_text_is_named(table: str, text: Any) -> None:
    content = good()
    content[table] = dict.fromkeys(content[table], "text") | {next(iter(content[table])): text}
    key = next(iter(content[table]))
    assert refusal(content) == f"{table}['{key}'] is not a text, or empty"


@pytest.mark.parametrize("unknown", ["d9", "", "D1", 1, None, ["d1"], {"id": "d1"}])
def test_an_unknown_document_id_is_named_even_if_it_is_no_text(unknown: Any) -> None:
    content = good()
    content["relevant_docs"]["q1"] = ["d1", unknown]
    assert refusal(content) == f"relevant_docs['q1'] names unknown document {unknown!r}"


def test_an_unknown_query_id_is_named() -> None:
    content = good()
    content["relevant_docs"]["q9"] = ["d1"]
    assert refusal(content) == "relevant_docs names unknown query 'q9'"


def test_a_query_without_an_entry_is_named() -> None:
    content = good()
    del content["relevant_docs"]["q2"]
    assert refusal(content) == "relevant_docs lacks query 'q2'"


@pytest.mark.parametrize("ids", [[], None, "d1", {"d1": 1}, 7])
def test_a_query_without_relevant_documents_is_named(ids: Any) -> None:
    content = good()
    content["relevant_docs"]["q2"] = ids
    assert refusal(content) == "relevant_docs['q2'] is not a list of ids, or empty"


@pytest.mark.parametrize("table", ["queries", "corpus"])
def test_a_text_that_utf8_cannot_carry_is_named(table: str) -> None:
    content = good()
    key = next(iter(content[table]))
    content[table][key] = "half of a pair: \ud83d"
    assert f"{table}['{key}']" in refusal(content)


def test_an_id_that_utf8_cannot_carry_is_refused() -> None:
    content = good()
    content["corpus"]["\ud83d"] = "text"
    assert "corpus" in refusal(content)


def test_many_faults_are_counted_and_the_first_three_shown() -> None:
    content = good()
    content["queries"] |= {f"x{number}": "" for number in range(10)}
    # Each of the ten is empty, and has no relevant documents.
    message = refusal(content)
    assert re.findall(r"queries\['(x\d)'\]", message) == ["x0", "x1", "x2"]
    assert message.endswith("(and 17 more)")


def test_three_faults_are_all_shown_without_a_count() -> None:
    assert refusal({}).count(" is missing") == 3
    assert "more)" not in refusal({})
