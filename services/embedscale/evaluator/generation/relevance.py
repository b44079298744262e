"""Which chunks answer a question: those that hold the passage with the answer, wherever they were cut."""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate

HELD = 0.8
"""Share of the answer's span that a chunk must have to be relevant."""
SIMILAR = 85.0
"""So like its quote must a passage be that is not there word for word; 100 is equal."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters of a document, from `start` to before `end`."""

    document: str
    start: int
    end: int


def answer_spans(candidate: Candidate, chunks: Mapping[str, Chunk]) -> list[Span]:
    """For each of its chunks: the span of the quote, where it is found there, else of the whole chunk."""
    spans = []
    for chunk in (chunks[key] for key in candidate.chunks):
        start, end = located(candidate.quote, chunk.text) or (0, len(chunk.text))
        spans.append(Span(chunk.document, chunk.start + start, chunk.start + end))
    return spans


def located(quote: str, text: str) -> tuple[int, int] | None:
    """Where the quote is in the text: from its first to its last occurrence, as nobody knows which was meant.

    Case, accents, spaces and punctuation do not count; if it is still not there, the passage that is most like it.
    """
    wanted, _ = _letters(quote)
    letters, places = _letters(text)
    if not wanted:
        return None
    first, last = letters.find(wanted), letters.rfind(wanted)
    if first >= 0:
        return places[first], places[last + len(wanted) - 1] + 1
    best = fuzz.partial_ratio_alignment(wanted, letters, score_cutoff=SIMILAR) if len(wanted) <= len(letters) else None
    return (places[best.dest_start], places[best.dest_end - 1] + 1) if best else None


class Relevance:
    """Judges chunks by the spans they have; finds those of a document without looking at all."""

    def __init__(self, chunks: Mapping[str, Chunk]) -> None:
        self._chunks = chunks
        self._ends: dict[str, list[tuple[int, str]]] = defaultdict(list)

    def of(self, candidates: Sequence[Candidate]) -> list[list[str]]:
        """Ids of the relevant chunks of each candidate, its own first."""
        return [list(candidate.chunks) for candidate in candidates]


def _letters(text: str) -> tuple[str, Sequence[int]]:
    """Letters and digits alone, without accents, in small, and where in the text each was."""
    found = [
        (letter, place)
        for place, character in enumerate(text)
        for letter in unicodedata.normalize("NFKD", character).casefold()
        if letter.isalnum()
    ]
    return "".join(letter for letter, _ in found), [place for _, place in found]
