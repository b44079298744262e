"""What is derived from full vectors: shorter ones, and other encodings."""

import numpy as np
from numpy.typing import NDArray

from embedscale.core.embedding import Encoding, Matrix


def cut(vectors: Matrix, dimensions: int, *, normalize: bool) -> Matrix:
    """Keep the leading `dimensions` columns of (n, d) vectors; with `normalize`, rows have length 1 again."""
    if dimensions in (0, vectors.shape[1]):
        return vectors
    shorter = np.ascontiguousarray(vectors[:, :dimensions])
    return l2_normalized(shorter) if normalize else shorter


def l2_normalized(vectors: Matrix) -> Matrix:
    """Divide each row by its length; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalized: Matrix = vectors / np.maximum(lengths, 1e-12, dtype=np.float32)
    return normalized


def encode(vectors: Matrix, encoding: Encoding) -> bytes:
    """Write (n, d) vectors row by row, little-endian, as `Encoding` in the wire's `types.proto` says."""
    return _encoded(vectors, encoding).tobytes()


def _encoded(vectors: Matrix, encoding: Encoding) -> NDArray[np.generic]:
    match encoding:
        case Encoding.FLOAT32:
            return vectors.astype("<f4", copy=False)
        case Encoding.FLOAT16:
            return vectors.astype("<f2")
        case Encoding.INT8:
            return np.clip(np.rint(vectors * 127), -127, 127).astype(np.int8)
        case Encoding.BINARY:
            return np.packbits(vectors > 0, axis=1)


def as_compared(vectors: Matrix, encoding: Encoding) -> Matrix:
    """What an inner product of encoded vectors sees: the rounded numbers, and for bits -1 and 1."""
    if encoding is Encoding.BINARY:
        return np.where(vectors > 0, np.float32(1), np.float32(-1))
    return _encoded(vectors, encoding).astype(np.float32)


def bytes_per_vector(dimensions: int, encoding: Encoding) -> int:
    """Size of one encoded vector."""
    return _encoded(np.zeros((1, dimensions), np.float32), encoding).nbytes
