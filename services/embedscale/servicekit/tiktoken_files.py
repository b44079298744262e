"""Tokenizers of tiktoken, from files that are on this machine."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import tiktoken
import tiktoken.load

log = logging.getLogger(__name__)

_LOADING = threading.Lock()


class NotOnThisMachine(Exception):
    """A tokenizer's file would have to be downloaded."""


def load_encoding(name: str) -> tiktoken.Encoding | None:
    """The encoding of that name, if its file is in TIKTOKEN_CACHE_DIR; nothing is ever downloaded.

    The first time it reads the file, for about a second, so not for the event loop.
    """
    try:
        with _LOADING, _no_downloads():
            return tiktoken.get_encoding(name)
    except (NotOnThisMachine, ValueError, OSError) as error:
        log.warning("no tiktoken file of %s is here: %s", name, type(error).__name__)
        return None


@contextmanager
def _no_downloads() -> Iterator[None]:
    """Keep tiktoken from fetching files that are not there, which it would do without being asked."""
    read = tiktoken.load.read_file

    def read_local(blobpath: str) -> bytes:
        if "://" in blobpath:
            raise NotOnThisMachine
        return read(blobpath)

    tiktoken.load.read_file = read_local
    try:
        yield
    finally:
        tiktoken.load.read_file = read
