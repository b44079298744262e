"""Bearer keys: who may use the gateway."""

import hashlib
import hmac
from collections.abc import Collection
from pathlib import Path

from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser, SimpleUser
from starlette.requests import HTTPConnection


def read_keys(file: Path) -> Collection[str]:
    """Keys of a file, one a line; empty lines are passed over. Raises ValueError if it cannot be read."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from None
    return [line.strip() for line in lines if line.strip()]


class BearerKeys(AuthenticationBackend):
    """Lets a caller in who sends one of the keys."""

    def __init__(self, keys: Collection[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        """See `AuthenticationBackend`. Raises AuthenticationError."""
        scheme, _, key = conn.headers.get("authorization", "").partition(" ")
        given = _digest(key.strip(" ").encode("latin-1"))  # as headers are decoded
        # All are compared, each in constant time, so that the time taken tells nothing about the keys.
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise AuthenticationError("the API key is missing or wrong: send it as `Authorization: Bearer KEY`")
        return AuthCredentials(["embeddings"]), SimpleUser("caller")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
