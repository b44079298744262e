"""From texts to token ids that fit the model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids of a text without the special tokens, and the count with them."""

    content: list[int]
    token_count: int


def read_tokenizer(folder: Path) -> "Tokenizer":
    """The folder's tokenizer, read once for all models that have it and kept while the process lives.

    Reading one of 250,000 pieces stops all of Python for a second, and it is the same for every number format.
    """
    files = sorted(path for path in folder.resolve().glob("*.json") if path.is_file())
    return _read(folder.resolve(), tuple((path.name, path.stat().st_mtime_ns) for path in files))


@cache
def _read(folder: Path, files: Sequence[tuple[str, int]]) -> "Tokenizer":  # noqa: ARG001 - changed files are read anew
    return Tokenizer(folder)


class Tokenizer:
    """The model's own tokenizer, without truncation and padding: those are decided here and in the encoder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
        self.pad_id: int = self._tokenizer.pad_token_id or 0
        self._prefix, self._suffix = self._special_tokens()
        self._add_stated(folder)
        self.special_count = len(self._prefix) + len(self._suffix)

    @property
    def ordinary_ids(self) -> list[int]:
        """Ids of the tokens that texts are made of, special ones left out."""
        return sorted(set(range(len(self._tokenizer))) - set(self._tokenizer.all_special_ids))

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Token ids of each text."""
        return [TokenizedText(ids, len(ids) + self.special_count) for ids in self._ids(list(texts), special=False)]

    def windows(self, text: TokenizedText, max_tokens: int) -> list[list[int]]:
        """Split into consecutive windows of at most `max_tokens` ids each, special tokens around every one."""
        room = max(max_tokens - self.special_count, 1)
        starts = range(0, max(len(text.content), 1), room)
        return [[*self._prefix, *text.content[start : start + room], *self._suffix] for start in starts]

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        (plain,), (marked,) = self._ids(["a"], special=False), self._ids(["a"], special=True)
        start = next(i for i in range(len(marked)) if marked[i : i + len(plain)] == plain)
        return marked[:start], marked[start + len(plain) :]

    def _add_stated(self, folder: Path) -> None:
        """Put the start and end tokens around that the folder asks for and the library leaves out.

        transformers 5 takes special tokens from tokenizer.json alone, which in e5-mistral-7b-instruct lacks the end
        token whose state becomes the vector: there `add_eos_token` of tokenizer_config.json says that it belongs there.
        """
        config = folder / "tokenizer_config.json"
        stated = json.loads(config.read_text("utf-8")) if config.is_file() else {}
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        if stated.get("add_bos_token") and bos is not None and bos not in self._prefix:
            self._prefix.insert(0, bos)
        if stated.get("add_eos_token") and eos is not None and eos not in self._suffix:
            self._suffix.append(eos)

    def _ids(self, texts: list[str], *, special: bool) -> list[list[int]]:
        encoded = self._tokenizer(
            texts,
            add_special_tokens=special,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids
