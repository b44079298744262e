"""Where keys for other services are: in the environment, or in a file that it names, such as a mounted secret."""

import os
import re
from pathlib import Path

from embedscale.servicekit.settings import BadConfiguration

NO_KEY = "none"

UPSTREAM_KEYS = "EMBEDSCALE_UPSTREAM_KEY_"
CHAT_KEYS = "EMBEDSCALE_CHAT_KEY_"


def key_variable(name: str, keys: str = UPSTREAM_KEYS) -> str:
    """Environment variable that holds the key of that name; with _FILE appended, the path of a file that does."""
    return keys + re.sub(r"\W", "_", name).upper()


def read_key(name: str, keys: str = UPSTREAM_KEYS) -> str:
    """The key of that name, "none" where none is given. Raises BadConfiguration if it or its file cannot be used."""
    variable = key_variable(name, keys)
    key, file = os.environ.get(variable, "").strip(), os.environ.get(f"{variable}_FILE")
    if key and file:
        raise BadConfiguration(f"both {variable} and {variable}_FILE are set: remove one")
    if not file:
        return _sendable(key or NO_KEY, variable)
    try:
        key = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{variable}_FILE: {file} cannot be read: {type(error).__name__}") from None
    if not key:
        raise BadConfiguration(f"{variable}_FILE: {file} is empty")
    return _sendable(key, f"{variable}_FILE")


def _sendable(key: str, variable: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise BadConfiguration(
            f"{variable}: the key has characters that cannot be sent: line breaks, or letters beyond ASCII"
        )
    return key
