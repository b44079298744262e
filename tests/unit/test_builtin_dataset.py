"""The data set that ships: parallel in all languages, and not solvable by matching words."""

import json
import re
from collections import Counter
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from embedscale.core.errors import DatasetNotFound
from embedscale.evaluator import builtin
from tests import dataset_files

LANGUAGES = ("en", "fr", "cs", "hu", "ko")
FOLDER = resources.files("embedscale.evaluator") / "data" / "velmar"


@cache
def content(language: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(FOLDER.joinpath(f"{language}.json").read_text("utf-8"))
    return read


def runs_of_four_words(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return set(zip(words, words[1:], words[2:], words[3:], strict=False))


def test_there_is_a_file_for_each_language_and_no_other() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == {f"{language}.json" for language in LANGUAGES}
    assert set(builtin.LANGUAGES) == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_file_is_a_good_file_of_the_llama_index_layout(language: str, tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_bytes(FOLDER.joinpath(f"{language}.json").read_bytes())
    dataset = dataset_files.read(tmp_path, path)
    assert dataset.card.digest == builtin.load(f"builtin:velmar/{language}").card.digest


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_are_parallel(language: str) -> None:
    english, other = content("en"), content(language)
    assert list(other["corpus"]) == list(english["corpus"])
    assert list(other["queries"]) == list(english["queries"])
    assert other["relevant_docs"] == english["relevant_docs"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_forty_passages_or_more_with_exactly_two_questions_each(language: str) -> None:
    corpus, relevant = content(language)["corpus"], content(language)["relevant_docs"]
    assert len(corpus) >= 40
    assert all(len(ids) == 1 for ids in relevant.values())
    assert Counter(ids[0] for ids in relevant.values()) == dict.fromkeys(corpus, 2)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("table", ["queries", "corpus"])
def test_no_text_is_empty_or_there_twice(language: str, table: str) -> None:
    texts = [" ".join(text.casefold().split()) for text in content(language)[table].values()]
    assert all(texts)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
@pytest.mark.parametrize("table", ["queries", "corpus"])
def test_no_text_was_left_in_english(language: str, table: str) -> None:
    assert not set(content(language)[table].values()) & set(content("en")[table].values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_question_shares_four_consecutive_words_with_its_passage(language: str) -> None:
    data = content(language)
    for query, text in data["queries"].items():
        passage = data["corpus"][data["relevant_docs"][query][0]]
        assert not runs_of_four_words(text) & runs_of_four_words(passage), query


def test_runs_of_words_ignore_case_and_punctuation() -> None:
    assert runs_of_four_words("Where, then, IS it?") == {("where", "then", "is", "it")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_alone_has_questions_and_passages_of_that_language(language: str) -> None:
    dataset = builtin.load(f"builtin:velmar/{language}")
    assert dataset.uri == f"builtin:velmar/{language}"
    assert dataset.query_texts == content(language)["queries"]
    assert dataset.corpus == content(language)["corpus"]
    assert dataset.languages == (language,)
    assert dataset.license == "CC0-1.0"
    assert dataset.title


def test_a_pair_asks_in_the_first_language_and_searches_in_the_second() -> None:
    dataset = builtin.load("builtin:velmar/hu-en")
    assert dataset.uri == "builtin:velmar/hu-en"
    assert dataset.query_texts == content("hu")["queries"]
    assert dataset.corpus == content("en")["corpus"]
    assert dataset.qrels == {query: dict.fromkeys(ids, 1) for query, ids in content("en")["relevant_docs"].items()}
    assert dataset.languages == ("hu", "en")
    others = {builtin.load(f"builtin:velmar/{name}").card.digest for name in ("hu", "en", "en-hu")}
    assert dataset.card.digest not in others


def test_known_names_the_five_sets_of_one_language() -> None:
    assert sorted(builtin.known()) == sorted(f"builtin:velmar/{language}" for language in LANGUAGES)


@pytest.mark.parametrize(
    "name",
    [
        *("", "velmar", "velmar/", "other/en", "velmar/de", "velmar/EN", "velmar/en ", "velmar/../velmar/en"),
        *("velmar/hu-de", "velmar/de-hu", "velmar/-en", "velmar/hu-", "velmar/hu-en-fr", "velmar/hu/en"),
    ],
)
def test_unknown_names_are_not_found(name: str) -> None:
    with pytest.raises(DatasetNotFound, match="no built-in data set") as caught:
        builtin.load(f"builtin:{name}")
    assert caught.value.field == "dataset"
    assert "en, fr, cs, hu, ko" in caught.value.message
