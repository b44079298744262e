"""How texts are spread over upstream calls."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.embedding import PreparedText
from embedscale.openai_proxy.engine import split

TEXTS_PER_CALL = 64
CHARACTERS_PER_CALL = 32_000

lengths = st.sampled_from([1, 2, 400, 900, 15_999, 16_000, 16_001, 32_000, 32_001])
prepared = st.builds(lambda length, variant: PreparedText("é" * length, variant), lengths, st.sampled_from("qdx"))
texts_of_requests = st.lists(prepared, max_size=30) | st.lists(
    st.builds(PreparedText, st.just("a"), st.sampled_from("qd")), min_size=60, max_size=300
)


def _characters(texts: Sequence[PreparedText], rows: Sequence[int]) -> int:
    return sum(len(texts[row].prompted) for row in rows)


@given(texts_of_requests)
@settings(deadline=None)
def test_every_row_is_in_exactly_one_call(texts: list[PreparedText]) -> None:
    calls = list(split(texts))
    assert sorted(row for rows in calls for row in rows) == list(range(len(texts)))
    assert all(calls)


@given(texts_of_requests)
@settings(deadline=None)
def test_a_call_has_one_variant_and_keeps_the_order(texts: list[PreparedText]) -> None:
    for rows in split(texts):
        assert len({texts[row].variant for row in rows}) == 1
        assert rows == sorted(rows)


@given(texts_of_requests)
@settings(deadline=None)
def test_a_call_is_bounded_in_texts_and_in_characters_unless_a_text_is_alone(texts: list[PreparedText]) -> None:
    for rows in split(texts):
        assert len(rows) <= TEXTS_PER_CALL
        assert len(rows) == 1 or _characters(texts, rows) <= CHARACTERS_PER_CALL


@given(texts_of_requests)
@settings(deadline=None)
def test_no_call_could_have_taken_the_first_text_of_the_next(texts: list[PreparedText]) -> None:
    calls = list(split(texts))
    for rows, following in pairwise(calls):
        if texts[rows[0]].variant == texts[following[0]].variant:
            full = len(rows) == TEXTS_PER_CALL
            assert full or _characters(texts, [*rows, following[0]]) > CHARACTERS_PER_CALL


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [
        ([], []),
        ([1] * 64, [64]),
        ([1] * 65, [64, 1]),
        ([16_000, 16_000], [2]),
        ([16_000, 16_001], [1, 1]),
        ([40_000, 1, 1], [1, 2]),
    ],
)
def test_calls_of_examples(sizes: list[int], calls: list[int]) -> None:
    assert [len(rows) for rows in split([PreparedText("a" * size) for size in sizes])] == calls


def test_interleaved_variants_make_a_call_each() -> None:
    texts = [PreparedText(str(row), "qd"[row % 2]) for row in range(6)]
    assert list(split(texts)) == [[0, 2, 4], [1, 3, 5]]
