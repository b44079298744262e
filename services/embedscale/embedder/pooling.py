"""From token vectors to one vector a text. All take hidden states (n, t, d) and a 0/1 mask (n, t).

Padding may be on either side.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are not padding, (n, d), summed in float32: half precision overflows on long texts."""
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def cls(hidden: Tensor, mask: Tensor) -> Tensor:
    """Vector of the first token that is not padding, (n, d)."""
    return _at(hidden, mask.argmax(1))


def last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """Vector of the last token that is not padding, (n, d)."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return _at(hidden, (mask * places).argmax(1))


def _at(hidden: Tensor, places: Tensor) -> Tensor:
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), places]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": mean, "cls": cls, "last_token": last_token}
"""Pooling by its name in the catalog."""
