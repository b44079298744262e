"""Bearer tokens that a file lists.

- name: search-2026-11      # who calls: shown with evaluations and in logs
  roles: [embed]            # embed, evaluate, admin
  sha256: 9f86d081...       # of the token; or `token: ...` itself
"""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from embedscale.core.errors import TokenInvalid
from embedscale.servicekit.roles import Caller, Role
from embedscale.servicekit.watched_files import WatchedFiles
from embedscale.servicekit.yaml_files import NotYaml, read_yaml

LEAST_CHARACTERS = 20


class TokenEntry(BaseModel):
    """One token of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(min_length=1, max_length=128)
    roles: list[Role] = Field(min_length=1)
    token: Annotated[str, StringConstraints(min_length=LEAST_CHARACTERS)] | None = None
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-fA-F]{64}$")] | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.token is None) == (self.sha256 is None):
            raise ValueError("has to have either token or sha256")
        return self

    @property
    def digest(self) -> bytes:
        """SHA-256 of the token."""
        return hashlib.sha256(self.token.encode()).digest() if self.token else bytes.fromhex(self.sha256 or "")


_FILE = TypeAdapter(list[TokenEntry])


class BearerTokens:
    """The tokens of a file, which may change at any time. Raises UnusableFiles."""

    def __init__(self, file: Path) -> None:
        self._entries = WatchedFiles([file], lambda contents: read_tokens(contents[0]))

    def caller(self, token: str) -> Caller:
        """Whose token it is. Raises TokenInvalid."""
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        # All are compared, each in constant time, so that the time taken tells nothing about the tokens.
        found = [caller for digest, caller in self._entries.value if hmac.compare_digest(given, digest)]
        if not found:
            raise TokenInvalid("the token is not known here, or no longer")
        return found[0]


def read_tokens(content: bytes) -> Sequence[tuple[bytes, Caller]]:
    """SHA-256 of each token, and whose it is. Raises ValueError, which repeats no token."""
    try:
        entries = _FILE.validate_python(read_yaml(content))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise ValueError("; ".join(f"{_place(fault['loc'])}: {fault['msg']}" for fault in faults)) from None
    except NotYaml:  # whose message may repeat a token
        raise ValueError("is not YAML") from None
    digests = [entry.digest for entry in entries]
    if not digests or len(set(digests)) < len(digests):
        raise ValueError("has no token" if not digests else "has the same token twice")
    callers = [Caller(entry.name, frozenset(entry.roles)) for entry in entries]
    return list(zip(digests, callers, strict=True))


def _place(location: tuple[int | str, ...]) -> str:
    """Where a fault is; a name that is as long as a token is not shown, since it may be one in the wrong place."""
    parts = [str(part) if len(str(part)) < LEAST_CHARACTERS else "?" for part in location]
    return ".".join(parts) or "the file"
