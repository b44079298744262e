"""A JSON document that is read a value at a time is what the standard library reads at once."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedscale.evaluator.datasets import json_stream
from embedscale.evaluator.datasets.json_stream import BadJson, JsonStream

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(content: bytes, block: int) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_BLOCK", block)
        stream = JsonStream(io.BytesIO(content))
        found: dict[str, Any] = {}
        for key in stream.members():
            if stream.peek() == "[":
                found[key] = [stream.value() for _ in stream.items()]
            else:
                found[key] = stream.value()
        stream.finish()
        return found


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text(), VALUES, max_size=4),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_blocks_of_any_size_give_the_same(
    document: dict[str, Any], block: int, indent: int | None, encoding: str, escaped: bool
) -> None:
    written = json.dumps(document, indent=indent, ensure_ascii=escaped)
    assert read(written.encode(encoding), block) == document


@pytest.mark.parametrize("block", [1, 5, 1000])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: { should be here"),
        (b'{"a": 1', "line 1: , should be here"),
        (b'{"a": 1}\n\n x', "line 3: more follows the end"),
        (b'{\n"a": [1,\n2 3]}', "line 3: , should be here"),
        (b'{\n"a": nothing}', "line 2: Expecting value"),
        (b"{\n7: 1}", "line 2: a key should be here"),
        (b'{"a"\n 1}', "line 2: : should be here"),
        (b'{"a": "\xff"}', "line 1: bad utf-8 after this"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(content: bytes, said: str, block: int) -> None:
    with pytest.raises(BadJson, match=said):
        read(content, block)


def test_a_value_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_MOST_CHARACTERS", 1000)
    with pytest.raises(BadJson, match="a value has more than 1000 characters"):
        read(b'{"a": "' + b"x" * 5000 + b'"}', 100)
