"""Cuts documents into chunks of a limited number of tokens."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from importlib.util import find_spec

from embedscale.core.documents import Chunk, Chunking, Heading, SourceDocument
from embedscale.core.errors import DatasetInvalid, InvalidField
from embedscale.core.ports import TokenCounter
from embedscale.evaluator.datasets.languages import language_of
from embedscale.evaluator.documents.counting import Count, counting
from embedscale.evaluator.documents.cuts import Cutter, Piece
from embedscale.evaluator.documents.packing import Group, packed

MOST_TOKENS = 100_000
_CHARACTERS_PER_TOKEN = 32
_MOST_CHARACTERS = 200_000
_RUNS_PER_CHUNK = 8
_SAMPLE = 10_000
_LARGE = 2
"""A statement of several sentences that fills more than one half of a chunk would leave many chunks half empty."""


async def chunked(
    document: SourceDocument, chunking: Chunking, counter: TokenCounter, *, language: str = ""
) -> list[Chunk]:
    """Cut a document. Chunks come in the order of the text; what lies between them is whitespace alone.

    No chunk has more than `chunking.max_tokens` tokens. `counter` is asked where the tokenizer is a model's; an
    encoding of tiktoken is read from its file, and nothing is downloaded. An empty document has no chunks. The
    `language`, a BCP 47 tag, is told from the text where it is empty.
    Raises InvalidField for a chunking that cannot be, ModelNotFound for a tokenizer that is not known.
    """
    _check(chunking)
    if find_spec("sentencex") is None:
        raise DatasetInvalid(
            "cutting documents needs more packages: pip install 'embedscale[documents]'", field="documents"
        )
    if not document.text.strip():
        return []
    count = await counting(chunking.tokenizer, counter)
    tag = language or await asyncio.to_thread(language_of, [document.text[:_SAMPLE]])
    cutter = Cutter(document, tag, max(chunking.max_tokens // _RUNS_PER_CHUNK, 1))
    pieces = await asyncio.to_thread(cutter.pieces, chunking.kind)
    return await _Chunker(cutter, chunking, count).chunks(pieces)


def _check(chunking: Chunking) -> None:
    if not 1 <= chunking.max_tokens <= MOST_TOKENS:
        raise InvalidField(
            f"chunks have from 1 to {MOST_TOKENS} tokens, not {chunking.max_tokens}", field="chunking.max_tokens"
        )
    if not 0 <= chunking.overlap_tokens < chunking.max_tokens:
        raise InvalidField(
            f"an overlap of {chunking.overlap_tokens} tokens must be less than the {chunking.max_tokens} of a chunk",
            field="chunking.overlap_tokens",
        )


class _Chunker:
    def __init__(self, cutter: Cutter, chunking: Chunking, count: Count) -> None:
        self._cutter = cutter
        self._document = cutter.document
        self._chunking = chunking
        self._count = count
        self._longest = min(chunking.max_tokens * _CHARACTERS_PER_TOKEN, _MOST_CHARACTERS)
        self._paths = _paths(self._document.headings)

    async def chunks(self, pieces: Sequence[Piece]) -> list[Chunk]:
        """Chunks of the pieces."""
        extra = await self._extra()
        fitting, tokens = await self._fitting(pieces)
        limit = self._chunking.max_tokens - extra
        sizes = [max(found - extra, 0) for found in tokens]
        groups = await asyncio.to_thread(packed, fitting, sizes, limit, self._chunking.overlap_tokens)
        return await self._bounded(groups)

    async def _extra(self) -> int:
        """Tokens that every text has beside its own, as special ones and the model's prompt for documents."""
        once, twice = await self._count(["a", "a a"])
        return max(2 * once - twice, 0)

    async def _fitting(self, pieces: Sequence[Piece]) -> tuple[list[Piece], list[int]]:
        """Cut what is too long for a chunk until nothing is; each piece is counted once."""
        fitting, tokens = list(pieces), [-1] * len(pieces)
        while -1 in tokens:
            await self._count_short(fitting, tokens)
            fitting, tokens = await asyncio.to_thread(self._cut, fitting, tokens)
        return fitting, tokens

    def _cut(self, pieces: Sequence[Piece], tokens: Sequence[int]) -> tuple[list[Piece], list[int]]:
        """Cut what is too long; the tokens of what was cut are -1."""
        cut: list[Piece] = []
        known: list[int] = []
        for piece, found in zip(pieces, tokens, strict=True):
            parts = self._parts(piece, found)
            cut += parts
            known += [found] if parts == [piece] else [-1] * len(parts)
        return cut, known

    async def _count_short(self, pieces: Sequence[Piece], tokens: list[int]) -> None:
        """Count what is not counted yet, but for pieces so long that they cannot fit."""
        unknown = [place for place, found in enumerate(tokens) if found < 0]
        texts = {place: self._shortest(pieces[place]) for place in unknown}
        short = {place: text for place, text in texts.items() if len(text) <= self._longest}
        for place, found in zip(short, await self._count(list(short.values())), strict=True):
            tokens[place] = found

    def _shortest(self, piece: Piece) -> str:
        """The piece's text; of one that is too long without the space at its end, where no chunk ends."""
        text = self._document.text[piece.start : piece.end]
        return text if len(text) <= self._longest else text.rstrip()

    def _parts(self, piece: Piece, tokens: int) -> list[Piece]:
        if not 0 <= tokens <= self._chunking.max_tokens:
            return self._finer(piece)
        return [piece] if tokens * _LARGE <= self._chunking.max_tokens else self._cutter.sentences(piece)

    def _finer(self, piece: Piece) -> list[Piece]:
        parts = self._cutter.finer(piece)
        if not parts:
            raise InvalidField(
                f"{self._document.id}: character {piece.start} alone has more than "
                f"{self._chunking.max_tokens} tokens: allow more",
                field="chunking.max_tokens",
            )
        return parts

    async def _bounded(self, groups: Sequence[Group]) -> list[Chunk]:
        """Count whole chunks; one that has more tokens than its pieces had together is cut in two."""
        pending, chunks = [*groups], []
        while pending:
            spans = [_span(self._document.text, group) for group in pending]
            tokens = await self._count([self._document.text[start:end] for start, end in spans])
            again: list[Group] = []
            for group, span, found in zip(pending, spans, tokens, strict=True):
                if found <= self._chunking.max_tokens:
                    chunks.append(self._chunk(span, found))
                else:
                    again += _halves(group if len(group) > 1 else self._finer(group[0]))
            pending = again
        return sorted(chunks, key=lambda chunk: (chunk.start, chunk.end))

    def _chunk(self, span: tuple[int, int], tokens: int) -> Chunk:
        start, end = span
        under = bisect_right(self._document.headings, start, key=lambda heading: heading.start)
        path = self._paths[under - 1] if under else ()
        return Chunk(self._document.id, start, end, self._document.text[start:end], tokens, path)


def _span(text: str, group: Group) -> tuple[int, int]:
    start, end = group[0].start, group[-1].end
    return start, start + len(text[start:end].rstrip())


def _halves(group: Group) -> list[Group]:
    return [group[: len(group) // 2], group[len(group) // 2 :]]


def _paths(headings: Sequence[Heading]) -> list[tuple[str, ...]]:
    """For each heading, the titles that stand over the text below it, outermost first, its own last."""
    paths: list[tuple[str, ...]] = []
    above: list[Heading] = []
    for heading in headings:
        while above and above[-1].level >= heading.level:
            above.pop()
        above.append(heading)
        paths.append(tuple(one.title for one in above))
    return paths
