"""Texts that are equal, or nearly: MinHash over runs of characters, then the exact Jaccard index of candidate pairs.

Broder, "On the resemblance and containment of documents", 1997. What is kept of a text is 136 bytes, so that a million
texts take 140 MB; libraries for this keep each signature in hash tables of their own, ten times as much.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from embedscale.core.dataset_audit import Example

SIMILAR = 0.8
"""Jaccard index from which two texts are near duplicates."""
EXAMPLES = 5
"""Cases that a finding shows at most."""
EXCERPT = 200
"""Characters that are shown of a text at most."""
_RUN = 5
_BANDS, _ROWS = 16, 6
_HELD_CHARACTERS = 2**25
_RANDOM = np.random.default_rng(20210421)
_FACTORS = _RANDOM.integers(0, 2**63, _BANDS * _ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_BAND_FACTORS = _RANDOM.integers(0, 2**63, (1, _ROWS), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_POWERS = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, _RUN + 1, dtype=np.uint64)

Hashes = NDArray[np.uint64]
Texts = Callable[[], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class Repeats:
    """Texts that repeat an earlier one: how many, and the first of them with the earlier one's id before theirs."""

    count: int
    examples: tuple[Example, ...]


def repeats(texts: Texts) -> tuple[Repeats, Repeats]:
    """Exact and near repetitions among all texts, which are read twice. Case and spaces do not count.

    Of a very large set with very many near duplicates those are counted that 32 MB of earlier texts are enough for.
    """
    same, candidates = _candidates(texts())
    return _confirmed(texts(), same, candidates)


def near(texts: Sequence[str], similar: float) -> dict[int, int]:
    """For each text that is near to an earlier one, though not equal: that one's place, the first if they are several.

    A text that is near to one before is nobody's earlier one. Below 0.8, `similar` misses many.
    """
    found: dict[int, int] = {}
    for later, firsts in sorted(_candidates(("", text) for text in texts)[1].items()):
        hashes = runs(texts[later])
        for first in sorted(firsts - found.keys()):
            if _alike(runs(texts[first]), hashes, similar):
                found[later] = first
                break
    return found


def runs(text: str) -> Hashes:
    """Hashes of all runs of five characters, each once; of the whole text where it is shorter."""
    codes = np.frombuffer(_normal(text).encode("utf-32-le"), np.uint32).astype(np.uint64)
    length = min(_RUN, len(codes))
    count = len(codes) - length + 1
    mixed = np.zeros(count, np.uint64)
    for offset in range(length):
        mixed += codes[offset : offset + count] * _POWERS[offset]
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return np.unique(mixed ^ (mixed >> np.uint64(32)))


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _hashed(texts: Iterable[tuple[str, str]]) -> tuple[Hashes, Hashes]:
    """Hash of each whole text, shape (n,), and of each band of its signature, shape (n, 16)."""
    whole, bands = bytearray(), bytearray()
    for _, text in texts:
        hashes = runs(text)
        signature = (_FACTORS[:, None] * hashes[None, :]).min(axis=1)
        whole += blake2b(_normal(text).encode(), digest_size=8).digest()
        bands += (signature.reshape(_BANDS, _ROWS) * _BAND_FACTORS).sum(axis=1).tobytes()
    return np.frombuffer(whole, np.uint64), np.frombuffer(bands, np.uint64).reshape(-1, _BANDS)


def _candidates(texts: Iterable[tuple[str, str]]) -> tuple[dict[int, int], dict[int, set[int]]]:
    """For each row the first that is equal, and for each of the others the earlier ones that may be near."""
    whole, bands = _hashed(texts)
    same = _earlier(whole)
    candidates: dict[int, set[int]] = defaultdict(set)
    for column in bands.T:
        for later, first in _earlier(column).items():
            if later not in same:
                candidates[later].add(same.get(first, first))
    return same, candidates


def _earlier(column: Hashes) -> dict[int, int]:
    """For each row whose value was there before: the first row that had it."""
    order = np.argsort(column, kind="stable")
    found: dict[int, int] = {}
    ordered = column[order]
    repeated = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    for place in repeated:
        before = int(order[place - 1])
        found[int(order[place])] = found.get(before, before)
    return found


def _confirmed(
    texts: Iterator[tuple[str, str]], same: Mapping[int, int], candidates: Mapping[int, set[int]]
) -> tuple[Repeats, Repeats]:
    """Read the texts again and compare the candidates; all that may be needed later is held."""
    held = _Held({first for firsts in candidates.values() for first in firsts}, set(same.values()))
    exact, near = _Tally(), _Tally()
    for row, (key, text) in enumerate(texts):
        held.see(row, key, text)
        if row in same:
            exact.add(held.ids[same[row]], key, text)
        elif (first := held.alike(candidates.get(row, ()), text)) is not None:
            near.add(held.ids[first], key, text)
    return exact.repeats(), near.repeats()


class _Held:
    def __init__(self, compared: set[int], named: set[int]) -> None:
        self.ids: dict[int, str] = {}
        self._compared = compared
        self._named = named
        self._texts: dict[int, str] = {}
        self._room = _HELD_CHARACTERS

    def see(self, row: int, key: str, text: str) -> None:
        if row in self._compared and self._room > 0:
            self._texts[row] = text
            self._room -= len(text)
        if row in self._named or row in self._texts:
            self.ids[row] = key

    def alike(self, rows: Iterable[int], text: str) -> int | None:
        """Row of the first of the texts that is near to this one."""
        held = [row for row in sorted(rows) if row in self._texts]
        hashes = runs(text) if held else np.empty(0, np.uint64)
        return next((row for row in held if _alike(runs(self._texts[row]), hashes, SIMILAR)), None)


class _Tally:
    def __init__(self) -> None:
        self._count = 0
        self._examples: list[Example] = []

    def add(self, first: str, later: str, text: str) -> None:
        self._count += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(Example((first, later), text[:EXCERPT]))

    def repeats(self) -> Repeats:
        return Repeats(self._count, tuple(self._examples))


def _alike(first: Hashes, second: Hashes, similar: float) -> bool:
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common >= similar * (len(first) + len(second) - common)
