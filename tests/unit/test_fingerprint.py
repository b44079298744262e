"""Names of vector spaces."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.core.fingerprint import fingerprint

FACTS: dict[str, Any] = {
    "engine": "torch",
    "files": {"model.safetensors": "ab"},
    "prompts": {"query": "é: "},
    "max_tokens": 256,
}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
facts_of_spaces = st.dictionaries(st.text(), values, max_size=4)


def _typed(value: Any) -> Any:
    """Tell True from 1, which Python holds equal, and forget the order of keys."""
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    return [_typed(inner) for inner in value] if isinstance(value, list) else (type(value), value)


def test_the_name_of_a_space_is_final() -> None:
    assert fingerprint(FACTS) == "dbe11a6bc0646a32ce4bf44985949e9c"


@given(facts_of_spaces)
@settings(deadline=None)
def test_a_fingerprint_is_32_hexadecimal_digits(facts: dict[str, Any]) -> None:
    assert re.fullmatch("[0-9a-f]{32}", fingerprint(facts))


@given(facts_of_spaces, facts_of_spaces)
@settings(deadline=None)
def test_spaces_have_the_same_name_only_if_all_facts_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (_typed(one) == _typed(other))


@given(facts_of_spaces)
@settings(deadline=None)
def test_the_order_of_facts_does_not_matter(facts: dict[str, Any]) -> None:
    assert fingerprint(dict(reversed(facts.items()))) == fingerprint(facts)


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "openai"},
        {"files": {"model.safetensors": "ac"}},
        {"files": {"model.safetensors": "ab", "vocab.txt": ""}},
        {"prompts": {"query": "e: "}},
        {"max_tokens": "256"},
        {"revision": ""},
    ],
)
def test_every_fact_matters(change: dict[str, Any]) -> None:
    assert fingerprint(FACTS | change) != fingerprint(FACTS)
