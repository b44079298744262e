"""The sentence chunker against LlamaIndex's SentenceSplitter, on the four texts of the EU AI Act sets."""

import asyncio
import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer
from llama_index.core.utils import get_tokenizer

from embedscale.core.dataset_audit import TokenLimits
from embedscale.core.documents import Chunking, SourceDocument
from embedscale.core.embedding import InputType
from embedscale.evaluator.documents.chunking import chunked

Span = tuple[int, int]


class LlamaIndexTokens:
    """Counts with the tokenizer that LlamaIndex counts with."""

    async def limits(self, model: str) -> TokenLimits:
        raise AssertionError(model)

    async def count_tokens(self, model: str, texts: Sequence[str], input_type: InputType) -> Sequence[int]:
        return [len(get_tokenizer()(text)) for text in texts]


@pytest.fixture(params=["EN", "FR", "CS", "HU"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def text(ai_act: Path, language: str) -> str:
    return "\n".join(json.loads((ai_act / f"{language}_dataset.json").read_text("utf-8"))["corpus"].values())


def found(text: str, parts: Iterable[str]) -> list[Span]:
    """Where parts stand in a text, in order; they may overlap."""
    spans, start = [], 0
    for part in parts:
        begin = text.index(part, start)
        spans.append((begin, begin + len(part)))
        start = begin + 1
    return spans


def cut_sentences(text: str, chunks: Iterable[Span]) -> set[Span]:
    """Sentences, as LlamaIndex sees them and without an empty line inside, that a chunk begins or ends within."""
    sentences = found(text, filter(None, map(str.strip, split_by_sentence_tokenizer()(text))))
    begins = [begin for begin, _ in sentences]
    cut = set()
    for place in {place for chunk in chunks for place in chunk}:
        begin, end = sentences[max(bisect_right(begins, place) - 1, 0)]
        if begin < place < end and "\n\n" not in text[begin:end]:
            cut.add((begin, end))
    return cut


@pytest.mark.parametrize(("tokens", "overlap"), [(1000, 0), (1024, 200)])
def test_as_many_chunks_and_no_sentence_cut_that_it_leaves_whole(
    text: str, language: str, tokens: int, overlap: int
) -> None:
    splitter = SentenceSplitter(chunk_size=tokens, chunk_overlap=overlap)
    theirs = found(text, splitter.split_text(text))
    chunking = Chunking("llama-index", max_tokens=tokens, overlap_tokens=overlap)
    chunks = asyncio.run(chunked(SourceDocument("act", text), chunking, LlamaIndexTokens(), language=language.lower()))
    ours = [(chunk.start, chunk.end) for chunk in chunks]
    assert abs(len(ours) - len(theirs)) <= 0.02 * len(theirs)
    assert cut_sentences(text, ours) <= cut_sentences(text, theirs)
