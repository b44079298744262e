"""Which chunks hold the answer, for any way of cutting."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate, QuestionStyle
from embedscale.evaluator.generation.relevance import HELD, Relevance, located

TEXT = " ".join(f"{word}{number}" for number in range(60) for word in ("alpha", "bravo", "charlie"))


def cut(document: str, text: str, spans: list[tuple[int, int]]) -> dict[str, Chunk]:
    chunks = [Chunk(document, start, end, text[start:end], end - start) for start, end in spans]
    return {chunk.id: chunk for chunk in chunks}


def relevant(chunks: dict[str, Chunk], *about: str, quote: str = "", style: str = "factual") -> list[str]:
    [found] = Relevance(chunks).of([Candidate("?", about, QuestionStyle(style), quote)])
    return found


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[dict[str, Chunk], Chunk, int, int]:
    """Chunks with any overlaps, nested ones too, one of them, and a passage of it."""
    ends = (
        st.tuples(st.integers(0, len(TEXT)), st.integers(0, len(TEXT))).map(sorted).filter(lambda e: e[1] - e[0] > 60)
    )
    chunks = cut("a", TEXT, [tuple(pair) for pair in draw(st.lists(ends, min_size=1, max_size=12))])
    own = draw(st.sampled_from(list(chunks.values())))
    start = draw(st.integers(own.start, own.end - 40))
    return chunks, own, start, draw(st.integers(start + 40, own.end))


@settings(max_examples=150, deadline=None)
@given(cuttings())
def test_relevant_are_those_that_have_enough_of_the_passage(case: tuple[dict[str, Chunk], Chunk, int, int]) -> None:
    chunks, own, start, end = case
    quote = TEXT[start:end].strip()
    start = TEXT.index(quote)
    end = start + len(quote)
    shares = {key: (min(c.end, end) - max(c.start, start)) / (end - start) for key, c in chunks.items()}
    found = relevant(chunks, own.id, quote=quote)
    assert found[0] == own.id
    assert set(found) == {key for key, share in shares.items() if share >= HELD}


@settings(max_examples=150, deadline=None)
@given(st.text(min_size=12, max_size=200), st.data())
def test_a_quote_is_found_whatever_became_of_case_spaces_and_punctuation(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 6))
    quote = text[start : data.draw(st.integers(start + 6, len(text)))]
    changed = "  ".join(quote.swapcase().split()).replace(",", ";")
    for asked in (quote, changed):
        found = located(asked, text)
        if sum(character.isalnum() for character in quote) >= 5 and "..." not in quote and "…" not in quote:
            assert found is not None
        if found:
            assert 0 <= found[0] < found[1] <= len(text)


@pytest.mark.parametrize(
    ("quote", "passage"),
    [
        ("must be kept for ten years", "must be kept\n  for ten years"),
        ("MUST BE KEPT, for ten years.", "must be kept\n  for ten years"),
        ("“uchovává se deset let”", "uchovává se deset let"),
        ("십 년간 보관한다", "십 년간\n보관한다"),
        ("文書を十年間保管", "文書を十年間\n保管"),
        ("Records must … after sale", "Records must be kept\n  for ten years after sale"),
        ("Records must [...] after sale", "Records must be kept\n  for ten years after sale"),
    ],
)
def test_quotes_as_language_models_give_them(quote: str, passage: str) -> None:
    text = (
        "Art. 5. Records must be kept\n  for ten years after sale; uchovává se deset let. "
        "제공자는 십 년간\n보관한다. 提供者は文書を十年間\n保管する。"
    )
    start, end = located(quote, text) or (0, 0)
    assert text[start:end] == passage


def test_a_quote_with_another_word_is_found_but_for_a_few_letters() -> None:
    text = "Art. 5. Records must be kept for ten years after sale; and so on."
    start, end = located("records must be kept for 10 years after sale", text) or (0, 0)
    assert abs(start - 8) <= 3
    assert abs(end - text.index(";")) <= 3


@pytest.mark.parametrize("quote", ["", "...", "yes", "Nothing of this is said anywhere.", "kept for ten … by whom"])
def test_what_is_not_there_is_not_found(quote: str) -> None:
    assert located(quote, "Records must be kept for ten years after the sale of it.") is None


def test_a_quote_that_is_there_twice_reaches_from_the_first_to_the_last() -> None:
    assert located("ten years", "ten years here, and there ten years too") == (0, 35)


def test_without_a_quote_the_whole_chunk_is_the_answer() -> None:
    chunks = cut("a", TEXT, [(0, 300), (50, 300), (250, 600), (0, 900)])
    assert relevant(chunks, "a#0-300") == ["a#0-300", "a#0-900", "a#50-300"]
    assert relevant(chunks, "a#0-300", quote=TEXT[260:290]) == ["a#0-300", "a#0-900", "a#50-300", "a#250-600"]


def test_a_question_about_several_chunks_has_the_answers_of_each() -> None:
    chunks = cut("a", TEXT, [(0, 300), (200, 500), (500, 800), (480, 820)])
    found = relevant(chunks, "a#0-300", "a#500-800", quote=TEXT[220:260], style="multi_chunk")
    assert found == ["a#0-300", "a#500-800", "a#200-500", "a#480-820"]


def test_the_same_passage_in_another_document_is_an_answer_too() -> None:
    passage = "The fee is forty crowns a month, to be paid before the fifth day."
    other = "Appendix. the FEE is forty crowns\n a month, to be paid before the fifth day! More."
    chunks = cut("a", f"Fees. {passage} End.", [(0, 77)]) | cut("b", other, [(0, len(other))])
    chunks |= cut("c", "The fee is forty crowns a month for those who came later.", [(0, 57)])
    own, copy, _ = chunks
    assert relevant(chunks, own, quote=passage) == [own, copy]
    assert relevant(chunks, own, quote="forty crowns") == [own]


def test_time_grows_with_the_corpus_and_not_with_its_square() -> None:
    rng = random.Random(3)

    def seconds(documents: int) -> float:
        chunks: dict[str, Chunk] = {}
        for number in range(documents):
            text = " ".join(str(rng.random()) for _ in range(250))
            chunks |= cut(f"d{number}", text, [(0, 3000), (2800, len(text))])
        candidates = [Candidate("?", (key,), quote=chunk.text[100:300]) for key, chunk in chunks.items()] * 3
        before = time.process_time()
        assert Relevance(chunks).of(candidates) == [list(candidate.chunks) for candidate in candidates]
        return time.process_time() - before

    seconds(10)
    assert seconds(400) < 8 * seconds(100) + 0.3


def test_a_text_that_repeats_itself_takes_as_long_as_any_other() -> None:
    """Each chunk of a table of zeros has the middle of each quote thousands of times."""
    count, size = 100, 4000
    rng = random.Random(3)

    def seconds(text: str) -> float:
        chunks = cut("a", text, [(start, start + size) for start in range(0, count * size, size)])
        candidates = [Candidate("?", (chunk.id,), quote=chunk.text[200:]) for chunk in chunks.values()]
        before = time.process_time()
        found = Relevance(chunks).of(candidates)
        assert {len(keys) for keys in found} == {count if text.startswith("0 0 ") else 1}
        return time.process_time() - before

    plain = " ".join(str(rng.random()) for _ in range(count * size // 10))
    assert seconds("0 " * (count * size // 2)) < 10 * seconds(plain) + 0.3
