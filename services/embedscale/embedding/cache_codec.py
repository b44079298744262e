"""Layout of the cache: which key a text has, and how a vector is written under it.

Key:    "es1:" fingerprint ":" blake2b-160 of the prompted text (keyed with the blake2b-512 of the variant, if there is
        one), in hexadecimal.
Value:  magic "ES1", dtype (1: float32, 2: float16), flags (1: truncated, 2: token count known), 3 bytes reserved,
        dimensions uint32, token count uint32, checksum (8 bytes), vector; all little-endian.

The checksum, XXH3-64, covers the key, the rest of the header and the vector: a value that is damaged, cut or stored
under another's key does not pass. It guards against accidents, not against somebody who may write to Redis.
"""

import hashlib
import struct

import numpy as np
import xxhash
from numpy.typing import NDArray

from embedscale.core.embedding import Embedding, PreparedText

_FACTS = struct.Struct("<3sBB3xII")
_VALUE_START = _FACTS.size + xxhash.xxh3_64().digest_size
_MAGIC = b"ES1"
_DTYPES: dict[int, np.dtype[np.floating]] = {1: np.dtype("<f4"), 2: np.dtype("<f2")}
_TRUNCATED, _COUNTED = 1, 2


class CorruptValue(Exception):
    """What is stored under the key is not a vector of that key."""


def cache_key(fingerprint: str, text: PreparedText) -> bytes:
    """Key of a text's vector in the space `fingerprint`."""
    content = text.prompted.encode("utf-8", "surrogatepass")
    variant = hashlib.blake2b(text.variant.encode()).digest() if text.variant else b""
    digest = hashlib.blake2b(content, digest_size=20, key=variant).hexdigest()
    return f"es1:{fingerprint}:{digest}".encode()


def pack(key: bytes, embedding: Embedding, *, half: bool = False) -> bytes:
    """Write an embedding; with `half` its vector is rounded to float16."""
    code = 2 if half else 1
    vector = embedding.vector.astype(_DTYPES[code], copy=False).tobytes()
    flags = _TRUNCATED * embedding.truncated | _COUNTED * (embedding.token_count is not None)
    facts = _FACTS.pack(_MAGIC, code, flags, embedding.vector.shape[0], embedding.token_count or 0)
    return b"".join((facts, _checksum(key, facts, vector), vector))


def unpack(key: bytes, value: bytes) -> Embedding:
    """Read an embedding. Raises CorruptValue for anything that `pack` did not write under this key."""
    try:
        magic, code, flags, dimensions, token_count = _FACTS.unpack_from(value)
        dtype = _DTYPES[code]
    except (struct.error, KeyError):
        raise CorruptValue from None
    vector = value[_VALUE_START:]
    if magic != _MAGIC or len(vector) != dimensions * dtype.itemsize:
        raise CorruptValue
    if value[_FACTS.size : _VALUE_START] != _checksum(key, value[: _FACTS.size], vector):
        raise CorruptValue
    numbers: NDArray[np.float32] = np.frombuffer(vector, dtype).astype(np.float32)
    return Embedding(numbers, token_count if flags & _COUNTED else None, bool(flags & _TRUNCATED))


def _checksum(key: bytes, facts: bytes, vector: bytes) -> bytes:
    return xxhash.xxh3_64_digest(b"".join((key, facts, vector)))
