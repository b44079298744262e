"""The cache's layout: what is written is read, and nothing else is taken for a vector."""

from collections.abc import Sequence

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.embedding import Embedding, PreparedText
from embedscale.embedding.cache_codec import CorruptValue, cache_key, pack, unpack

FINGERPRINT = "0123456789abcdef0123456789abcdef"
KEY = cache_key(FINGERPRINT, PreparedText("query: Où est le café ?", variant="e5-query"))
EXAMPLE = Embedding(np.asarray([0.5, -1.0, 0.0, 3.25], np.float32), token_count=9, truncated=True)

numbers = st.floats(width=32, allow_nan=False)
half_numbers = st.floats(width=16, allow_nan=False)
token_counts = st.none() | st.integers(0, 2**32 - 1)
texts = st.text(st.characters(exclude_categories=()))


def assert_same(read: Embedding, written: Embedding) -> None:
    assert read.vector.dtype == np.float32
    assert read.vector.tobytes() == written.vector.tobytes()
    assert read.token_count == written.token_count
    assert type(read.truncated) is bool
    assert read.truncated == written.truncated


def embedding(vector: Sequence[float], token_count: int | None, truncated: bool) -> Embedding:
    return Embedding(np.asarray(vector, np.float32), token_count, truncated)


@given(st.binary(), st.lists(numbers, max_size=40), token_counts, st.booleans())
@settings(deadline=None)
def test_what_is_packed_is_unpacked(key: bytes, vector: list[float], token_count: int | None, truncated: bool) -> None:
    written = embedding(vector, token_count, truncated)
    assert_same(unpack(key[:64], pack(key[:64], written)), written)


@given(st.lists(half_numbers, max_size=40), token_counts, st.booleans())
@settings(deadline=None)
def test_half_precision_keeps_numbers_that_float16_has(
    vector: list[float], token_count: int | None, truncated: bool
) -> None:
    written = embedding(vector, token_count, truncated)
    assert_same(unpack(KEY, pack(KEY, written, half=True)), written)


def test_half_precision_rounds_and_takes_two_bytes_a_number() -> None:
    vector = np.linspace(-1, 1, 101, dtype=np.float32)
    full, half = (pack(KEY, Embedding(vector, 3, False), half=half) for half in (False, True))
    assert len(full) - len(half) == 2 * 101
    assert np.array_equal(unpack(KEY, half).vector, vector.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("magic", "dimensions"), [(b"ES2", 4), (b"\0\0\0", 4), (b"ES1", 3), (b"ES1", 5), (b"ES1", 2**32 - 1)]
)
def test_a_strange_header_is_noticed_even_under_a_right_checksum(magic: bytes, dimensions: int) -> None:
    value = pack(KEY, EXAMPLE)
    vector = value[24:]
    header = magic + value[3:8] + dimensions.to_bytes(4, "little") + value[12:16]
    with pytest.raises(CorruptValue):
        unpack(KEY, header + xxhash.xxh3_64_digest(KEY + header + vector) + vector)


def test_an_unpacked_vector_can_be_written_to() -> None:
    unpack(KEY, pack(KEY, EXAMPLE)).vector[0] = 1.0


@pytest.mark.parametrize("half", [False, True])
def test_any_flipped_bit_is_noticed(half: bool) -> None:
    value = pack(KEY, EXAMPLE, half=half)
    for bit in range(8 * len(value)):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptValue):
            unpack(KEY, bytes(damaged))


@pytest.mark.parametrize("half", [False, True])
def test_any_truncation_is_noticed(half: bool) -> None:
    value = pack(KEY, EXAMPLE, half=half)
    for length in range(len(value)):
        with pytest.raises(CorruptValue):
            unpack(KEY, value[:length])


@pytest.mark.parametrize("rest", [b"\0", b"\0\0\0\0", b"ES1"])
def test_bytes_after_the_value_are_noticed(rest: bytes) -> None:
    with pytest.raises(CorruptValue):
        unpack(KEY, pack(KEY, EXAMPLE) + rest)


@pytest.mark.parametrize(
    "other",
    [
        cache_key(FINGERPRINT, PreparedText("query: Où est le café ?", variant="e5-passage")),
        cache_key(FINGERPRINT[::-1], PreparedText("query: Où est le café ?", variant="e5-query")),
        KEY[:-1],
        b"",
    ],
)
def test_a_value_under_another_key_is_noticed(other: bytes) -> None:
    with pytest.raises(CorruptValue):
        unpack(other, pack(KEY, EXAMPLE))


@given(st.binary(max_size=100) | st.binary(max_size=100).map(lambda rest: b"ES1\x01" + rest))
@settings(deadline=None)
def test_foreign_bytes_are_noticed(value: bytes) -> None:
    with pytest.raises(CorruptValue):
        unpack(KEY, value)


@pytest.mark.parametrize("value", [b"", b"1", b'{"vector": [0.5]}', b"\x80\x04K\x01.", b"\0" * 24, b"\xff" * 400])
def test_what_others_would_store_is_noticed(value: bytes) -> None:
    with pytest.raises(CorruptValue):
        unpack(KEY, value)


@given(st.tuples(texts, texts), st.tuples(texts, texts))
@settings(deadline=None)
def test_keys_are_equal_only_for_equal_texts_and_variants(one: tuple[str, str], other: tuple[str, str]) -> None:
    variants = [name.encode("utf-8", "replace").decode()[:16] for _, name in (one, other)]
    inputs = [PreparedText(text, variant) for (text, _), variant in zip((one, other), variants, strict=True)]
    keys = [cache_key(FINGERPRINT, text) for text in inputs]
    assert (keys[0] == keys[1]) == (inputs[0] == inputs[1])


def test_the_key_depends_on_fingerprint_text_and_variant() -> None:
    keys = {
        cache_key(fingerprint, PreparedText(text, variant))
        for fingerprint in (FINGERPRINT, FINGERPRINT[::-1])
        for text in ("", "a", "A", "á", "a\u0301", "a ")
        for variant in ("", "a", "a\0", "b")
    }
    assert len(keys) == 2 * 6 * 4


def test_the_key_depends_on_all_of_a_long_variant() -> None:
    path = "https://models.example.org/organisations/acme/deployments/embedding-large/"
    keys = {cache_key(FINGERPRINT, PreparedText("a", path + name)) for name in ("query", "document")}
    assert len(keys) == 2


def test_a_lone_surrogate_has_a_key() -> None:
    assert cache_key(FINGERPRINT, PreparedText("\ud800")) != cache_key(FINGERPRINT, PreparedText("?"))


def test_the_layout_is_final() -> None:
    assert KEY == PINNED_KEY
    assert cache_key(FINGERPRINT, PreparedText("query: Où est le café ?")) == PINNED_KEY_WITHOUT_VARIANT
    assert pack(KEY, EXAMPLE).hex() == PINNED_VALUE
    assert pack(KEY, embedding([0.5, -1.0], None, False), half=True).hex() == PINNED_HALF_VALUE


PINNED_KEY = b"es1:0123456789abcdef0123456789abcdef:850673438ca1a719aa721e513dc113db3f3fa12e"
PINNED_KEY_WITHOUT_VARIANT = b"es1:0123456789abcdef0123456789abcdef:24419d2f696c342385f86696356d940e2b465593"
PINNED_VALUE = "455331010300000004000000090000002a65af8ca27ed9480000003f000080bf0000000000005040"
PINNED_HALF_VALUE = "4553310200000000020000000000000064d6e17865e852f2003800bc"
