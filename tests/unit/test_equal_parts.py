"""Batches for threads: complete, of like length, and none much larger than the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedscale.embedder.length_batches import equal_parts, slot_batches


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


@given(st.lists(st.integers(1, 512), max_size=64), st.integers(1, 2000), st.integers(1, 4))
def test_batches_for_slots_have_each_row_once_and_keep_to_the_budget(
    lengths: list[int], budget: int, slots: int
) -> None:
    batches = slot_batches(lengths, budget, slots)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    padded = [len(rows) * max(lengths[row] for row in rows) for rows in batches if len(rows) > 1]
    most = slots * budget if len(lengths) < 4 * slots else budget
    assert max(padded, default=0) <= most


@pytest.mark.parametrize(
    ("lengths", "budget", "slots", "sizes"),
    [
        ([64] * 16, 1024, 1, [16]),
        ([64] * 16, 512, 2, [8, 8]),
        ([64] * 4, 512, 2, [2, 2]),  # shared out, however little it is
        ([64] * 20, 512, 2, [8, 8, 4]),
        ([512], 512, 2, [1]),
        ([250, 250, 250], 512, 2, [3]),  # together, for one of two slots would be idle
        ([60, 50, 40, 30, 30, 30, 20, 10], 512, 2, [2, 3, 3]),  # what one slot has more, the other has next
        ([], 512, 2, []),
    ],
)
def test_batches_for_slots(lengths: list[int], budget: int, slots: int, sizes: list[int]) -> None:
    assert [len(rows) for rows in slot_batches(lengths, budget, slots)] == sizes
