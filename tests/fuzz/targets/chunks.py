"""Chunks and sentences: in order, within their bound, all of the text in them, spans that index into the text.

The first three bytes are the kind, the bound and the overlap.
"""

import asyncio
import re
from collections.abc import Sequence

from embedscale.core.dataset_audit import TokenLimits
from embedscale.core.documents import Chunk, ChunkerKind, Chunking, SourceDocument
from embedscale.core.embedding import InputType
from embedscale.evaluator.documents.chunking import chunked
from embedscale.evaluator.documents.sentences import sentences
from embedscale.evaluator.documents.text import normalised

_HEADER = 3
_LANGUAGES = ("en", "cs", "hu", "ja", "und", "")


class _Words:
    """Counts words of at most ten letters, and other characters, with two special tokens."""

    async def limits(self, model: str) -> TokenLimits:
        raise AssertionError(model)

    async def count_tokens(self, model: str, texts: Sequence[str], input_type: InputType) -> Sequence[int]:
        return [2 + len(re.findall(r"\w{1,10}|[^\w\s]", text)) for text in texts]


def check(data: bytes) -> None:
    if len(data) < _HEADER:
        return
    text = normalised(data[_HEADER:].decode("utf-8", "replace"))
    bound = 3 + data[1] % 60
    kind = list(ChunkerKind)[data[0] % len(ChunkerKind)]
    chunking = Chunking("words", kind, bound, data[2] % bound)
    language = _LANGUAGES[data[0] % len(_LANGUAGES)]
    _check_sentences(text, language or "en")
    _check_chunks(text, asyncio.run(chunked(SourceDocument("d", text), chunking, _Words(), language=language)), bound)


def _check_sentences(text: str, language: str) -> None:
    reached = 0
    for start, end in sentences(text, language):
        assert reached <= start < end <= len(text)
        assert not text[reached:start].strip()
        assert text[start:end].strip() == text[start:end]
        reached = end
    assert not text[reached:].strip()


def _check_chunks(text: str, chunks: Sequence[Chunk], bound: int) -> None:
    covered = 0
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip()
        assert 0 < chunk.tokens <= bound
        assert not text[covered : chunk.start].strip()
        covered = max(covered, chunk.end)
    assert not text[covered:].strip()
