"""From token vectors to one vector a text. All take hidden states (n, t, d) and a right-padded 0/1 mask (n, t)."""

from collections.abc import Callable

import torch
from torch import Tensor


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are not padding, (n, d), summed in float32: half precision overflows on long texts."""
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def cls(hidden: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001
    """Vector of the first token, (n, d)."""
    return hidden[:, 0]


def last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """Vector of the last token that is not padding, (n, d)."""
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    return hidden[rows, mask.sum(1) - 1]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": mean, "cls": cls, "last_token": last_token}
"""Pooling by its name in the catalog."""
