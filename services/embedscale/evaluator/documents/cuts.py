"""Where a text may be cut: coarse at first, and finer where a piece is still too long."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from embedscale.core.documents import ChunkerKind, Heading, SourceDocument
from embedscale.evaluator.documents.sentences import Span, sentences

_PARAGRAPHS_END = re.compile(r"\n[ \t]*\n\s*")
_CLAUSE_END = re.compile(r"(?<=[,;:–—])\s+|(?<=[、，；：。！？])(?!\s)|\n+")
_SPACE = re.compile(r"\s+")
_MOST_SPACE = 1000
_ENDED = re.compile(r"""[.!?…。！？][\s"'“”»’)\]』」）]*\Z""")
_FIRST_LEVEL = {ChunkerKind.SENTENCE: 1, ChunkerKind.PARAGRAPH: 0, ChunkerKind.SECTION: 0, ChunkerKind.FIXED: 4}
_LAST_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """A span that a chunk holds whole: it begins with a character and ends where the next one begins.

    `apart`: no chunk holds it together with what stands before it. `level` says how it was cut, 0 the coarsest.
    """

    start: int
    end: int
    level: int
    apart: bool = False


@dataclass(frozen=True)
class Cutter:
    """Cuts one document."""

    document: SourceDocument
    language: str
    run: int
    """Characters of a run of words: a chunk holds about a dozen runs or more, whatever its script."""

    @cached_property
    def _titles(self) -> frozenset[int]:
        return frozenset(heading.start for heading in self.document.headings)

    def pieces(self, kind: ChunkerKind) -> list[Piece]:
        """The document as the chunker wants it cut, if budgets allow."""
        text = self.document.text
        sections = _section_starts(self.document.headings, text) if kind is ChunkerKind.SECTION else []
        bounds = [0, *sections, len(text)]
        apart = set(sections)
        found: list[Piece] = []
        for start, end in pairwise(bounds):
            inside = self._cut(start, end, _FIRST_LEVEL[kind])
            if inside and start in apart:
                inside[0] = Piece(inside[0].start, inside[0].end, inside[0].level, apart=True)
            found += inside
        return found

    def sentences(self, piece: Piece) -> list[Piece]:
        """The sentences that were joined in a statement; else the piece as it is."""
        found = self._cut(piece.start, piece.end, 2) if piece.level == 1 else []
        return self._led(piece, found) if len(found) > 1 else [piece]

    def finer(self, piece: Piece) -> list[Piece]:
        """Cut a piece at the next level that cuts it at all; empty for a single character."""
        level = piece.level
        while level <= _LAST_LEVEL:
            level += 1
            found = self._cut(piece.start, piece.end, min(level, _LAST_LEVEL))
            if len(found) > 1:
                return self._led(piece, found)
        return []

    def _led(self, piece: Piece, found: list[Piece]) -> list[Piece]:
        return [Piece(found[0].start, found[0].end, found[0].level, piece.apart), *found[1:]]

    def _cut(self, start: int, end: int, level: int) -> list[Piece]:
        part = self.document.text[start:end]
        spans = [(start + first, start + last) for first, last in self._spans(part, level)]
        if level == 1:
            spans = list(self._statements(spans))
        return _joined(self.document.text, spans, end, level)

    def _spans(self, part: str, level: int) -> Iterable[Span]:
        match level:
            case 0:
                return _between(part, _PARAGRAPHS_END)
            case 1 | 2:
                return sentences(part, self.language)
            case 3:
                return _between(part, _CLAUSE_END)
            case 4:
                return _runs(_between(part, _SPACE), self.run)
            case 5:
                return ((start, min(start + self.run, len(part))) for start in range(0, len(part), self.run))
            case _:
                middle = len(part.rstrip()) // 2
                return [(0, middle), (middle, len(part))] if middle else [(0, len(part))]

    def _statements(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Join what no full stop ends with what follows: a title with its text, the items of a list, a table."""
        begin, end = -1, -1
        for first, last in spans:
            if begin >= 0 and (first in self._titles or _ENDED.search(self.document.text, max(begin, end - 10), end)):
                yield begin, end
                begin = first
            begin, end = (first if begin < 0 else begin), last
        if begin >= 0:
            yield begin, end


def _joined(text: str, spans: Iterable[Span], end: int, level: int) -> list[Piece]:
    """Let each span reach to the next one, unless there is very much space between the two."""
    found: list[Piece] = []
    apart = False
    trimmed = [span for span in (_trimmed(text, span) for span in spans) if span[0] < span[1]]
    for (start, last), following in zip(trimmed, [*(first for first, _ in trimmed[1:]), end], strict=True):
        far = following - last > _MOST_SPACE
        found.append(Piece(start, last if far or level == _LAST_LEVEL else following, level, apart))
        apart = far
    return found


def _trimmed(text: str, span: Span) -> Span:
    start, end = span
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


def _between(part: str, separator: re.Pattern[str]) -> Iterator[Span]:
    start = 0
    for found in separator.finditer(part):
        if found.start() > start:
            yield start, found.start()
        start = found.end()
    if start < len(part):
        yield start, len(part)


def _runs(words: Iterable[Span], characters: int) -> Iterator[Span]:
    start = end = -1
    for first, last in words:
        if start >= 0 and last - start > characters:
            yield start, end
            start = first
        start, end = (first if start < 0 else start), last
    if start >= 0:
        yield start, end


def _section_starts(headings: Sequence[Heading], text: str) -> list[int]:
    """Where sections begin; a heading that stands right under another one begins none, for the upper has no text."""
    starts: list[int] = []
    after = -1
    for heading in headings:
        if after < 0 or text[after : heading.start].strip():
            starts.append(heading.start)
        line_end = text.find("\n", heading.start)
        after = len(text) if line_end < 0 else line_end
    return [start for start in starts if start > 0]
