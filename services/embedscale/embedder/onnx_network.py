"""A network that onnxruntime computes on the CPU."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import torch

from embedscale.core.embedding import Matrix
from embedscale.embedder.network import Ids
from embedscale.embedder.onnx_weights import weight_bytes

_MOST_TWICE = 512 * 2**20
"""Bytes of weights that are held a second time, in the order in which one thread reads them; larger models are not."""

SLOWER = ["SkipLayerNormFusion", "BiasGeluFusion"]
"""Fusions that onnxruntime makes at load, whose operators take longer than their parts."""


class OnnxNetwork:
    """See `Network`. The graph takes ids and mask, and gives pooled vectors.

    It has a slot a thread: threads that share each product wait for each other at its end, and a batch of one thread
    stays in its core's cache. What is computed alone, a single text first of all, has all threads.
    """

    def __init__(self, graph: Path, hidden_size: int, parameters: int, facts: Mapping[str, object]) -> None:
        """Load the graph, to compute on as many threads as torch would."""
        threads = torch.get_num_threads()
        self._whole = _session(graph, threads)
        embeddings, others = weight_bytes(graph)
        self.slots = threads if others <= _MOST_TWICE else 1
        self._slot = _session(graph, 1) if self.slots > 1 else self._whole
        self.hidden_size = hidden_size
        self.parameters = parameters
        self.memory_bytes = embeddings + others * (2 if self.slots > 1 else 1)
        self.facts = facts

    def pooled(self, ids: Ids, mask: Ids, *, alone: bool = True) -> Matrix:
        """See `Network`."""
        session = self._whole if alone else self._slot
        vectors: Matrix = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors


def _session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # threads spin within a run, not after it
    return onnxruntime.InferenceSession(
        str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
    )
