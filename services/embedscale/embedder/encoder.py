"""Computes vectors with torch: batches by length, encode, pool, normalise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedscale.core.embedding import Embedding, Matrix, Truncation
from embedscale.core.errors import InputTooLong
from embedscale.core.vectors import l2_normalized
from embedscale.embedder.dense import Dense
from embedscale.embedder.loading import load_network
from embedscale.embedder.pooling import POOLINGS
from embedscale.embedder.profile import resolve
from embedscale.embedder.tokenizing import TokenizedText, Tokenizer
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
    """A loaded model. One thread at a time may split, and one may compute; joining is for any."""

    def __init__(self, folder: Path, model: LocalModel, *, device: str, token_budget: int) -> None:
        self.profile = resolve(model, folder)
        self._network = load_network(folder, model, device)
        self._dense = [Dense(folder, spec) for spec in self.profile.dense]
        self._tokenizer = Tokenizer(folder)
        self._device = device
        self._token_budget = token_budget
        self._pool = POOLINGS[self.profile.pooling]
        self._hidden = int(self._network.config.hidden_size)
        self.dimensions = self._dense[-1].dimensions if self._dense else self._hidden
        self.parameters = int(self._network.num_parameters())

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

    def forward(self, windows: Sequence[Sequence[int]]) -> Matrix:
        """Pooled vectors of the windows as one padded batch, float32 (n, hidden size), row i for window i."""
        vectors: Matrix = self._forward(windows).float().cpu().numpy()
        return vectors

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
        pooled = np.empty((len(sequences), self._hidden), np.float32)
        for rows in length_batches([len(ids) for ids in sequences], self._token_budget):
            pooled[rows] = self.forward([sequences[row] for row in rows])
        return pooled

    @torch.inference_mode()
    def _forward(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        width = max(map(len, sequences))
        ids = torch.full((len(sequences), width), self._tokenizer.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        hidden = self._network(input_ids=ids, attention_mask=mask).last_hidden_state
        return self._pool(hidden, mask)


def length_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Group row numbers by length so that no batch, padded, has more tokens than the budget (one row always fits)."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


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
