"""What an embedding call returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedscale.client.errors import FailedPrecondition, Internal
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

UNTOLD = -1
"""Token count of a text whose tokens the server does not tell: some upstreams report only the total of a batch."""

_DTYPES: dict[int, type[np.generic]] = {
    wire.ENCODING_FLOAT32: np.float32,
    wire.ENCODING_FLOAT16: np.float16,
    wire.ENCODING_INT8: np.int8,
    wire.ENCODING_BINARY: np.uint8,
}


@dataclass(frozen=True)
class EmbedResult:
    """Vectors and what they cost: row i of the matrix and entry i of the other arrays belong to text i."""

    vectors: NDArray[Any]
    """Matrix of shape (n, d) in the encoding that was asked for: float32, float16, int8 (`round(127 x)`), or for binary
    uint8 of shape (n, d / 8), rounded up, that `np.unpackbits` takes apart."""
    token_counts: NDArray[np.int64]
    """Tokens of each text before truncation, shape (n,); -1 where the server does not tell."""
    truncated_rows: NDArray[np.bool_]
    """Which texts were cut to the model's maximum, shape (n,)."""
    cached_rows: NDArray[np.bool_]
    """Which vectors came from the cache, shape (n,)."""
    fingerprint: str
    """Name of the vector space: vectors may be compared only if theirs are equal."""
    tokens_used: int
    """Tokens that were computed or charged; cached texts cost none."""
    cost: float
    """US dollars."""

    @property
    def cache_hits(self) -> int:
        """How many vectors came from the cache."""
        return int(self.cached_rows.sum())

    @property
    def truncated(self) -> int:
        """How many texts were cut to the model's maximum."""
        return int(self.truncated_rows.sum())

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.vectors)


def from_response(response: pb.EmbedResponse, count: int, encoding: wire.Encoding) -> EmbedResult:
    """Read the answer to a batch of `count` texts. Raises Internal if it has another number of rows or encoding."""
    facts, size = response.inputs, len(response.embeddings)
    if (response.encoding or wire.ENCODING_FLOAT32) != encoding:
        raise Internal(f"a server answered with encoding {response.encoding}, and {encoding} was asked for")
    dtype, columns = _row(encoding, response.dimensions)
    if len(facts) != count or size != count * columns * dtype().itemsize:
        raise Internal(f"a server answered {count} texts with {len(facts)} entries and {size} bytes of vectors")
    rows = np.frombuffer(response.embeddings, np.dtype(dtype).newbyteorder("<")).astype(dtype)
    counts = (one.token_count if one.HasField("token_count") else UNTOLD for one in facts)
    return EmbedResult(
        vectors=rows.reshape(count, columns),
        token_counts=np.fromiter(counts, np.int64, count),
        truncated_rows=np.fromiter((one.truncated for one in facts), np.bool_, count),
        cached_rows=np.fromiter((one.cache_hit for one in facts), np.bool_, count),
        fingerprint=response.fingerprint,
        tokens_used=response.tokens_used,
        cost=response.cost,
    )


def nothing(dimensions: int, fingerprint: str, encoding: wire.Encoding) -> EmbedResult:
    """No texts: a matrix of no rows."""
    empty = np.zeros(0, np.bool_)
    dtype, columns = _row(encoding, dimensions)
    vectors = np.zeros((0, columns), dtype)
    return EmbedResult(vectors, np.zeros(0, np.int64), empty, empty, fingerprint, tokens_used=0, cost=0.0)


def _row(encoding: wire.Encoding, dimensions: int) -> tuple[type[np.generic], int]:
    """Kind and number of the numbers of a vector."""
    bits = encoding == wire.ENCODING_BINARY
    return _DTYPES[encoding], -(-dimensions // 8) if bits else dimensions


def joined(blocks: Sequence[EmbedResult]) -> EmbedResult:
    """Put blocks of one vector space, at least one, one below the other."""
    if len(blocks) == 1:
        return blocks[0]
    return EmbedResult(
        vectors=np.concatenate([block.vectors for block in blocks]),
        token_counts=np.concatenate([block.token_counts for block in blocks]),
        truncated_rows=np.concatenate([block.truncated_rows for block in blocks]),
        cached_rows=np.concatenate([block.cached_rows for block in blocks]),
        fingerprint=blocks[0].fingerprint,
        tokens_used=sum(block.tokens_used for block in blocks),
        cost=sum(block.cost for block in blocks),
    )


def refuse_mixed(first: str, second: str, model: str) -> None:
    """Raise FailedPrecondition if two answers are not of one vector space."""
    if first != second:
        message = f"replicas of {model!r} have different vector spaces; their vectors cannot be used together"
        raise FailedPrecondition(message, reason="UPSTREAM_CHANGED", field="model")
