"""Chunks: nothing lost, none too long, the same every time."""

import asyncio
import itertools
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_index.core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedscale.core.dataset_audit import TokenLimits
from embedscale.core.documents import Chunk, ChunkerKind, Chunking, Heading, SourceDocument
from embedscale.core.embedding import InputType
from embedscale.core.errors import DatasetInvalid, InvalidField
from embedscale.evaluator.documents import cuts
from embedscale.evaluator.documents.chunking import chunked
from embedscale.evaluator.documents.sentences import sentences
from embedscale.servicekit.tiktoken_files import load_encoding

SPECIAL = 2


class Words:
    """Counts words and marks as BERT does, at most ten letters a token, with two special tokens; notes its texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def limits(self, model: str) -> TokenLimits:
        raise AssertionError(model)

    async def count_tokens(self, model: str, texts: Sequence[str], input_type: InputType) -> Sequence[int]:
        assert (model, input_type) == ("words", InputType.DOCUMENT)
        self.texts += texts
        return [SPECIAL + len(re.findall(r"\w{1,10}|[^\w\s]", text)) for text in texts]


def cut(
    text: str,
    kind: ChunkerKind = ChunkerKind.SENTENCE,
    max_tokens: int = 12,
    overlap_tokens: int = 0,
    headings: tuple[Heading, ...] = (),
    counter: Words | None = None,
) -> list[Chunk]:
    chunking = Chunking("words", kind, max_tokens, overlap_tokens)
    document = SourceDocument("doc", text, headings)
    return asyncio.run(chunked(document, chunking, counter or Words(), language="en"))


def texts(chunks: Sequence[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


TEXT = st.text(alphabet=st.sampled_from('ab Á.,;!?。「」"“”()[]\n\n\t1日é😀\u0301…–-   '), max_size=400)


@given(text=TEXT, kind=st.sampled_from(ChunkerKind), max_tokens=st.integers(3, 30), share=st.floats(0, 0.9))
def test_nothing_is_lost_and_nothing_too_long(text: str, kind: ChunkerKind, max_tokens: int, share: float) -> None:
    overlap = int(max_tokens * share)
    headings = tuple(Heading(found.start(), 1, "a") for found in re.finditer("(?m)^a", text))
    chunks = cut(text, kind, max_tokens, overlap, headings)
    tokens = asyncio.run(Words().count_tokens("words", texts(chunks), InputType.DOCUMENT))
    assert [chunk.tokens for chunk in chunks] == list(tokens)
    assert all(count <= max_tokens for count in tokens)
    reached = 0
    for before, chunk in zip([None, *chunks], chunks, strict=False):
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert not text[reached : chunk.start].strip()
        assert before is None or (before.start < chunk.start and before.end < chunk.end)
        assert overlap or chunk.start >= reached
        reached = chunk.end
    assert not text[reached:].strip()
    assert cut(text, kind, max_tokens, overlap, headings) == chunks


def test_sentences_are_packed_whole() -> None:
    text = "One two three four. Five six seven.  Eight nine ten, eleven.\n\nTwelve."
    assert texts(cut(text)) == ["One two three four. Five six seven.", "Eight nine ten, eleven.\n\nTwelve."]


def test_an_overlap_repeats_whole_sentences_and_gives_way() -> None:
    text = "One two. Three four. Five six. Seven eight. Nine ten eleven twelve thirteen fourteen. "
    text += "One two three four five six seven eight nine."
    assert texts(cut(text, overlap_tokens=4)) == [
        "One two. Three four. Five six.",
        "Five six. Seven eight.",
        "Seven eight. Nine ten eleven twelve thirteen fourteen.",
        "One two three four five six seven eight nine.",
    ]


def test_a_long_sentence_is_cut_at_clauses_then_words_then_characters() -> None:
    text = "One two three, four five six seven, eight nine ten eleven. " + "A b " * 6 + "x" * 130
    found = texts(cut(text))
    assert found[:2] == ["One two three, four five six seven,", "eight nine ten eleven. A b A b A"]
    assert all(len(re.findall(r"\w{1,10}|[^\w\s]", chunk)) <= 10 for chunk in found)
    assert "".join(found).replace(" ", "") == text.replace(" ", "")


def test_a_title_stays_with_its_text_and_a_list_together() -> None:
    text = "Closing words of the part before, which had far more to say than this one has.\n\n"
    text += "Article 5\n\nIt is forbidden to:\n\n- run\n- jump."
    assert texts(cut(text, max_tokens=28)) == [
        "Closing words of the part before, which had far more to say than this one has.",
        "Article 5\n\nIt is forbidden to:\n\n- run\n- jump.",
    ]


def test_paragraphs_are_kept_whole() -> None:
    text = "One two. Three four.\n\nFive six. Seven.\n \nEight."
    assert texts(cut(text, ChunkerKind.PARAGRAPH, 9)) == ["One two. Three four.", "Five six. Seven.\n \nEight."]


SECTIONS = "Intro.\n\nBook\n\nPart\n\nText a.\n\nText b.\n\nOther\n\nText c."
HEADINGS = (Heading(8, 1, "Book"), Heading(14, 2, "Part"), Heading(38, 2, "Other"))


def test_sections_are_not_mixed_and_know_their_path() -> None:
    chunks = cut(SECTIONS, ChunkerKind.SECTION, 50, 20, headings=HEADINGS)
    assert [(chunk.text, chunk.headings) for chunk in chunks] == [
        ("Intro.", ()),
        ("Book\n\nPart\n\nText a.\n\nText b.", ("Book",)),
        ("Other\n\nText c.", ("Book", "Other")),
    ]


def test_a_long_section_is_cut_at_paragraphs() -> None:
    chunks = cut(SECTIONS, ChunkerKind.SECTION, 8, headings=HEADINGS)
    assert [(chunk.text, chunk.headings) for chunk in chunks] == [
        ("Intro.", ()),
        ("Book\n\nPart\n\nText a.", ("Book",)),
        ("Text b.", ("Book", "Part")),
        ("Other\n\nText c.", ("Book", "Other")),
    ]


def test_fixed_chunks_are_cut_at_words() -> None:
    text = "one two three. four five six seven eight nine ten eleven"
    assert texts(cut(text, ChunkerKind.FIXED, 6)) == ["one two three.", "four five six seven", "eight nine ten eleven"]


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_an_empty_document_has_no_chunks(text: str) -> None:
    assert cut(text) == []


def test_each_sentence_is_counted_once() -> None:
    counter = Words()
    sentences = [f"Sentence number {number} is here." for number in range(100)]
    chunks = cut(" ".join(sentences), max_tokens=50, counter=counter)
    counted = [text.strip() for text in counter.texts]
    assert all(counted.count(sentence) == 1 for sentence in sentences)
    assert len(counted) == 2 + len(sentences) + len(chunks)


def test_tokens_that_only_whole_chunks_have_are_no_way_around_the_limit() -> None:
    class Growing(Words):
        async def count_tokens(self, model: str, texts: Sequence[str], input_type: InputType) -> Sequence[int]:
            return [len(text) // 4 + text.count(". ") * 3 for text in texts]

    text = "This is a sentence. " * 50
    chunks = cut(text, max_tokens=30, counter=Growing())
    assert max(len(text.text) // 4 + text.text.count(". ") * 3 for text in chunks) <= 30
    assert " ".join(texts(chunks)) == text.strip()


@pytest.mark.parametrize(
    ("limit", "overlap", "field"), [(0, 0, "max"), (10**6, 0, "max"), (9, 9, "overlap"), (9, -1, "overlap")]
)
def test_a_chunking_that_cannot_be_is_refused(limit: int, overlap: int, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        cut("Text.", ChunkerKind.SENTENCE, limit, overlap)
    assert caught.value.field == f"chunking.{field}_tokens"


def test_a_limit_below_one_character_is_refused() -> None:
    with pytest.raises(InvalidField, match="character 0 alone has more than 2 tokens"):
        cut("Text.", max_tokens=SPECIAL)


def test_an_encoding_that_is_not_here_is_refused_without_a_download(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    chunking = Chunking("tiktoken:p50k_edit")
    with pytest.raises(InvalidField, match="nothing is downloaded") as caught:
        asyncio.run(chunked(SourceDocument("doc", "Text."), chunking, Words()))
    assert caught.value.field == "chunking.tokenizer"


def test_tiktoken_counts_from_a_file_and_the_language_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
    text = "Schůzka je 5. června 2021 v Praze. Přišel také pan Novák, např. s dopisem. Nikdo jiný nepřišel. " * 20
    chunks = asyncio.run(chunked(SourceDocument("doc", text), Chunking("tiktoken:cl100k_base", max_tokens=50), Words()))
    encoding = load_encoding("cl100k_base")
    assert encoding is not None
    assert [len(encoding.encode_ordinary(chunk.text)) for chunk in chunks] == [chunk.tokens for chunk in chunks]
    assert max(chunk.tokens for chunk in chunks) <= 50
    assert all(chunk.text.endswith(("Praze.", "dopisem.", "nepřišel.")) for chunk in chunks)


def test_a_missing_library_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sentencex", raising=False)
    monkeypatch.setattr("embedscale.evaluator.documents.chunking.find_spec", lambda _: None)
    with pytest.raises(DatasetInvalid, match=r"pip install 'embedscale\[documents\]'"):
        cut("Text.")


@pytest.mark.parametrize("unit", ["word ", "a", "Hi there. ", "日", "| \n\n", "(", "a" + " " * 5000], ids=repr)
@pytest.mark.parametrize("kind", [ChunkerKind.SENTENCE, ChunkerKind.FIXED])
def test_a_line_of_megabytes_takes_time_by_its_length(unit: str, kind: ChunkerKind) -> None:
    def seconds(length: int) -> float:
        before = time.process_time()
        assert cut(unit * (length // len(unit)), kind, max_tokens=1000)
        return time.process_time() - before

    seconds(10_000)
    assert seconds(400_000) < 30 * seconds(50_000) + 1


def test_headings_of_all_nine_levels_of_word_are_kept() -> None:
    headings = tuple(Heading(10 * level, level, str(level)) for level in range(1, 10))
    text = " " * 95 + "word"
    assert cut(text, headings=headings)[0].headings == tuple("123456789")


async def test_long_paragraphs_are_not_cut_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()

    def noted(*arguments: Any) -> Iterator[Any]:
        threads.add(threading.get_ident())
        return sentences(*arguments)

    monkeypatch.setattr(cuts, "sentences", noted)
    document = SourceDocument("doc", "This is a plain sentence. " * 100)
    chunks = await chunked(document, Chunking("words", ChunkerKind.PARAGRAPH, 40), Words(), language="en")
    assert len(chunks) > 10
    assert threads
    assert threading.get_ident() not in threads


def test_many_headings_take_no_time_by_their_square() -> None:
    def seconds(count: int) -> float:
        lines = [f"Title\n\nThis is text number {place}.\n\n" for place in range(count)]
        starts = itertools.accumulate(map(len, lines), initial=0)
        headings = tuple(Heading(start, 2, "Title") for start, _ in zip(starts, lines, strict=False))
        start = time.process_time()
        assert len(cut("".join(lines), ChunkerKind.SECTION, headings=headings)) == count
        return time.process_time() - start

    seconds(10)
    assert seconds(32_000) < 30 * seconds(2_000) + 1
