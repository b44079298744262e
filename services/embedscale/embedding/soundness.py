"""Which vectors may enter the cache, and leave it."""

from collections.abc import Sequence

import numpy as np

from embedscale.core.embedding import Embedding, VectorSpace

_LENGTH_TOLERANCE = 1e-3
"""How far from 1 the length of a normalised vector may be; rounding to float16 moves it by less than 1e-4."""


def sound(space: VectorSpace, embeddings: Sequence[Embedding], *, largest: float = np.inf) -> list[bool]:
    """Whether embedding i is a vector of the space: as long as its others, finite, of length 1 where all are.

    `largest` is the magnitude that no number may exceed.
    """
    if all(entry.vector.shape == (space.dimensions,) for entry in embeddings):
        return _sound_rows(space, embeddings, largest)
    return [
        entry.vector.shape == (space.dimensions,) and all(_sound_rows(space, [entry], largest)) for entry in embeddings
    ]


def _sound_rows(space: VectorSpace, embeddings: Sequence[Embedding], largest: float) -> list[bool]:
    if not embeddings:
        return []
    rows = np.array([entry.vector for entry in embeddings])
    if space.normalized:
        squares = np.einsum("ij,ij->i", rows, rows)
        return [bool(fine) for fine in np.abs(np.sqrt(squares) - 1) <= _LENGTH_TOLERANCE]
    fine = np.isfinite(rows).all(axis=1) & (np.abs(rows).max(axis=1, initial=0) <= largest)
    return [bool(row) for row in fine]
