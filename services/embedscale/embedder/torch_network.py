"""A network that torch computes: any architecture, number format and device; the reference for other runtimes."""

from collections.abc import Mapping
from pathlib import Path

import torch

from embedscale.core.embedding import Matrix
from embedscale.embedder.loading import load_network
from embedscale.embedder.network import Ids
from embedscale.embedder.pooling import POOLINGS
from embedscale.embedding.catalog import LocalModel, Pooling


class TorchNetwork:
    """See `Network`."""

    facts: Mapping[str, object] = {"runtime": "torch"}
    slots = 1

    def __init__(self, folder: Path, model: LocalModel, pooling: Pooling, device: str, attention: str = "") -> None:
        """Load it. `attention` names an implementation of transformers. Raises WeightsError."""
        self.module = load_network(folder, model, device, attention)
        self.pool = POOLINGS[pooling]
        self._device = device
        self.hidden_size = int(self.module.config.hidden_size)
        self.parameters = int(self.module.num_parameters())
        self.memory_bytes = int(self.module.get_memory_footprint())

    @torch.inference_mode()
    def pooled(self, ids: Ids, mask: Ids, *, alone: bool = True) -> Matrix:  # noqa: ARG002
        """See `Network`."""
        tokens, kept = torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)
        hidden = self.module(input_ids=tokens, attention_mask=kept).last_hidden_state
        vectors: Matrix = self.pool(hidden, kept).float().cpu().numpy()
        return vectors
