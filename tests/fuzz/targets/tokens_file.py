"""The file of bearer tokens: callers whose tokens are let in, and no other, or a fault that repeats no token."""

import hashlib
from random import Random

import yaml

from embedscale.servicekit.bearer_tokens import LEAST_CHARACTERS, read_tokens
from tests.fuzz.yaml_files import mutated_yaml

_SECRET = "s3cr3t-s3cr3t-s3cr3t"


def check(data: bytes) -> None:
    try:
        callers = read_tokens(data)
    except ValueError as error:
        assert type(error) is ValueError
        assert str(error)
        assert _SECRET not in str(error)
        return
    entries = yaml.safe_load(data)
    expected = [entry.get("sha256") or hashlib.sha256(entry["token"].encode()).hexdigest() for entry in entries]
    assert [digest.hex() for digest, _ in callers] == [digest.lower() for digest in expected]
    assert all(len(entry["token"]) >= LEAST_CHARACTERS for entry in entries if entry.get("token") is not None)
    for entry, (_, caller) in zip(entries, callers, strict=True):
        assert (caller.name, set(caller.roles)) == (entry["name"], set(entry["roles"]))
        assert caller.roles


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_yaml(data, pick)
