"""A batch in parts for threads: complete, of like length, and none much larger than the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedscale.embedder.onnx_network import equal_parts


@given(st.lists(st.integers(1, 512), min_size=1, max_size=64), st.integers(1, 8))
def test_rows_are_in_one_part_each_and_no_part_is_a_fifth_larger_than_its_share(lengths: list[int], count: int) -> None:
    parts = equal_parts(lengths, count)
    if not parts:
        return
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    assert 1 < len(parts) <= count
    padded = [len(part) * max(lengths[row] for row in part) for part in parts]
    assert max(padded) <= 1.2 * sum(lengths) / count


@pytest.mark.parametrize(
    ("lengths", "count", "sizes"),
    [
        ([64] * 16, 2, [8, 8]),
        ([64] * 16, 4, [4, 4, 4, 4]),
        ([100, 90], 2, [1, 1]),
        ([10, 60, 10, 10, 10, 10, 10], 2, [1, 6]),
        ([512], 2, []),
        ([512, 10], 2, []),  # the thread with the short one would wait
        ([250, 250, 250], 2, []),
        ([64] * 16, 1, []),
    ],
)
def test_parts(lengths: list[int], count: int, sizes: list[int]) -> None:
    assert [len(part) for part in equal_parts(lengths, count)] == sizes
