"""Tokens of texts: counted with tiktoken where its file is on this machine, estimated otherwise."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tiktoken
import tiktoken.load

log = logging.getLogger(__name__)

_BYTES_PER_TOKEN = 3
"""English has about four, and Chinese about three, which is one character."""


class NotOnThisMachine(Exception):
    """A tokenizer's file would have to be downloaded."""


class Tokenizer:
    """Counts and cuts as the upstream does."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(tokens) for tokens in self._encoding.encode_ordinary_batch(list(texts), num_threads=1)]

    def cut(self, text: str, limit: int) -> str:
        """The longest beginning of a text that has at most `limit` tokens and ends with a whole character."""
        tokens = self._encoding.encode_ordinary(text)
        while len(tokens) > limit:
            text = self._encoding.decode(tokens[:limit], errors="ignore")
            tokens = self._encoding.encode_ordinary(text)
        return text


def load_tokenizer(name: str) -> Tokenizer | None:
    """The tiktoken encoding of that name, if its file is in TIKTOKEN_CACHE_DIR; nothing is ever downloaded."""
    if not name:
        return None
    try:
        with _no_downloads():
            return Tokenizer(tiktoken.get_encoding(name))
    except (NotOnThisMachine, ValueError, OSError) as error:
        log.warning("texts are not counted here: no tiktoken file of %s: %s", name, type(error).__name__)
        return None


def estimated(text: str) -> int:
    """About how many tokens a text has."""
    return len(text.encode()) // _BYTES_PER_TOKEN + 1


def apportioned(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to the weights, which are positive, with this very sum."""
    shares: list[int] = []
    whole, weight_so_far, given = sum(weights), 0, 0
    for weight in weights:
        weight_so_far += weight
        shares.append(total * weight_so_far // whole - given)
        given += shares[-1]
    return shares


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
