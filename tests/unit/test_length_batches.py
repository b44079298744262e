"""Batches by length: complete, within the budget, and with little padding."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.embedder.length_batches import length_batches

row_lengths = st.lists(st.integers(1, 600), max_size=60)
budgets = st.integers(1, 2000)


@given(row_lengths, budgets)
@settings(deadline=None)
def test_every_row_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    batches = list(length_batches(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(batches)


@given(row_lengths, budgets)
@settings(deadline=None)
def test_padded_tokens_stay_within_the_budget_unless_a_row_is_alone(lengths: list[int], budget: int) -> None:
    for batch in length_batches(lengths, budget):
        assert len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= budget


@given(row_lengths, budgets)
@settings(deadline=None)
def test_no_batch_could_have_taken_the_first_row_of_the_next(lengths: list[int], budget: int) -> None:
    batches = list(length_batches(lengths, budget))
    for batch, following in pairwise(batches):
        together = [lengths[row] for row in [*batch, following[0]]]
        assert max(together) * len(together) > budget


@given(row_lengths, budgets)
@settings(deadline=None)
def test_rows_go_from_the_longest_to_the_shortest(lengths: list[int], budget: int) -> None:
    in_order = [lengths[row] for batch in length_batches(lengths, budget) for row in batch]
    assert in_order == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("lengths", "budget", "batches"),
    [
        ([], 10, []),
        ([99], 10, [[0]]),
        ([2, 4, 4, 2], 8, [[1, 2], [0, 3]]),
        ([1, 9, 1, 1], 3, [[1], [0, 2, 3]]),
        ([5, 5], 10, [[0, 1]]),
        ([5, 5], 9, [[0], [1]]),
    ],
)
def test_batches_of_examples(lengths: list[int], budget: int, batches: list[list[int]]) -> None:
    assert list(length_batches(lengths, budget)) == batches
