"""Tokens in the system's keyring: that of a context is the password of `evalctl` for its name."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER

_SERVICE = "evalctl"


def store(name: str, token: str) -> None:
    """Keep the token of a context. Raises CommandFailed."""
    with _opened() as keyring:
        keyring.set_password(_SERVICE, name, token)


def find(name: str) -> str:
    """Return the token of a context. Raises CommandFailed."""
    with _opened() as keyring:
        token: str | None = keyring.get_password(_SERVICE, name)
    if not token:
        raise CommandFailed(f"no token: the keyring has no password of {_SERVICE} for {name}", EXIT_USER)
    return token


def forget(name: str) -> None:
    """Delete the token of a context, if it is there. Raises CommandFailed."""
    with _opened() as keyring, suppress(keyring.errors.PasswordDeleteError):
        keyring.delete_password(_SERVICE, name)


@contextmanager
def _opened() -> Iterator[ModuleType]:
    """The package is an extra, and a machine without a desktop may have no keyring to speak to."""
    try:
        keyring = importlib.import_module("keyring")
    except ModuleNotFoundError:
        raise CommandFailed("a token in the keyring needs: pip install 'embedscale[keyring]'", EXIT_USER) from None
    try:
        yield keyring
    except keyring.errors.KeyringError as error:
        reason = str(error).split("\n")[0].split(". ")[0] or type(error).__name__
        message = f"the keyring: {reason}; --token-file and --token-env do without one"
        raise CommandFailed(message, EXIT_USER) from None
