"""Formats of data sets: each is recognised by what it holds, and read back as it was written."""

import gzip
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.dataset import MemoryDataset
from embedscale.evaluator.datasets.intake import content_id
from tests.dataset_files import content, lines, qrels, read, refusal

QUERIES = {"q1": "Where do cats sleep?", "q2": "What do cows eat?", "q3": "Who knows?"}
CORPUS = {"d1": "Cats sleep on sofas.", "d2": "Cows eat grass.", "d3": "Stones do nothing."}
QRELS = {"q1": {"d1": 2, "d3": -1}, "q2": {"d2": 1}, "q3": {"d3": 0}}


def digest(queries: Mapping[str, str], corpus: Mapping[str, str], judged: Mapping[str, Mapping[str, int]]) -> str:
    return MemoryDataset("", queries, corpus, judged).card.digest


def rows(judged: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, int]]:
    return [(query, document, grade) for query, grades in judged.items() for document, grade in grades.items()]


def beir(
    folder: Path,
    queries: Mapping[str, str] = QUERIES,
    corpus: Mapping[str, str] = CORPUS,
    judged: Mapping[str, Mapping[str, int]] = QRELS,
) -> Path:
    lines(folder / "corpus.jsonl", [{"_id": key, "title": "", "text": text} for key, text in corpus.items()])
    lines(folder / "queries.jsonl", [{"_id": key, "text": text} for key, text in queries.items()])
    qrels(folder / "qrels" / "test.tsv", rows(judged))
    return folder


def zipped(folder: Path, prefix: str = "") -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def packed(path: Path, suffix: str) -> Path:
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    target = path.with_name(path.name + suffix)
    target.write_bytes(pack(path.read_bytes()))
    path.unlink()
    return target


def test_a_beir_folder_is_read_with_its_grades(tmp_path: Path) -> None:
    dataset = read(tmp_path, beir(tmp_path / "set"))
    assert content(dataset) == (QUERIES, CORPUS, QRELS)
    assert dataset.card.digest == digest(QUERIES, CORPUS, QRELS)
    assert (dataset.card.query_count, dataset.card.document_count, dataset.card.unanswered_count) == (3, 3, 1)
    assert dataset.card.document_characters.maximum == 20


@pytest.mark.parametrize("prefix", ["", "scifact/"])
def test_a_beir_zip_is_the_same_set(tmp_path: Path, prefix: str) -> None:
    assert content(read(tmp_path, zipped(beir(tmp_path / "set"), prefix))) == (QUERIES, CORPUS, QRELS)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_any_file_may_be_compressed(tmp_path: Path, suffix: str) -> None:
    folder = beir(tmp_path / "set")
    for file in (folder / "corpus.jsonl", folder / "qrels" / "test.tsv"):
        packed(file, suffix)
    assert content(read(tmp_path, folder)) == (QUERIES, CORPUS, QRELS)
    single = packed(lines(tmp_path / "set.jsonl", [{"query": "a?", "positives": ["b"]}]), suffix)
    assert content(read(tmp_path, single))[1] == {content_id("b"): "b"}


