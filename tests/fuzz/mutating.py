"""Changes that keep an input's structure, which changing bytes would break."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, 2**31, -(2**63), 10**400, float("nan"), float("inf")),
    *("", " ", "0", "\x00", "\ud800", "é", "e\u0301", "\u2028", "a\tb\n", "日本。", "../..", "${HOME}"),
    *("x" * 300, "\x01" * 3000),
    *([], {}, [[]], [None], {"": ""}, [0, "0"], {"_id": 1}),
]

Place = tuple[Any, Any]
"""A list or an object, and the key of a value in it."""


def mutated_json(data: bytes, pick: Random) -> bytes | None:
    """Change some values of a JSON document; None for what is none, or too deep."""
    try:
        root = [json.loads(data)]
        for _ in range(pick.randint(1, 3)):
            _change(root, pick)
        return json.dumps(root[0] if root else None, ensure_ascii=pick.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None


def mutated_lines(data: bytes, pick: Random) -> bytes | None:
    """Change a line that is JSON, or the order of lines."""
    lines = data.split(b"\n")
    place = pick.randrange(len(lines))
    if pick.random() < 0.3:
        lines.insert(pick.randrange(len(lines)), lines[place])
        return b"\n".join(lines)
    changed = mutated_json(lines[place], pick)
    return None if changed is None else b"\n".join([*lines[:place], changed, *lines[place + 1 :]])


def mutated_message(data: bytes, kind: type[Message], pick: Random) -> bytes | None:
    """Change some fields of a protobuf message."""
    try:
        fields = json_format.MessageToDict(kind.FromString(data), preserving_proto_field_name=True)
        changed = mutated_json(json.dumps(fields).encode(), pick)
        message = json_format.Parse(changed or b"{}", kind(), ignore_unknown_fields=True)
        return message.SerializeToString()
    except (DecodeError, json_format.Error, ValueError, TypeError, RecursionError):
        return None


def damaged(data: bytes, pick: Random) -> bytes:
    """Change bytes: for the quick test, where no coverage guides."""
    changed = bytearray(data)
    for _ in range(pick.randint(1, 3)):
        place = pick.randrange(len(changed) + 1)
        match pick.randrange(4):
            case 0:
                del changed[place : place + pick.choice([1, 4, 50])]
            case 1:
                changed[place : place + 1] = pick.randbytes(1)
            case 2:
                changed[place:place] = pick.randbytes(pick.randint(1, 6))
            case _:
                start = pick.randrange(len(changed) + 1)
                changed[place:place] = changed[start : start + 20]
    return bytes(changed)


def _change(root: list[Any], pick: Random) -> None:
    places = list(_places(root))
    if not places:
        return
    (owner, key), (other, other_key) = pick.choice(places), pick.choice(places)
    changes: list[Callable[[], None]] = [
        lambda: owner.__setitem__(key, pick.choice(ODD)),
        lambda: owner.__setitem__(key, json.loads(json.dumps(other[other_key]))),
        lambda: owner.__delitem__(key),
        lambda: _rename(owner, key, pick),
        lambda: owner.__setitem__(key, [owner[key]]),
    ]
    pick.choice(changes)()


def _rename(owner: Any, key: Any, pick: Random) -> None:
    if isinstance(owner, dict):
        owner[str(pick.choice(ODD))] = owner.pop(key)
    else:
        owner.insert(key, owner[key])


def _places(owner: Any) -> Iterator[Place]:
    for key in list(owner) if isinstance(owner, dict) else range(len(owner)):
        yield owner, key
        if isinstance(owner[key], dict | list):
            yield from _places(owner[key])
