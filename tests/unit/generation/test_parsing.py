"""What is read from the answers of language models, and what is not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedscale.core.generation import Failure
from embedscale.evaluator.generation.parsing import Question, Read, read

REFUSALS = ("I'm sorry", "Omlouvám se", "申し訳")
FIRST, SECOND = "Who runs depot 4?", "How many crates are there?"
FORMS = {
    "full stops": f"1. {FIRST}\n2. {SECOND}",
    "brackets": f"1) {FIRST}\n2) {SECOND}",
    "round brackets": f"(1) {FIRST}\n(2) {SECOND}",
    "labels": f"Question 1: {FIRST}\nQuestion 2: {SECOND}",
    "short labels": f"Q1. {FIRST}\nQ2. {SECOND}",
    "circles": f"① {FIRST}\n② {SECOND}",
    "dashes after numbers": f"1 - {FIRST}\n2 - {SECOND}",
    "dashes": f"- {FIRST}\n- {SECOND}",
    "stars": f"* {FIRST}\n\n* {SECOND}",
    "points": f"• {FIRST}\n• {SECOND}",
    "bold numbers": f"**1.** {FIRST}\n**2.** {SECOND}",
    "all bold": f"**1. {FIRST}**\n**2. {SECOND}**",
    "plain lines": f"{FIRST}\n{SECOND}",
    "quoted": f'1. "{FIRST}"\n2. "{SECOND}"',
    "indented": f"   1. {FIRST}\n   2. {SECOND}",
    "preamble": f"Sure! Here are 2 questions:\n\n1. {FIRST}\n2. {SECOND}",
    "preamble of plain lines": f"Here are 2 questions about the document:\n{FIRST}\n{SECOND}",
    "afterword": f"1. {FIRST}\n2. {SECOND}\n\nLet me know if you need more!",
    "afterword that asks": f"1. {FIRST}\n2. {SECOND}\n\nWould you like more?",
    "numbered preamble": f"1. Here are the questions:\n2. {FIRST}\n3. {SECOND}",
    "fence": f"```text\n1. {FIRST}\n2. {SECOND}\n```",
    "answers between": f"Q1: {FIRST}\nAnswer: Jana.\nQ2: {SECOND}\nAnswer: 107.",
    "numbered answers": f"1. {FIRST}\n2. Answer: Jana.\n3. {SECOND}",
    "json": json.dumps({"questions": [{"question": FIRST, "quote": ""}, {"question": SECOND, "quote": ""}]}),
    "json texts": json.dumps([FIRST, SECOND]),
    "json in a fence": f"```json\n{json.dumps({'questions': [FIRST, SECOND]})}\n```",
    "windows lines": f"1. {FIRST}\r\n2. {SECOND}\r\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_questions_are_read_in_whatever_form(form: str) -> None:
    assert read(FORMS[form], 2, REFUSALS) == Read((Question(FIRST), Question(SECOND)))


@pytest.mark.parametrize(
    "line", ["What does paragraph (1) say?", "Who runs depot 4: Jana?", "Is Paris – the city – large?"]
)
def test_a_mark_inside_a_plain_line_stays(line: str) -> None:
    assert read(line, 1, REFUSALS) == Read((Question(line),))


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ("", Failure.EMPTY),
        (" \n ```\n``` ", Failure.EMPTY),
        ('{"questions": []}', Failure.EMPTY),
        ('{"questions": [{"question": "  ", "quote": ""}]}', Failure.EMPTY),
        ("I'm sorry, I can't do that.", Failure.REFUSED),
        ("I'm sorry, but could you send me the document?", Failure.REFUSED),
        ("i'm sorry", Failure.REFUSED),
        ('Here it is:\n[\n{\n"quote": "Jana",\n"question": "Who runs depot 4?"\n}\n]', Failure.UNREADABLE),
        ('Here they are:\n[\n"Who runs depot 4?",\n"How many crates are there?"\n]', Failure.UNREADABLE),
        ("申し訳ありませんが、できません。", Failure.REFUSED),
        ("The document is about depots.", Failure.UNREADABLE),
        ("1. Here are two questions:", Failure.UNREADABLE),
        ('{"questions": [{"question": "Who', Failure.UNREADABLE),
        ('{"questions": "Who?"}', Failure.UNREADABLE),
        ('{"answers": []}', Failure.UNREADABLE),
        ('{"questions": [{"text": "Who?"}]}', Failure.UNREADABLE),
        ('{"questions": [7]}', Failure.UNREADABLE),
        ("[" * 100_000, Failure.UNREADABLE),
        ("{}", Failure.UNREADABLE),
    ],
)
def test_what_has_no_question_is_a_failure(answer: str, failure: Failure) -> None:
    assert read(answer, 2, REFUSALS) == Read(failure=failure)


def test_more_than_asked_for_are_counted_and_left_out() -> None:
    assert read("1. One?\n2. Two?\n3. Three?\n4. Four?", 2, REFUSALS) == Read((Question("One?"), Question("Two?")), 2)


def test_a_cut_answer_loses_its_last_line_unless_it_is_whole() -> None:
    assert read("1. One?\n2. Two and", 2, (), is_cut=True) == Read((Question("One?"),))
    assert read("1. One?\n2. Two?", 2, (), is_cut=True) == Read((Question("One?"), Question("Two?")))
    assert read("1. One and", 2, (), is_cut=True) == Read(failure=Failure.UNREADABLE)


def test_key_words_need_a_mark_and_no_question_mark() -> None:
    assert read("1. depot crates\n2. railway Brno", 2, ()).questions == (
        Question("depot crates"),
        Question("railway Brno"),
    )
    assert read("depot crates\nrailway Brno", 2, ()).failure is Failure.UNREADABLE


@pytest.mark.parametrize(
    "question",
    ["1.5 tonnes is how much?", "2024: what happened?", "Kdy je 5. června?", "A-4 paper is how wide?", "何時ですか。"],
)
def test_numbers_that_belong_to_a_question_stay(question: str) -> None:
    assert [found.text for found in read(f"1. {question}", 1, ()).questions] == [question]


def test_a_quotation_is_kept_word_for_word() -> None:
    given = {"questions": [{"question": "Who?", "quote": " It is\n  **Jana** "}]}
    assert read(json.dumps(given), 1, ()).questions == (Question("Who?", " It is\n  **Jana** "),)


@given(st.text(), st.integers(1, 5), st.booleans())
def test_whatever_is_written_gives_questions_or_a_failure(answer: str, count: int, is_cut: bool) -> None:
    result = read(answer, count, REFUSALS, is_cut=is_cut)
    assert bool(result.questions) != bool(result.failure)
    assert len(result.questions) <= count
    for question in result.questions:
        assert question.text == question.text.strip() != ""
        assert "\n" not in question.text


@given(st.lists(st.from_regex(r"[A-Z][a-z]{2,9}( [a-z]{2,9}){1,6}\?", fullmatch=True), min_size=1, max_size=5))
def test_numbered_questions_come_back_as_they_are(questions: list[str]) -> None:
    lines = "\n".join(f"{number}. {question}" for number, question in enumerate(questions, 1))
    assert [question.text for question in read(lines, 5, REFUSALS).questions] == questions
