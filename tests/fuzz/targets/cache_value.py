"""Values of the cache: exactly the vector that was written, or none; a changed value is noticed, whatever its header.

The first four bytes are flags and damage, the next twelve the vector's parts, the rest is a foreign value.
"""

import numpy as np

from embedscale.core.embedding import Embedding, PreparedText
from embedscale.embedding.cache_codec import CorruptValue, cache_key, pack, unpack

_KEY = cache_key("f" * 32, PreparedText("text"))
_HEADER = 4


def check(data: bytes) -> None:
    if len(data) < _HEADER:
        return
    half = bool(data[0] & 1)
    vector = np.frombuffer(data[_HEADER : len(data) - len(data) % 4], "<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        written = Embedding(vector, data[0] if data[0] & 2 else None, bool(data[0] & 4))
        value = pack(_KEY, written, half=half)
        kept = vector.astype("<f2").astype("<f4") if half else vector
        found = unpack(_KEY, value)
    assert found.vector.tobytes() == kept.tobytes()
    assert (found.token_count, found.truncated) == (written.token_count, written.truncated)
    changed = bytearray(value)
    changed[int.from_bytes(data[1:3], "little") % len(changed)] ^= data[3]
    for other in (bytes(changed), value[: data[1]], value + data[:1], data, b"ES1" + data):
        assert other == value or _is_refused(other)


def _is_refused(value: bytes) -> bool:
    try:
        unpack(_KEY, value)
    except CorruptValue:
        return True
    return False
