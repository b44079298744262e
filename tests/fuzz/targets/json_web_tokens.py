"""JSON Web Tokens and files of their keys: nobody is let in whose token was not signed with the key.

The first line is a file of keys, the second a token; `KEY`, `{...}.{...}` there are signed with the key of this file,
so that what a token claims is tried too.
"""

import json
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import jwt

from embedscale.core.errors import TokenExpired, TokenInvalid
from embedscale.servicekit.json_web_tokens import LEAST_SECRET_BYTES, JsonWebTokens, read_keys
from embedscale.servicekit.roles import Role
from embedscale.servicekit.settings import ServerSettings
from tests.fuzz.mutating import mutated_json

_KEY = b"k" * LEAST_SECRET_BYTES
_SIGNED = b"SIGNED "
_FILE = Path(tempfile.mkdtemp(prefix="fuzz-"), "keys")
_FILE.write_bytes(_KEY)
_TOKENS = JsonWebTokens(ServerSettings(jwt_keys_file=_FILE, jwt_issuer="issuer", jwt_audience="audience"))
_LATER = int(time.time()) + 10**8


def check(data: bytes) -> None:
    if data.startswith(_SIGNED):
        _check_claims(data.removeprefix(_SIGNED))
        return
    try:
        assert read_keys(data)
    except ValueError as error:
        assert type(error) is ValueError
        assert str(error)
    try:
        _TOKENS.caller(data.decode("utf-8", "surrogateescape"))
    except TokenInvalid:
        return
    raise AssertionError("a token without a signature is let in")


def mutate(data: bytes, pick: Random) -> bytes | None:
    signed = data.startswith(_SIGNED)
    changed = mutated_json(data.removeprefix(_SIGNED), pick)
    return None if changed is None else _SIGNED * signed + changed


def _check_claims(content: bytes) -> None:
    try:
        claims: Any = json.loads(content)
        token = jwt.encode({"exp": _LATER, **claims}, _KEY, "HS256")
    except (ValueError, TypeError, RecursionError, AttributeError):
        return
    try:
        caller = _TOKENS.caller(token)
    except (TokenInvalid, TokenExpired):
        return
    assert claims["iss"] == "issuer"
    assert claims["aud"] == "audience" or "audience" in claims["aud"]
    assert claims.get("exp", _LATER) > time.time() - 60
    assert caller.name == claims["sub"][:128]
    assert caller.roles <= set(Role)
    assert all(role in claims["roles"] for role in caller.roles)
