"""What computes pooled vectors from token ids, whatever library does it."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedscale.core.embedding import Matrix

Ids = NDArray[np.int64]


class Network(Protocol):
    """A loaded model with its pooling."""

    slots: int
    """Batches that may be computed at once, each on a thread of the caller's: 1 where a batch takes all threads."""
    hidden_size: int
    """Length of a pooled vector."""
    parameters: int
    """Number of weights."""
    memory_bytes: int
    """Bytes of the weights in memory."""
    facts: Mapping[str, object]
    """What vectors depend on besides the catalog's fields, as JSON: the runtime, and how it rounds."""

    def pooled(self, ids: Ids, mask: Ids, *, alone: bool = True) -> Matrix:
        """Pooled vectors, float32 (n, hidden size), of token ids (n, t) where the mask (n, t) is 1.

        What is computed alone has all threads, other batches have a slot.
        """
