"""Tokens of texts: counted with tiktoken where its file is on this machine, estimated otherwise."""

from collections.abc import Sequence

import tiktoken

from embedscale.servicekit.tiktoken_files import load_encoding

_BYTES_PER_TOKEN = 3
"""English has about four, and Chinese about three, which is one character."""


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
    """The tiktoken encoding of that name, if its file is on this machine."""
    encoding = load_encoding(name) if name else None
    return Tokenizer(encoding) if encoding else None


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
