"""Callers who do not rest, and hold each answer against the one that nothing disturbed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from embedscale.client import AsyncEmbeddingClient
from embedscale.evaluator import builtin
from tests.conftest import MINILM
from tests.waiting import eventually

_PAUSE_SECONDS = 0.02
PASSAGES = list(builtin.load("builtin:velmar/en").corpus.values())


@dataclass
class Load:
    """What became of the calls: `answered` right, and a line for each that failed."""

    client: AsyncEmbeddingClient
    texts: Sequence[str]
    expected: Sequence[np.ndarray]
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    async def caller(self, number: int) -> None:
        while True:
            which = number % len(self.texts)
            await self.one(which)
            await asyncio.sleep(_PAUSE_SECONDS)
            number += 7

    async def one(self, which: int) -> None:
        try:
            result = await self.client.embed([self.texts[which]], model=MINILM, timeout=30)
        except Exception as error:
            self.failed.append(repr(error))
            return
        if same(result.vectors, self.expected[which]):
            self.answered += 1
        else:
            self.failed.append("another answer")

    async def until(self, count: int) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + count
        await eventually(lambda: self.answered >= wanted, f"{self.answered} of {wanted}; {self.failed[:3]}")


@asynccontextmanager
async def load(client: AsyncEmbeddingClient, callers: int = 8) -> AsyncIterator[Load]:
    """Keep calls under way until the end; what their answers are is learnt first, while nothing disturbs."""
    texts = [text[:200] for text in PASSAGES[:24]]
    expected = [(await client.embed([text], model=MINILM)).vectors for text in texts]
    running = Load(client, texts, expected)
    tasks = [asyncio.create_task(running.caller(number)) for number in range(callers)]
    try:
        yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def same(rows: np.ndarray, expected: np.ndarray) -> bool:
    """Whether these are the same vectors; what a text was batched with may change the last digits."""
    return rows.shape == expected.shape and bool((rows * expected).sum(axis=1).min() > 0.999999)
