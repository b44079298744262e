"""Where the keys of upstreams are: in the environment, or in a file that it names, such as a mounted secret."""

import os
import re
from pathlib import Path

from embedscale.embedding.catalog import CatalogError

NO_KEY = "none"


def key_variable(upstream: str) -> str:
    """Environment variable that holds the key of an upstream; with _FILE appended, the path of a file that does."""
    return "EMBEDSCALE_UPSTREAM_KEY_" + re.sub(r"\W", "_", upstream).upper()


def read_key(upstream: str) -> str:
    """The key of an upstream, "none" where none is given. Raises CatalogError if it or its file cannot be used."""
    variable = key_variable(upstream)
    key, file = os.environ.get(variable, "").strip(), os.environ.get(f"{variable}_FILE")
    if key and file:
        raise CatalogError(f"both {variable} and {variable}_FILE are set: remove one")
    if not file:
        return _sendable(key or NO_KEY, variable)
    try:
        key = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{variable}_FILE: {file} cannot be read: {type(error).__name__}") from None
    if not key:
        raise CatalogError(f"{variable}_FILE: {file} is empty")
    return _sendable(key, f"{variable}_FILE")


def _sendable(key: str, variable: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise CatalogError(
            f"{variable}: the key has characters that cannot be sent: line breaks, or letters beyond ASCII"
        )
    return key
