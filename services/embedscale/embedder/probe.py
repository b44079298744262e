"""Made-up texts, as token ids, to try a model with: the same each time."""

from collections.abc import Sequence

import numpy as np

from embedscale.embedder.network import Ids
from embedscale.embedder.tokenizing import TokenizedText, Tokenizer

_LENGTHS = (1, 4, 8, 12, 16, 16, 24, 32, 32, 48, 64, 96, 128, 192, 254, 510)


def probe_windows(tokenizer: Tokenizer, lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Windows of random tokens, special tokens around them: one a length, which counts no special tokens."""
    dice = np.random.default_rng(7)
    texts = [dice.choice(tokenizer.ordinary_ids, length).tolist() for length in lengths]
    return [tokenizer.windows(TokenizedText(ids, len(ids)), max_tokens)[0] for ids in texts]


def probe_batches(tokenizer: Tokenizer, max_tokens: int) -> list[tuple[Ids, Ids]]:
    """Ids and masks of short and long texts, four to a batch, so that most are padded."""
    windows = probe_windows(tokenizer, _LENGTHS, max_tokens)
    return [padded(windows[start : start + 4], tokenizer.pad_id) for start in range(0, len(windows), 4)]


def padded(windows: Sequence[Sequence[int]], pad_id: int) -> tuple[Ids, Ids]:
    """Ids (n, longest window), padded at the right, and the mask that is 0 there."""
    ids = np.full((len(windows), max(map(len, windows))), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window
        mask[row, : len(window)] = 1
    return ids, mask
