"""Bearer keys: who may use the gateway."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser, SimpleUser
from starlette.requests import HTTPConnection

from embedscale.servicekit.watched_files import WatchedFiles


def read_keys(content: bytes) -> Sequence[str]:
    """Keys of a file, one a line; empty lines are passed over. Raises ValueError if there are none."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise ValueError("has no key")
    return keys


class BearerKeys(AuthenticationBackend):
    """Lets a caller in who sends one of the keys that a file holds at the time. Raises UnusableFiles."""

    def __init__(self, file: Path) -> None:
        self._digests = WatchedFiles([file], lambda contents: _digests(contents[0]))

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        """See `AuthenticationBackend`. Raises AuthenticationError."""
        scheme, _, key = conn.headers.get("authorization", "").partition(" ")
        given = _digest(key.strip(" ").encode("latin-1"))  # as headers are decoded
        # All are compared, each in constant time, so that the time taken tells nothing about the keys.
        matches = [hmac.compare_digest(given, known) for known in self._digests.value]
        if scheme.lower() != "bearer" or not any(matches):
            raise AuthenticationError("the API key is missing or wrong: send it as `Authorization: Bearer KEY`")
        return AuthCredentials(["embeddings"]), SimpleUser("caller")


def _digests(content: bytes) -> Sequence[bytes]:
    return [_digest(key.encode()) for key in read_keys(content)]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
