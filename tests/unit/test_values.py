"""Values of the domain that are computed: sums, lengths, digests, places of errors."""

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import astuple, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedscale.core import errors
from embedscale.core.dataset import ContentDigest, Lengths
from embedscale.core.evaluation import QueryResult, Usage
from embedscale.core.generation import GenerationUsage

Row = tuple[str, ...]
"""Its kind, and as many parts as rows of that kind have."""

texts = st.text("01:aé", max_size=4)
rows = st.lists(st.tuples(st.just("query"), texts, texts) | st.tuples(st.just("judgement"), texts, texts, texts))


def digest(added: Sequence[Row]) -> str:
    made = ContentDigest()
    for kind, *parts in added:
        made.add(kind, *parts)
    return made.hexdigest()


@given(rows, rows)
def test_other_rows_have_another_digest(one: list[Row], other: list[Row]) -> None:
    assert (digest(one) == digest(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("query", "a", "b"), ("query", "ab", "")),
        (("query", "1:", "a"), ("query", "", "1:a")),
        (("query", "d", "é"), ("query", "d", "e\u0301")),
        (("query", "a", "b"), ("document", "a", "b")),
    ],
)
def test_rows_of_the_same_characters_in_other_parts_have_another_digest(one: Row, other: Row) -> None:
    assert digest([one]) != digest([other])


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_lengths_are_those_of_texts_that_are_there(values: list[int]) -> None:
    lengths, in_order = Lengths.of(values), sorted(values)
    assert lengths.mean == pytest.approx(math.fsum(values) / len(values))
    assert lengths.median == in_order[math.ceil(0.5 * len(values)) - 1]
    assert lengths.p95 == in_order[math.ceil(0.95 * len(values)) - 1]
    assert lengths.maximum == in_order[-1]


def test_no_texts_have_no_lengths() -> None:
    assert Lengths.of([]) == Lengths(0.0, 0, 0, 0)


@pytest.mark.parametrize("kind", [Usage, GenerationUsage])
def test_usage_is_summed_up_field_by_field(kind: type) -> None:
    count = len(fields(kind))
    one, other = kind(*range(1, count + 1)), kind(*(10 * number for number in range(1, count + 1)))
    assert astuple(one + other) == tuple(11 * number for number in range(1, count + 1))
    assert one + kind() == one


def test_queries_of_the_same_documents_have_the_same_source_and_those_of_none_their_own() -> None:
    def source(name: str, **grades: int) -> object:
        return QueryResult(name, 0, (), grades).source

    assert source("q1", a=1, b=2, c=0) == source("q2", b=1, a=3, d=-1) == ("a", "b")
    assert source("q1", a=0) != source("q2", a=0)


def test_an_error_of_an_input_is_the_same_at_another_place() -> None:
    long = errors.InputTooLong(0, None, 512).at(7)
    assert (long.position, long.tokens, long.limit, long.field) == (7, None, 512, "inputs[7].text")
    assert "inputs[7].text has more tokens" in long.message
    assert "700 tokens" in errors.InputTooLong(1, 700, 512).message
    rejected = errors.InputRejected(0, {}, 9).at(7)
    assert (rejected.position, rejected.tokens_used, rejected.field) == (7, 9, "inputs[7].text")


@pytest.mark.parametrize("field", ["", "spec.model", "inputs[1].image"])
def test_a_text_of_an_unknown_place_keeps_what_was_said(field: str) -> None:
    said = errors.TextTooLong("it is too long", field=field)
    assert said.of("document", ["d1", "d2"]) is said


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    drawn = set(re.findall(r"[A-Z]\w+", errors.__doc__.split("\n\n")[1]))
    assert drawn == {
        name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.EmbedscaleError)
    }
    for parent, children in re.findall(r"(\w+): (.+)", errors.__doc__.split("\n\n")[1]):
        for child in children.split(", "):
            assert issubclass(getattr(errors, child), getattr(errors, parent)), child
