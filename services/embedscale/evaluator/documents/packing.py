"""Packs pieces into chunks, by the rule of LlamaIndex's SentenceSplitter."""

from collections.abc import Sequence

from embedscale.evaluator.documents.cuts import Piece

Group = Sequence[Piece]


def packed(pieces: Sequence[Piece], sizes: Sequence[int], limit: int, overlap: int) -> list[list[Piece]]:
    """Fill each chunk with pieces, in order, as long as their sizes add up to `limit` at most.

    A chunk begins with as many of the last pieces of the one before as have at most `overlap` together; they go again,
    the first ones first, where they leave no room for a new piece. No size exceeds `limit`.
    """
    groups: list[list[Piece]] = []
    begin = total = 0
    for place, (piece, size) in enumerate(zip(pieces, sizes, strict=True)):
        if place and (piece.apart or total + size > limit):
            groups.append(list(pieces[begin:place]))
            begin, total = (place, 0) if piece.apart else _repeated(sizes, begin, place, min(overlap, limit - size))
        total += size
    if pieces:
        groups.append(list(pieces[begin:]))
    return groups


def _repeated(sizes: Sequence[int], begin: int, end: int, room: int) -> tuple[int, int]:
    """Where the pieces begin that are repeated, and their size together."""
    start, total = end, 0
    while start > begin and total + sizes[start - 1] <= room:
        start -= 1
        total += sizes[start]
    return start, total
