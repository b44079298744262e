"""Which chunks answer a question: all that hold the passage with the answer, wherever the text was cut.

The passage is the one that the question's writer quoted, where it is found in the question's chunk, else the whole
chunk. A chunk of the same document is relevant if it has at least `HELD` of the passage, one of any document if it has
the same passage again, word for word.
"""

import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

from rapidfuzz import fuzz

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate

HELD = 0.8
"""Share of the passage's characters that make a chunk of the same document relevant."""
SIMILAR = 85.0
"""So like its quote must a passage be that is not there word for word; 100 is equal."""
SHORTEST_QUOTE = 5
"""Letters that a quote must have to be looked for."""
_REPEATED = 32
"""Letters that a passage must have for its repetition to be no chance."""
_OMISSION = re.compile(r"\s*(?:\[?(?:\.\s?){3,}\]?|\[?…\]?)\s*")
_NO_LETTERS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters of a document, from `start` to before `end`."""

    document: str
    start: int
    end: int
    text: str


def answer(quote: str, chunk: Chunk) -> Passage:
    """Return the quote, where it is found in the chunk, else the whole chunk."""
    start, end = located(quote, chunk.text) or (0, len(chunk.text))
    return Passage(chunk.document, chunk.start + start, chunk.start + end, chunk.text[start:end])


def located(quote: str, text: str) -> tuple[int, int] | None:
    """Where the quote is in the text; from its first to its last occurrence, as nobody knows which one was meant.

    If it is not there, case, accents, spaces and punctuation do not count; if it still is not, the passage most like it
    is taken. Of a quote with omissions all parts must be there.
    """
    places = [_found(part, text) for part in _OMISSION.split(quote.strip()) if letters_of(part)]
    found = [place for place in places if place]
    if not found or len(found) < len(places):
        return None
    return min(start for start, _ in found), max(end for _, end in found)


def _found(quote: str, text: str) -> tuple[int, int] | None:
    wanted = letters_of(quote)
    if len(wanted) < SHORTEST_QUOTE:
        return None
    if quote in text:
        return text.find(quote), text.rfind(quote) + len(quote)
    letters, at = _letters_placed(text)
    if wanted in letters:
        return at[letters.find(wanted)], at[letters.rfind(wanted) + len(wanted) - 1] + 1
    if len(wanted) > len(letters):
        return None
    like = fuzz.partial_ratio_alignment(wanted, letters, score_cutoff=SIMILAR)
    return (at[like.dest_start], at[like.dest_end - 1] + 1) if like else None


class Relevance:
    """Judges chunks by the passages they hold. Long work on a processor: not for the event loop."""

    def __init__(self, chunks: Mapping[str, Chunk]) -> None:
        self._chunks = chunks
        self._documents: dict[str, list[Chunk]] = defaultdict(list)
        for chunk in chunks.values():
            self._documents[chunk.document].append(chunk)
        for of_document in self._documents.values():
            of_document.sort(key=attrgetter("start"))
        self._longest = {name: max(c.end - c.start for c in cut) for name, cut in self._documents.items()}

    def of(self, candidates: Sequence[Candidate]) -> list[list[str]]:
        """Ids of the chunks that are relevant to each candidate, its own first. Reads all chunks once."""
        answers = [[answer(one.quote, self._chunks[key]) for key in one.chunks] for one in candidates]
        relevant = [dict.fromkeys(candidate.chunks) for candidate in candidates]
        for place, key in chain(self._holding(answers), self._repeating(answers)):
            relevant[place][key] = None
        return [list(keys) for keys in relevant]

    def _holding(self, answers: Sequence[Sequence[Passage]]) -> Iterator[tuple[int, str]]:
        """Places in `answers` and chunks that were cut from there."""
        for place, passage in _each(answers):
            chunks, least = self._documents[passage.document], HELD * (passage.end - passage.start)
            first = bisect_left(chunks, passage.start - self._longest[passage.document], key=attrgetter("start"))
            last = bisect_left(chunks, passage.end, key=attrgetter("start"))
            for chunk in chunks[first:last]:
                if min(chunk.end, passage.end) - max(chunk.start, passage.start) >= least:
                    yield place, chunk.id

    def _repeating(self, answers: Sequence[Sequence[Passage]]) -> Iterator[tuple[int, str]]:
        """Places in `answers` and chunks that have one of them, which is first looked for by its middle."""
        middles: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for place, passage in _each(answers):
            if len(letters := letters_of(passage.text)) >= _REPEATED:
                before = (len(letters) - _REPEATED) // 2
                middles[letters[before : before + _REPEATED]][letters].append(place)
        for key, chunk in self._chunks.items():
            letters = letters_of(chunk.text)
            for middle in {part for part in _parts(letters) if part in middles}:
                for wanted, places in middles[middle].items():
                    if wanted in letters:
                        yield from ((place, key) for place in places)


def _each(answers: Sequence[Sequence[Passage]]) -> Iterator[tuple[int, Passage]]:
    return ((place, passage) for place, passages in enumerate(answers) for passage in passages)


def _parts(letters: str) -> Iterator[str]:
    return (letters[start : start + _REPEATED] for start in range(len(letters) - _REPEATED + 1))


def letters_of(text: str) -> str:
    """Letters and digits alone, small and without accents: by these, quotes are compared."""
    return _NO_LETTERS.sub("", unicodedata.normalize("NFKD", text).casefold())


def _letters_placed(text: str) -> tuple[str, Sequence[int]]:
    """The same, and where in the text each of them was."""
    found = [(letter, place) for place, character in enumerate(text) for letter in letters_of(character)]
    return "".join(letter for letter, _ in found), [place for _, place in found]
