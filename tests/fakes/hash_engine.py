"""A cheap deterministic engine: a text's vector is made of its hash. Passes the same contract tests as real engines."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embedscale.core.embedding import Embedding, EngineBatch, InputType, ModelInfo, ModelState, PreparedText, Truncation
from embedscale.core.errors import InputTooLong
from embedscale.core.fingerprint import fingerprint

HASH = "hash-384"
DIMENSIONS = 384
MAX_TOKENS = 512


class HashEngine:
    """Takes `seconds` for a batch; `batches` has all texts that it was asked to compute."""

    def __init__(self, name: str = HASH, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[str]] = []
        self.cancelled = 0
        self.info = ModelInfo(
            name=name, engine="hash", source="", state=ModelState.LOADING, max_tokens=MAX_TOKENS,
            truncations=(Truncation.ERROR, Truncation.END, Truncation.WINDOWS),
        )  # fmt: skip

    load = None
    """It has no queue."""

    async def start(self) -> None:
        space = self.fingerprint(Truncation.END)
        self.info = replace(
            self.info, state=ModelState.READY, dimensions=DIMENSIONS, supported_dimensions=(DIMENSIONS,),
            fingerprint=space,
        )  # fmt: skip

    async def prime(self) -> None:
        pass

    async def wake(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def fingerprint(self, truncation: Truncation) -> str:
        return fingerprint({"name": self.info.name, "windows": truncation is Truncation.WINDOWS})

    def prepare(self, text: str, input_type: InputType) -> PreparedText:
        return PreparedText(("query: " if input_type is InputType.QUERY else "") + text)

    async def embed(
        self, texts: Sequence[PreparedText], truncation: Truncation, deadline: float | None = None
    ) -> EngineBatch:
        started = time.perf_counter()
        self.batches.append([text.prompted for text in texts])
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        embeddings = [self._embedding(position, text, truncation) for position, text in enumerate(texts)]
        tokens = sum(entry.token_count or 0 for entry in embeddings)
        return EngineBatch(embeddings, tokens, time.perf_counter() - started)

    async def count_tokens(self, texts: Sequence[PreparedText]) -> Sequence[int]:
        return [len(_tokens(text)) for text in texts]

    @property
    def computed(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    def _embedding(self, position: int, text: PreparedText, truncation: Truncation) -> Embedding:
        tokens = _tokens(text)
        long = len(tokens) > MAX_TOKENS
        if long and truncation is Truncation.ERROR:
            raise InputTooLong(position, len(tokens), MAX_TOKENS)
        used = tokens[:MAX_TOKENS] if truncation is not Truncation.WINDOWS else tokens
        vector = hashed(" ".join(used))
        return Embedding(self.finished(vector), len(tokens), long and truncation is Truncation.END)

    def finished(self, vector: np.ndarray) -> np.ndarray:
        """For engines that spoil their vectors."""
        return vector


def hashed(text: str) -> np.ndarray:
    digest = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(DIMENSIONS * 2)
    numbers = np.frombuffer(digest, "<i2").astype(np.float32)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def _tokens(text: PreparedText) -> list[str]:
    return text.prompted.split(" ")
