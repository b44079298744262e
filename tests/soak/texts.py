"""Texts to embed: known ones that are asked again and again, unseen ones, and a few that are too long."""

import random
from collections.abc import Sequence

from embedscale.evaluator import builtin

KNOWN, LONG = 200, 3
UNSEEN_SHARE = 0.06
_WORDS = sorted({word for text in builtin.load("builtin:velmar/en").corpus.values() for word in text.split()})


class Texts:
    """All that a seed makes."""

    def __init__(self, seed: int) -> None:
        pick = random.Random(seed)
        self.known: Sequence[str] = [words(pick, 3, 14) for _ in range(KNOWN)]
        self.long: Sequence[str] = [words(pick, 600, 900) for _ in range(LONG)]

    def one(self, pick: random.Random) -> str:
        return unseen(pick) if pick.random() < UNSEEN_SHARE else pick.choice(self.known)

    def some(self, pick: random.Random) -> list[str]:
        """1 to 32 texts, mostly few; now and then one of them twice."""
        most = pick.choices((1, 8, 32), weights=(50, 35, 15))[0]
        texts = [self.one(pick) for _ in range(pick.randint(1, most))]
        return [*texts, texts[0]] if len(texts) < 32 and pick.random() < 0.1 else texts


def words(pick: random.Random, fewest: int, most: int) -> str:
    return " ".join(pick.choices(_WORDS, k=pick.randint(fewest, most)))


def unseen(pick: random.Random) -> str:
    """As good as never the same twice."""
    return words(pick, 5, 9)
