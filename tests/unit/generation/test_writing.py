"""Generated sets in the store and in files: one digest, one sequence of bytes."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.cli.dataset_files import write_beir, write_llama_index
from embedscale.cli.errors import CommandFailed
from embedscale.core.dataset import Dataset
from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate
from embedscale.evaluator.datasets.store import DatasetStore
from embedscale.evaluator.generation.writing import filling, question_id
from tests.dataset_files import content, read

CHUNKS = [
    Chunk("guide/fees.md", 0, 52, "The fee is forty crowns. It is paid on the fifth day", 12, ("Fees", "Monthly")),
    Chunk("guide/fees.md", 25, 74, "It is paid on the fifth day. Later costs 9 crowns", 12, ("Fees",)),
    Chunk("배출.html", 0, 21, '쓰레기는 "화요일"에 내놓는다.\n\t끝', 9),
    Chunk("odd\tname\n.txt", 0, 8, "Nothing.", 2),
]
BY_ID = {chunk.id: chunk for chunk in CHUNKS}
QUESTIONS = [
    Candidate("When is the fee paid?", (CHUNKS[0].id,), quote="It is paid on the fifth day"),
    Candidate("무슨 요일에 내놓나요?", (CHUNKS[2].id,)),
    Candidate('What does "odd" say?\u2028', (CHUNKS[3].id,)),
]


def stored(folder: Path, questions: list[Candidate] = QUESTIONS) -> Dataset:
    store = DatasetStore(folder / "store", 3)
    fill = filling(questions, BY_ID, "en", "Fees")
    built = store.add("generated", fill, lenient=False, stop=threading.Event())
    return store.open(built.card.digest)


def written(dataset: Dataset, folder: Path) -> tuple[Path, Path]:
    queries = list(dataset.queries())
    grades = list(zip((key for key, _ in queries), dataset.judgements([key for key, _ in queries]), strict=True))
    folder.mkdir()
    write_llama_index(folder / "set.json", dataset.queries(), dataset.documents(), grades)
    write_beir(folder / "beir", dataset.queries(), dataset.documents(), grades)
    return folder / "set.json", folder / "beir"


def test_a_generated_set_is_in_the_store_with_its_neighbours_relevant(tmp_path: Path) -> None:
    dataset = stored(tmp_path)
    queries, documents, judged = content(dataset)
    assert (dataset.card.title, dataset.card.languages, dataset.card.unanswered_count) == ("Fees", ("en",), 0)
    assert set(documents.values()) == {chunk.text for chunk in CHUNKS}
    assert queries == {question_id(question): question.text for question in QUESTIONS}
    assert judged[question_id(QUESTIONS[0])] == {CHUNKS[0].id: 1, CHUNKS[1].id: 1}
    assert judged[question_id(QUESTIONS[2])] == {"odd%09name%0A.txt#0-8": 1}


def test_the_order_of_questions_does_not_change_the_set(tmp_path: Path) -> None:
    assert stored(tmp_path, QUESTIONS[::-1]).card.digest == stored(tmp_path).card.digest


def test_a_question_that_is_there_twice_is_one(tmp_path: Path) -> None:
    assert stored(tmp_path, [*QUESTIONS, QUESTIONS[0]]).card.digest == stored(tmp_path).card.digest


def test_both_layouts_are_read_back_with_the_same_digest_and_bytes(tmp_path: Path) -> None:
    dataset = stored(tmp_path)
    first, second = written(dataset, tmp_path / "a"), written(dataset, tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        again = read(tmp_path, one)
        assert again.card.digest == dataset.card.digest
        assert content(again) == content(dataset)
        files = [path for path in [one, *one.rglob("*")] if path.is_file()]
        assert [path.read_bytes() for path in files] == [(other / path.relative_to(one)).read_bytes() for path in files]


def test_the_json_file_is_what_llama_index_loads(tmp_path: Path) -> None:
    dataset = stored(tmp_path)
    file, _ = written(dataset, tmp_path / "a")
    loaded = json.loads(file.read_text("utf-8"))
    assert list(loaded) == ["queries", "corpus", "relevant_docs", "mode"]
    assert loaded["mode"] == "text"
    assert loaded["relevant_docs"][question_id(QUESTIONS[0])] == [CHUNKS[0].id, CHUNKS[1].id]
    assert loaded["corpus"] == dict(dataset.documents())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5, unique=True))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    texts = [text for text in texts if text.strip()] or ["a"]
    folder = tmp_path_factory.mktemp("any")
    rows = [(f"k{place}", text) for place, text in enumerate(texts)]
    grades = [(key, {key: 1}) for key, _ in rows]
    write_llama_index(folder / "set.json", rows, rows, grades)
    write_beir(folder / "beir", rows, rows, grades)
    sets = [read(folder, folder / name) for name in ("set.json", "beir")]
    assert [content(one)[0] for one in sets] == [dict(rows)] * 2
    assert sets[0].card.digest == sets[1].card.digest


def test_an_id_that_a_table_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"'a\\tb'"):
        write_beir(tmp_path, [("a\tb", "x")], [("d", "y")], [("a\tb", {"d": 1})])
