"""From texts to vectors: token windows, batches by length, one network, normalised."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedscale.core.embedding import Embedding, Matrix, Truncation
from embedscale.core.errors import InputTooLong
from embedscale.core.vectors import l2_normalized
from embedscale.embedder.calibration import fastest_budget
from embedscale.embedder.dense import Dense
from embedscale.embedder.length_batches import slot_batches
from embedscale.embedder.probe import padded
from embedscale.embedder.profile import resolve
from embedscale.embedder.runtimes import open_network
from embedscale.embedder.tokenizing import TokenizedText, read_tokenizer
from embedscale.embedding.catalog import LocalModel


@dataclass(frozen=True, slots=True)
class SplitTexts:
    """Texts as windows of token ids, those of text 0 first; the other lists have an entry a text."""

    windows: Sequence[Sequence[int]]
    windows_per_text: Sequence[int]
    token_counts: Sequence[int]
    truncated: Sequence[bool]

    @property
    def token_count(self) -> int:
        """Tokens to compute, without padding."""
        return sum(map(len, self.windows))


class Encoder:
    """A loaded model. One thread at a time may split, and as many may compute as it has slots; joining is for any."""

    def __init__(
        self,
        folder: Path,
        model: LocalModel,
        *,
        device: str,
        token_budget: int | None,
    ) -> None:
        """Load the model. Without a token budget the fastest one is measured. Raises WeightsError."""
        self.profile = resolve(model, folder)
        self._tokenizer = read_tokenizer(folder)
        self._network = open_network(folder, model, self.profile, device)
        self._dense = [Dense(folder, spec) for spec in self.profile.dense]
        self.dimensions = self._dense[-1].dimensions if self._dense else self._network.hidden_size
        self.parameters = self._network.parameters
        self.memory_bytes = self._network.memory_bytes
        self.slots = self._network.slots
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="encoder")
        in_a_slot = partial(self.forward, alone=False)
        self.token_budget = token_budget or fastest_budget(in_a_slot, self._tokenizer, self.profile.max_tokens)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before truncation, special tokens included."""
        return [text.token_count for text in self._tokenizer.tokenize(texts)]

    def encode(self, texts: Sequence[str], truncation: Truncation) -> tuple[list[Embedding], int]:
        """Vectors of the texts in their order, and the tokens computed. Raises InputTooLong under ERROR."""
        split = self.split(texts, truncation)
        return self.join(split, self._pooled(split.windows)), split.token_count

    def split(self, texts: Sequence[str], truncation: Truncation) -> SplitTexts:
        """Token windows that fit the model, at least one a text. Raises InputTooLong under ERROR."""
        tokenized = self._tokenizer.tokenize(texts)
        self._refuse_too_long(tokenized, truncation)
        groups = [self._windows(text, truncation) for text in tokenized]
        return SplitTexts(
            windows=[ids for group in groups for ids in group],
            windows_per_text=[len(group) for group in groups],
            token_counts=[text.token_count for text in tokenized],
            truncated=[self._is_cut(text, truncation) for text in tokenized],
        )

    def facts(self) -> dict[str, object]:
        """What goes into the fingerprint of how the vectors are computed, as JSON."""
        return {**self.profile.facts(), **self._network.facts}

    def forward(self, windows: Sequence[Sequence[int]], *, alone: bool = True) -> Matrix:
        """Pooled vectors of the windows as one padded batch, float32 (n, hidden size), row i for window i.

        Alone it has all threads, otherwise a slot; see `Network`.
        """
        return self._network.pooled(*padded(windows, self._tokenizer.pad_id), alone=alone)

    def join(self, split: SplitTexts, pooled: Matrix) -> list[Embedding]:
        """Embeddings of the texts, from the vectors of their windows: means weighted by tokens, normalised."""
        owners = np.repeat(np.arange(len(split.token_counts)), split.windows_per_text)
        weights = [max(len(ids) - self._tokenizer.special_count, 1) for ids in split.windows]
        vectors = _weighted_means(pooled, weights, owners, len(split.token_counts))
        for layer in self._dense:
            vectors = layer(torch.from_numpy(vectors)).numpy()
        if self.profile.normalize:
            vectors = l2_normalized(vectors)
        return list(map(Embedding, vectors, split.token_counts, split.truncated))

    def _refuse_too_long(self, texts: Sequence[TokenizedText], truncation: Truncation) -> None:
        for position, text in enumerate(texts):
            if truncation is Truncation.ERROR and text.token_count > self.profile.max_tokens:
                raise InputTooLong(position, text.token_count, self.profile.max_tokens)

    def _windows(self, text: TokenizedText, truncation: Truncation) -> list[list[int]]:
        windows = self._tokenizer.windows(text, self.profile.max_tokens)
        return windows if truncation is Truncation.WINDOWS else windows[:1]

    def _is_cut(self, text: TokenizedText, truncation: Truncation) -> bool:
        return truncation is Truncation.END and text.token_count > self.profile.max_tokens

    def _pooled(self, sequences: Sequence[Sequence[int]]) -> Matrix:
        batches = slot_batches([len(ids) for ids in sequences], self.token_budget, self.slots)
        spread = len(batches) > 1 and self.slots > 1
        forward, compute = partial(self.forward, alone=not spread), self._threads.map if spread else map
        pooled = np.empty((len(sequences), self._network.hidden_size), np.float32)
        for rows, vectors in zip(batches, compute(forward, _picked(sequences, batches)), strict=True):
            pooled[rows] = vectors
        return pooled


def _picked(sequences: Sequence[Sequence[int]], batches: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    return ([sequences[row] for row in rows] for rows in batches)


def _weighted_means(pooled: Matrix, weights: Sequence[int], owners: NDArray[np.intp], count: int) -> Matrix:
    """Mean of each owner's rows, weighted by the tokens of their text; owners with one row keep it as it is."""
    if len(pooled) == count:
        return pooled
    column = np.asarray(weights, np.float32)[:, None]
    sums = np.zeros((count, pooled.shape[1]), np.float32)
    totals = np.zeros((count, 1), np.float32)
    np.add.at(sums, owners, pooled * column)
    np.add.at(totals, owners, column)
    return sums / totals
