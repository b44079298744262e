"""Cutting and encoding against straightforward numpy and loops."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from embedscale.core.embedding import Encoding
from embedscale.core.vectors import cut, encode, l2_normalized

matrices = st_numpy.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 20)),
    elements=st.floats(-2, 2, width=32, allow_subnormal=False),
)


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 24)).astype(np.float32)


@given(matrices, st.integers(1, 20))
@settings(deadline=None)
def test_cut_rows_are_the_leading_numbers_divided_by_their_length(vectors: np.ndarray, dimensions: int) -> None:
    dimensions = min(dimensions, vectors.shape[1])
    shorter = cut(vectors, dimensions, normalize=False)
    assert shorter.tolist() == [row[:dimensions] for row in vectors.tolist()]
    if dimensions == vectors.shape[1]:
        return
    for row, normalized in zip(shorter.astype(float), cut(vectors, dimensions, normalize=True), strict=True):
        length = np.sqrt((row**2).sum())
        if length > 1e-6:
            assert normalized == pytest.approx(row / length, abs=1e-6)


def test_cut_vectors_have_length_1_again(vectors: np.ndarray) -> None:
    shorter = cut(vectors, 7, normalize=True)
    assert shorter.dtype == np.float32
    assert shorter.shape == (6, 7)
    assert np.linalg.norm(shorter, axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dimensions", [0, 24])
def test_all_dimensions_leave_the_vectors_as_they_are(vectors: np.ndarray, dimensions: int) -> None:
    assert np.array_equal(cut(vectors, dimensions, normalize=True), vectors)


def test_cutting_does_not_change_the_original(vectors: np.ndarray) -> None:
    before = vectors.copy()
    cut(vectors, 5, normalize=True)
    assert np.array_equal(vectors, before)


def test_rows_of_zeros_stay_zeros() -> None:
    assert not l2_normalized(np.zeros((2, 3), np.float32)).any()
    assert not cut(np.asarray([[0, 0, 1]], np.float32), 2, normalize=True).any()


def test_normalized_vectors_are_float32() -> None:
    normalized = l2_normalized(np.asarray([[3, 4], [0, -2]], np.float32))
    assert normalized.dtype == np.float32
    assert normalized == pytest.approx(np.asarray([[0.6, 0.8], [0, -1]]))


@given(matrices)
@settings(deadline=None)
def test_float32_is_written_row_by_row_in_little_endian(vectors: np.ndarray) -> None:
    flat = [number for row in vectors.tolist() for number in row]
    assert encode(vectors, Encoding.FLOAT32) == struct.pack(f"<{len(flat)}f", *flat)


@given(matrices)
@settings(deadline=None)
def test_float16_is_written_row_by_row_in_little_endian(vectors: np.ndarray) -> None:
    flat = [number for row in vectors.tolist() for number in row]
    assert encode(vectors, Encoding.FLOAT16) == struct.pack(f"<{len(flat)}e", *flat)


@given(matrices)
@settings(deadline=None)
def test_int8_is_127_times_the_number_rounded_and_clipped(vectors: np.ndarray) -> None:
    scaled = [np.float32(number) * np.float32(127) for row in vectors for number in row]
    expected = [max(-127, min(127, round(float(number)))) for number in scaled]
    assert np.frombuffer(encode(vectors, Encoding.INT8), np.int8).tolist() == expected


def test_int8_ends_at_127_on_both_sides() -> None:
    written = encode(np.asarray([[-1.5, -1, -0.004, 0, 0.5, 1, 1.5]], np.float32), Encoding.INT8)
    assert struct.unpack("7b", written) == (-127, -127, -1, 0, 64, 127, 127)


@given(matrices)
@settings(deadline=None)
def test_binary_has_a_bit_a_number_and_whole_bytes_a_row(vectors: np.ndarray) -> None:
    expected = b""
    for row in vectors:
        bits = "".join("1" if number > 0 else "0" for number in row)
        bits += "0" * (-len(bits) % 8)
        expected += bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))
    assert encode(vectors, Encoding.BINARY) == expected


@pytest.mark.parametrize("encoding", Encoding)
def test_every_encoding_takes_vectors_that_are_not_contiguous(vectors: np.ndarray, encoding: Encoding) -> None:
    strided = vectors[::2, ::3]
    assert encode(strided, encoding) == encode(np.ascontiguousarray(strided), encoding)
