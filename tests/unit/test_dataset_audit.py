"""Audits of data sets, against figures that were counted in another way."""

import json
import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.dataset import MemoryDataset
from embedscale.core.dataset_audit import Finding
from embedscale.evaluator import builtin
from embedscale.evaluator.audit import near_duplicates
from embedscale.evaluator.audit.findings import findings
from embedscale.evaluator.audit.near_duplicates import SIMILAR, near, repeats
from embedscale.evaluator.audit.wording import named_context, quotation
from tests.dataset_files import read

VOWELS, CONSONANTS = "aeiou", "bcdfghjklmnprstvz"


def found_in(dataset: MemoryDataset) -> dict[str, Finding]:
    return {finding.kind.value: finding for finding in findings(dataset)}


@cache
def runs_of_five(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 5] for i in range(len(text) - 4))


def similarity(first: str, second: str) -> float:
    """Jaccard index of the runs of five characters, by the book."""
    one, other = runs_of_five(first), runs_of_five(second)
    return len(one & other) / len(one | other)


def words(count: int, rng: random.Random) -> list[str]:
    return ["".join(rng.choice(kind) for kind in (CONSONANTS, VOWELS) * 3) for _ in range(count)]


def test_near_duplicates_are_those_that_comparing_all_pairs_finds() -> None:
    rng = random.Random(3)
    texts = []
    for _ in range(60):
        original = words(40, rng)
        texts.append(" ".join(original))
        for changes in (0, 1, 2, 4, 8, 20):
            copy = list(original)
            for place in rng.sample(range(40), changes):
                copy[place] = words(1, rng)[0]
            texts.append(" ".join(copy))
    rng.shuffle(texts)
    exact, near = repeats(lambda: ((str(i), text) for i, text in enumerate(texts)))
    distinct = list(dict.fromkeys(texts))
    assert exact.count == len(texts) - len(distinct) == 60
    expected = sum(
        any(similarity(text, before) >= SIMILAR for before in distinct[:place]) for place, text in enumerate(distinct)
    )
    # MinHash misses a pair at the threshold with a probability of less than 1 %, one above it hardly ever.
    assert expected > 100
    assert 0.97 * expected <= near.count <= expected


@pytest.mark.parametrize("similar", [0.8, 0.9, 1.0])
def test_what_is_near_to_a_text_that_stays_is_what_comparing_all_pairs_finds(similar: float) -> None:
    rng = random.Random(4)
    originals = [words(40, rng) for _ in range(60)]
    texts = [" ".join(one) for one in originals]
    for one in originals:
        changed = list(one)
        for place in rng.sample(range(40), rng.randint(1, 3)):
            changed[place] = words(1, rng)[0]
        texts += [" ".join(one), " ".join(changed)]
    found = near(texts, similar)
    expected = {
        later: first
        for later, first in ((61 + 2 * number, number) for number in range(60))
        if similarity(texts[later], texts[first]) >= similar
    }
    assert found == expected
    assert len(found) in {0.8: range(50, 61), 0.9: range(10, 50), 1.0: range(1)}[similar]


def test_case_and_spaces_make_no_difference_and_examples_name_the_pair() -> None:
    texts = [("a", "Cats sleep\non sofas."), ("b", "Cows eat grass."), ("c", "CATS  sleep on sofas.")]
    exact, near = repeats(lambda: iter(texts))
    assert (exact.count, near.count) == (1, 0)
    assert [example.ids for example in exact.examples] == [("a", "c")]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=3), max_size=12))
def test_exact_repetitions_are_counted_for_any_texts(texts: list[str]) -> None:
    exact, near = repeats(lambda: ((str(i), text) for i, text in enumerate(texts)))
    normal = [" ".join(text.casefold().split()) for text in texts]
    assert exact.count == len(normal) - len(set(normal))
    assert near.count == 0


@pytest.mark.parametrize(
    "question",
    [
        "What is forbidden, according to the document?",
        "What does the text say about fines?",
        "Who is liable, as outlined in the context information provided?",
        "What is a provider according to the provided information?",
        "Quelles sont les obligations selon le document ?",
        "Que prévoit le texte, selon les informations contextuelles fournies ?",
        "Jaké povinnosti stanoví podle uvedeného dokumentu?",
        "Jaké produkty jsou uvedeny v textu jako příklady?",
        "Milyen kötelezettségek vannak a dokumentum szerint?",
        "Mit jelent a rövidítés az adott szövegben?",
        "주어진 문서에 따르면 누가 책임을 집니까?",
        "이 글에서 말하는 의무는 무엇입니까?",
        "What does this section require of importers?",
        "Which duties are mentioned above?",
        "Quelles obligations figurent dans le contexte ?",
        "Que dit ce passage ?",
        "Jaké povinnosti jsou výše uvedeny?",
        "Co stanoví příloha podle přílohy VI dokumentu?",
        "Milyen kötelezettségeket sorol fel a fenti részlet?",
        "Mit ír elő ez a fejezet, illetve ebben a szakaszban mi szerepel?",
        "다음 내용에 따르면 기한은 언제입니까?",
        "この文書によると、罰金はいくらですか？",
        "上記の情報では、期限はいつですか？",
        "本文書の目的は何ですか？",
        "Was steht in diesem Dokument über Strafen?",
        "¿Qué dice el texto sobre las multas?",
    ],
)
def test_questions_that_name_their_text_are_told(question: str) -> None:
    assert named_context(question)


