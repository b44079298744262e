"""Answers that are kept: at once, once, and for a time."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from embedscale.core.chat import Answer, Budget, ChatModelInfo, Prompt
from embedscale.core.errors import GenerationLimitReached, StoreUnavailable
from embedscale.evaluator.generation.asking import Asking
from embedscale.evaluator.generation.ledger import Ledger
from embedscale.evaluator.generation.spending import Spending

ANSWER = Answer("1. Who?", 10, 5, 0.25, is_cut=True)
DAY = 86400.0


class Writer:
    """A model that answers after a moment, and counts."""

    info = ChatModelInfo("writer", {"temperature": 0})

    def __init__(self) -> None:
        self.calls = 0

    async def ask(self, prompt: Prompt, budget: Budget) -> Answer:
        budget.reserve(ANSWER.dollars)
        self.calls += 1
        await asyncio.sleep(0.01)
        return ANSWER

    async def close(self) -> None:
        pass


async def test_an_answer_is_in_the_file_before_put_returns(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new" / "answers.sqlite", DAY)
    assert await ledger.get("m", "a", "p") is None
    await ledger.put("m", "a", "p", ANSWER)
    with sqlite3.connect(tmp_path / "new" / "answers.sqlite") as other:
        assert other.execute("SELECT text FROM answers").fetchall() == [("1. Who?",)]
    other.close()
    await ledger.put("m", "a", "p", Answer("another"))
    for key in (("n", "a", "p"), ("m", "b", "p"), ("m", "a", "q")):
        assert await ledger.get(*key) is None
    await ledger.close()
    again = Ledger(tmp_path / "new" / "answers.sqlite", DAY)
    assert await again.get("m", "a", "p") == ANSWER
    await again.close()


async def test_old_answers_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    ledger = Ledger(file, DAY)
    for name in ("old", "new"):
        await ledger.put("m", name, "p", ANSWER)
    await ledger.close()
    with sqlite3.connect(file) as database:
        database.execute("UPDATE answers SET time = time - 90000 WHERE about = 'old'")
    database.close()
    ledger = Ledger(file, DAY)
    assert await ledger.get("m", "old", "p") is None
    assert await ledger.get("m", "new", "p") == ANSWER
    await ledger.close()


async def test_old_answers_are_forgotten_by_an_evaluator_that_never_ends(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    ledger = Ledger(file, DAY)
    await ledger.put("m", "old", "p", ANSWER)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE answers SET time = time - 90000")
    database.close()
    await ledger.put("m", "new", "p", ANSWER)
    assert await ledger.get("m", "old", "p") is None
    assert await ledger.get("m", "new", "p") == ANSWER
    await ledger.close()


async def test_a_file_that_is_none_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_text("no database, but long enough to be taken for one" * 50)
    ledger = Ledger(tmp_path / "answers.sqlite", DAY)
    with pytest.raises(StoreUnavailable, match="file of answers"):
        await ledger.get("m", "a", "p")
    await ledger.close()


async def test_the_same_is_asked_once_and_counted_once(tmp_path: Path) -> None:
    ledger, writer = Ledger(tmp_path / "answers.sqlite", DAY), Writer()
    askings = [Asking(writer, ledger, Spending(None), lambda: None) for _ in range(3)]
    await asyncio.gather(*(asking.answer("a", Prompt("p")) for asking in askings for _ in range(4)))
    assert writer.calls == 1
    assert sum(asking.usage.calls for asking in askings) == 1
    assert all(asking.usage.calls + asking.usage.kept_answers == 1 for asking in askings)
    await askings[0].answer("a", Prompt("p", seed=1))
    assert writer.calls == 2
    await ledger.close()


async def test_what_was_paid_before_counts_against_the_limit(tmp_path: Path) -> None:
    ledger, writer = Ledger(tmp_path / "answers.sqlite", DAY), Writer()
    first = Asking(writer, ledger, Spending(0.5), lambda: None)
    for about in ("a", "b"):
        await first.answer(about, Prompt("p"))
    with pytest.raises(GenerationLimitReached, match=r"0\.5 US dollars, of which 0\.5000 are spent"):
        await first.answer("c", Prompt("p"))
    second = Asking(writer, ledger, Spending(0.6), lambda: None)
    assert await second.kept("a", Prompt("p"))
    assert await second.kept("b", Prompt("p"))
    with pytest.raises(GenerationLimitReached):
        await second.answer("c", Prompt("p"))
    assert writer.calls == 2
    await ledger.close()


def test_a_prompt_s_digest_is_of_all_of_it() -> None:
    prompts = [
        Prompt("a"), Prompt("b"), Prompt("a", "s"), Prompt("a", schema={}), Prompt("a", max_tokens=1),
        Prompt("a", stop=("x",)), Prompt("a", seed=1),
    ]  # fmt: skip
    assert len({prompt.digest for prompt in prompts}) == len(prompts)
