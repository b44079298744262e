"""Reads questions from what a language model wrote. What cannot be read for certain is a failure, never a question."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from embedscale.core.generation import Failure

# "1." "1)" "(1)" "[1]" "1:" "1、" "①", a label such as "Question 1:" or "Q1.", and bullets; bold type around them.
_LABEL = r"(?:q|question|query|otázka|kérdés|질문|문제|質問|問題|問)"
_MARK = re.compile(
    rf"""\s*(?:[*_]{{1,2}})?(?:
        [(\[（]\s*\d{{1,3}}\s*[)\]）]
        |\d{{1,3}}\s*(?:[.)、．:：](?!\d)|\s[-–—](?=\s))
        |[①-⑳]
        |{_LABEL}\s*(?:n[°o]\s*)?\#?\s*\d{{0,3}}\s*[.:：)]
        |[-*•‣▪●–—](?=\s)
    )(?:[*_]{{1,2}})?\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_ANSWER = re.compile(
    r"\s*[*_]{0,2}(?:answer|a|réponse|odpověď|válasz|답변?|答え?|回答)\s*\d{0,3}\s*[:：]", re.IGNORECASE
)
_FENCE = re.compile(r"^\s*```[\w-]*\s*$", re.MULTILINE)
_QUESTION_ENDS = ("?", "？", "か。")
_ANNOUNCES = (":", "：")
_JSON = ("{", "[")
_QUOTES = ('""', "''", "“”", "„“", "„”", "«»", "「」", "『』")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the words that answer it, if the model gave them."""

    text: str
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """What an answer had: at most as many questions as were asked for, how many more there were, or why none."""

    questions: tuple[Question, ...] = ()
    surplus: int = 0
    failure: Failure | None = None


def read(answer: str, count: int, refusals: Sequence[str], *, is_cut: bool = False) -> Read:
    """Read at most `count` questions, from JSON or from lines. Of an answer that `is_cut` the last line is left out."""
    text = _FENCE.sub("", answer).strip()
    if not text:
        return Read(failure=Failure.EMPTY)
    found = _of_json(text) if text.startswith(_JSON) else _of_lines(text, refusals, is_cut)
    if isinstance(found, Failure):
        return Read(failure=found)
    return Read(tuple(found[:count]), max(len(found) - count, 0))


def _of_json(text: str) -> list[Question] | Failure:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return Failure.UNREADABLE
    rows = given.get("questions") if isinstance(given, dict) else given
    if not isinstance(rows, list):
        return Failure.UNREADABLE
    found = [_of_row(row) for row in rows]
    if None in found:
        return Failure.UNREADABLE
    return [question for question in found if question and question.text] or Failure.EMPTY


def _of_row(row: Any) -> Question | None:
    if isinstance(row, str):
        return Question(_clean(row))
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        return None
    quote = row.get("quote", "")
    return Question(_clean(row["question"]), quote if isinstance(quote, str) else "")


def _of_lines(text: str, refusals: Sequence[str], is_cut: bool) -> list[Question] | Failure:
    """Questions of the lines that a number or bullet marks; where none does, of those that end as a question does."""
    lines = [line for line in text.splitlines() if line.strip()]
    if is_cut and not lines[-1].rstrip().endswith(_QUESTION_ENDS):
        lines.pop()
    chosen = [line for line in lines if _MARK.match(line)]
    if not chosen:
        if text.casefold().startswith(tuple(beginning.casefold() for beginning in refusals)):
            return Failure.REFUSED
        if any(line.lstrip().startswith(_JSON) for line in lines):  # with words around it: its lines are no questions
            return Failure.UNREADABLE
        chosen = [line for line in lines if _clean(line).endswith(_QUESTION_ENDS)]
    return [Question(question) for question in _asked(chosen)] or Failure.UNREADABLE


def _asked(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        mark = _MARK.match(line)
        question = _clean(line[mark.end() :] if mark else line)
        if question and not question.endswith(_ANNOUNCES) and not _ANSWER.match(question):
            yield question


def _clean(text: str) -> str:
    """The text without bold type, quotation marks around it and control characters; spaces are single."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    plain = " ".join(plain.replace("**", "").replace("__", "").split())
    return plain[1:-1].strip() if plain[:1] + plain[-1:] in _QUOTES and len(plain) > 1 else plain