@pytest.mark.parametrize(
    "question",
    [
        "What may be used in the context of law enforcement?",
        "Which documents must a provider keep for ten years?",
        "How is technical documentation drawn up?",
        "What conclusions are outlined in document EUCO 13/20?",
        "Quelle documentation technique faut-il ?",
        "Quels documents le fournisseur doit-il conserver ?",
        "Jak dlouho je nutné uchovávat dokumenty?",
        "Milyen dokumentumokat kell 10 évig megőrizni?",
        "누가 책임을 집니까?",
        "건물의 높이 정보는 어디에 신고합니까?",
        "基本情報はどこに登録しますか？",
        "技術文書は何年間保管しますか？",
        "Dans le contexte de la répression, que peut-on utiliser ?",
        "Jaké povinnosti platí v kontextu prosazování práva?",
    ],
)
def test_other_questions_about_documents_are_not(question: str) -> None:
    assert not named_context(question)


@pytest.mark.parametrize("language", builtin.LANGUAGES)
def test_the_set_that_ships_has_no_finding(language: str) -> None:
    assert [finding for finding in findings(builtin.load(f"builtin:velmar/{language}")) if finding.count] == []


def test_eight_words_in_a_row_are_a_quotation() -> None:
    document = "The provider shall keep, for ten years, the technical documentation of it."
    assert quotation("Why shall keep for ten years the technical documentation?", [document]) == (
        "shall keep for ten years the technical documentation"
    )
    assert quotation("Who shall keep for ten years the documentation of it?", [document]) == ""
    assert quotation("하나 둘 셋", ["하나 둘 셋"]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "高リスクの人工知能システムの提供者は技術文書を保管する",
        "고위험 인공지능 시스템 제공자는 기술 문서를 십 년간 보관한다",
    ],
)
def test_three_syllables_are_a_word_where_words_have_no_spaces(text: str) -> None:
    syllables = text.replace(" ", "")
    assert quotation(f"誰{text}", [f"第一条 {text}。"]) == " ".join(syllables)
    assert quotation(syllables[:23], [text]) == ""
    assert quotation(syllables[:24], [text]) == " ".join(syllables[:24])


def test_a_query_without_a_relevant_document_is_unanswered() -> None:
    dataset = MemoryDataset("", {"a": "Who?", "b": "Why?", "c": "How?"}, {"d": "Text."}, {"a": {"d": 1}, "b": {"d": 0}})
    finding = found_in(dataset)["unanswered_queries"]
    assert (finding.count, finding.total) == (2, 3)
    assert [example.ids for example in finding.examples] == [("b",), ("c",)]


@pytest.mark.parametrize(
    ("language", "pool", "repeated", "naming"),
    [("EN", 93, 0, 37), ("FR", 140, 0, 85), ("CS", 190, 3, 19), ("HU", 209, 2, 18)],
)
def test_the_ai_act_sets(tmp_path: Path, ai_act: Path, language: str, pool: int, repeated: int, naming: int) -> None:
    file = ai_act / f"{language}_dataset.json"
    texts = Counter(json.loads(file.read_text("utf-8"))["queries"].values())
    assert sum(texts.values()) - len(texts) == repeated
    copy = tmp_path / "set.json"
    copy.write_bytes(file.read_bytes())
    dataset = read(tmp_path, copy)
    found = found_in(dataset)
    assert dataset.card.languages == (language.lower(),)
    assert dataset.card.document_count == pool
    assert found["duplicate_queries"].count == repeated
    assert found["duplicate_documents"].count == found["unanswered_queries"].count == 0
    assert found["names_context"].count == naming


def test_english_questions_name_the_context_or_the_document(ai_act: Path) -> None:
    questions = list(json.loads((ai_act / "EN_dataset.json").read_text("utf-8"))["queries"].values())
    told = {question for question in questions if named_context(question)}
    phrases = ("the context information", "context information related", "the document")
    named = {question for question in questions if any(phrase in question for phrase in phrases)}
    assert len(named) == 36
    assert told - named == {q for q in questions if "according to the provided information" in q}
    assert named <= told


def test_texts_of_one_template_are_all_near_duplicates_of_the_first() -> None:
    rng = random.Random(5)
    start = " ".join(words(200, rng))
    texts = [(str(number), f"{start} {number}") for number in range(1000)]
    exact, near = repeats(lambda: iter(texts))
    assert exact.count == 0
    assert near.count == 999
    assert [example.ids for example in near.examples][:2] == [("0", "1"), ("0", "2")]


def test_near_duplicates_are_counted_of_as_many_texts_as_may_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_HELD_CHARACTERS", 600)  # two texts have less, three more
    rng, texts = random.Random(6), list[str]()
    for _ in range(9):
        original = words(40, rng)
        texts += [" ".join(original), " ".join([*original[:39], "other"])]
    _, near = repeats(lambda: ((str(number), text) for number, text in enumerate(texts)))
    assert [example.ids for example in near.examples] == [("0", "1"), ("2", "3"), ("4", "5")]
    assert near.count == 3