def test_title_and_text_are_joined_as_beir_joins_them(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    documents = [("d1", "Cats", "sleep."), ("d2", "Cows", ""), ("d3", "", "Stones.")]
    lines(folder / "corpus.jsonl", [{"_id": key, "title": title, "text": text} for key, title, text in documents])
    assert dict(read(tmp_path, folder).documents()) == {"d1": "Cats sleep.", "d2": "Cows", "d3": "Stones."}


def test_a_split_has_the_queries_that_it_judges(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    qrels(folder / "qrels" / "dev.tsv", [("q2", "d2", 1)])
    for uri in (f"{folder}?split=dev", f"{folder.as_uri()}?split=dev", f"{folder}#split=dev"):
        queries, documents, judged = content(read(tmp_path, uri))
        assert (queries, documents, judged) == ({"q2": QUERIES["q2"]}, CORPUS, {"q2": {"d2": 1}})
    assert content(read(tmp_path, folder))[0] == QUERIES
    assert refusal(tmp_path, f"{folder}?split=train") == "no split 'train'; there are dev, test: add ?split=NAME"
    assert "unknown option 'spilt'; there are split, subset, sha256" in refusal(tmp_path, f"{folder}?spilt=dev")


def test_json_lines_take_their_ids_from_the_texts(tmp_path: Path) -> None:
    path = lines(tmp_path / "set.jsonl", [
        {"query": "Cats?", "positives": ["Cats sleep."], "negatives": ["Stones."]},
        {"query": "Sleep?", "positives": ["Cats sleep.", "Dogs sleep."]},
        {"query": "Cats?", "positives": ["Cats sleep."]},
    ])  # fmt: skip
    queries, documents, judged = content(read(tmp_path, path))
    assert set(queries.values()) == {"Cats?", "Sleep?"}
    assert set(documents.values()) == {"Cats sleep.", "Stones.", "Dogs sleep."}
    assert judged[content_id("Cats?")] == {content_id("Cats sleep."): 1, content_id("Stones."): 0}
    assert judged[content_id("Sleep?")] == {content_id("Cats sleep."): 1, content_id("Dogs sleep."): 1}


def test_json_lines_are_recognised_without_their_suffix(tmp_path: Path) -> None:
    path = lines(tmp_path / "set.txt", [{"query": "a?", "positives": ["b"]}, {"query": "c?", "positives": ["b"]}])
    assert set(content(read(tmp_path, path))[0].values()) == {"a?", "c?"}


def squad(paragraphs: list[tuple[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    listed = [{"context": text, "qas": questions} for text, questions in paragraphs]
    return {"version": "v2.0", "data": [{"title": "Things", "paragraphs": listed}]}


def test_squad_has_a_document_a_paragraph_and_a_query_a_question(tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(squad([
        ("Cats sleep.", [{"id": "1", "question": "Who sleeps?", "answers": []}]),
        ("Cows eat.", [{"id": "2", "question": "Who sings?", "is_impossible": True, "answers": []}]),
        ("Cats sleep.", [{"id": "3", "question": "What do cats do?", "answers": []}]),
    ])))  # fmt: skip
    dataset = read(tmp_path, path)
    cats, cows = content_id("Cats sleep."), content_id("Cows eat.")
    assert content(dataset) == (
        {"1": "Who sleeps?", "2": "Who sings?", "3": "What do cats do?"},
        {cats: "Cats sleep.", cows: "Cows eat."},
        {"1": {cats: 1}, "2": {cows: 0}, "3": {cats: 1}},
    )
    assert dataset.card.unanswered_count == 1


def parquet(path: Path, table: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)


def hub_tables(judged_name: str = "default", prefix: str = "") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        texts = [{"_id": key, "title": "", "text": text} for key, text in CORPUS.items()]
        parquet(folder / f"{prefix}corpus" / "corpus-00000-of-00002.parquet", texts[:2])
        parquet(folder / f"{prefix}corpus" / "corpus-00001-of-00002.parquet", texts[2:])
        asked = [{"_id": key, "text": text} for key, text in QUERIES.items()]
        parquet(folder / f"{prefix}queries" / "queries-00000-of-00001.parquet", asked)
        table = [{"query-id": q, "corpus-id": d, "score": float(grade)} for q, d, grade in rows(QRELS)]
        parquet(folder / f"{prefix}{judged_name}" / "test-00000-of-00001.parquet", table)

    return write


@pytest.mark.parametrize("judged_name", ["default", "data", "qrels"])
def test_the_hubs_parquet_tables_are_read(tmp_path: Path, judged_name: str) -> None:
    hub_tables(judged_name)(tmp_path / "set")
    assert content(read(tmp_path, tmp_path / "set")) == (QUERIES, CORPUS, QRELS)


def test_one_subset_of_several_is_chosen(tmp_path: Path) -> None:
    for prefix in ("en-", "hu-"):
        hub_tables("qrels", prefix)(tmp_path / "set")
    assert content(read(tmp_path, f"{tmp_path / 'set'}?subset=hu")) == (QUERIES, CORPUS, QRELS)
    assert refusal(tmp_path, tmp_path / "set") == "no subset ''; there are en, hu: add ?subset=NAME"


def test_mtebs_json_lines_are_read(tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    (folder / "qrels" / "test.tsv").unlink()
    judged = [{"query-id": q, "corpus-id": d, "score": float(grade)} for q, d, grade in rows(QRELS)]
    lines(folder / "qrels" / "test.jsonl", judged)
    assert content(read(tmp_path, folder)) == (QUERIES, CORPUS, QRELS)


def test_the_card_has_what_the_readme_states_and_else_what_the_texts_tell(tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    assert read(tmp_path, folder).card.languages == ("en",)
    (folder / "README.md").write_text("---\nlanguage:\n- hu\n- en\nlicense: mit\npretty_name: Things\n---\n# Things\n")
    card = read(tmp_path, folder).card
    assert (card.languages, card.license, card.title) == (("hu", "en"), "mit", "Things")


@pytest.mark.parametrize("text", ["0123456789", "x7 qq zz 13", "@@@"])
def test_a_language_that_cannot_be_told_is_undetermined(tmp_path: Path, text: str) -> None:
    path = lines(tmp_path / "set.jsonl", [{"query": text, "positives": [f"{text}!"]}])
    assert read(tmp_path, path).card.languages == ("und",)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)


@st.composite
def random_sets(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    corpus = draw(st.dictionaries(IDS, TEXTS, min_size=1, max_size=6))
    queries = draw(st.dictionaries(IDS, TEXTS, min_size=1, max_size=6))
    grades = st.dictionaries(st.sampled_from(sorted(corpus)), st.integers(-2, 3), min_size=1)
    return queries, corpus, {query: draw(grades) for query in queries}


@settings(max_examples=40, deadline=None)
@given(random_sets(), st.randoms(use_true_random=False))
def test_every_format_gives_back_the_set_that_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    random_set: tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]],
    random: Any,
) -> None:
    queries, corpus, judged = random_set
    folder = tmp_path_factory.mktemp("random")
    expected = digest(queries, corpus, judged)
    shuffled = dict(random.sample(sorted(corpus.items()), len(corpus)))
    assert read(folder, beir(folder / "set", queries, shuffled, judged)).card.digest == expected
    assert read(folder, zipped(folder / "set")).card.digest == expected

    relevant = {query: dict.fromkeys(grades, 1) for query, grades in judged.items()}
    index = folder / "index.json"
    listed = {query: list(grades) for query, grades in relevant.items()}
    index.write_text(json.dumps({"relevant_docs": listed, "corpus": shuffled, "queries": queries}))
    assert read(folder, index).card.digest == digest(queries, corpus, relevant)

    by_text = {content_id(text): text for text in corpus.values()}
    path = lines(folder / "lines.jsonl", [
        {"query": text, "positives": [corpus[d] for d in relevant[q]]} for q, text in queries.items()
    ])  # fmt: skip
    found_queries, found, found_judged = content(read(folder, path))
    assert set(found_queries.values()) == set(queries.values())
    assert found.items() <= by_text.items()
    for query, text in queries.items():
        assert {content_id(corpus[d]) for d in relevant[query]} <= set(found_judged[content_id(text)])

    asked = {query: next(iter(grades)) for query, grades in relevant.items()}
    paragraphs = [
        (text, [{"id": q, "question": queries[q]} for q in asked if asked[q] == d]) for d, text in corpus.items()
    ]
    (folder / "squad.json").write_text(json.dumps(squad(paragraphs)))
    answers = {query: {content_id(corpus[document]): 1} for query, document in asked.items()}
    assert read(folder, folder / "squad.json").card.digest == digest(queries, by_text, answers)


def test_ids_may_be_numbers_where_tables_have_them(tmp_path: Path) -> None:
    lines(tmp_path / "set" / "corpus.jsonl", [{"_id": 1, "text": "Cats."}])
    lines(tmp_path / "set" / "queries.jsonl", [{"_id": 7, "text": "Cats?"}])
    qrels(tmp_path / "set" / "qrels" / "test.tsv", [("7", "1", 1)])
    assert content(read(tmp_path, tmp_path / "set")) == ({"7": "Cats?"}, {"1": "Cats."}, {"7": {"1": 1}})
