"""A network that onnxruntime computes on the CPU."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from embedscale.core.embedding import Matrix
from embedscale.embedder.length_batches import length_batches
from embedscale.embedder.network import Ids
from embedscale.embedder.onnx_weights import weight_bytes

_MOST_TWICE = 512 * 2**20
"""Bytes of weights that are held a second time, in the order in which one thread reads them; larger models are not."""
_SLACKS = (1.0, 1.05, 1.1, 1.2)
"""By how much a part may be larger than its share of a batch: the other threads wait for it."""

SLOWER = ["SkipLayerNormFusion", "BiasGeluFusion"]
"""Fusions that onnxruntime makes at load, whose operators take longer than their parts."""


class OnnxNetwork:
    """See `Network`. The graph takes ids and mask, and gives pooled vectors.

    A batch is computed in parts, one a thread, if there are rows enough for parts of like size: threads that share each
    product wait for each other at its end, and parts stay in a core's cache. Other batches, a text alone first of all,
    are computed by all threads together.
    """

    def __init__(self, graph: Path, hidden_size: int, parameters: int, facts: Mapping[str, object]) -> None:
        """Load the graph, to compute on as many threads as torch would."""
        self._threads = torch.get_num_threads()
        self._whole = _session(graph, self._threads)
        embeddings, others = weight_bytes(graph)
        self._part = _session(graph, 1) if self._threads > 1 and others <= _MOST_TWICE else None
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="onnx")
        self.hidden_size = hidden_size
        self.parameters = parameters
        self.memory_bytes = embeddings + others * (2 if self._part else 1)
        self.facts = facts

    def pooled(self, ids: Ids, mask: Ids) -> Matrix:
        """See `Network`."""
        parts = equal_parts(mask.sum(1).tolist(), self._threads) if self._part else []
        if not parts:
            return _run(self._whole, ids, mask)
        vectors = np.empty((len(ids), self.hidden_size), np.float32)
        for rows, computed in zip(parts, self._pool.map(partial(self._rows, ids, mask), parts), strict=True):
            vectors[rows] = computed
        return vectors

    def _rows(self, ids: Ids, mask: Ids, rows: Sequence[int]) -> Matrix:
        columns = mask[rows].any(0)
        return _run(self._part, ids[rows][:, columns], mask[rows][:, columns])


def equal_parts(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Row numbers in at most `count` parts of rows of like length; none if one would be much larger than its share."""
    for slack in _SLACKS:
        most = int(slack * sum(lengths) / count)
        parts = list(length_batches(lengths, most))
        if max(lengths) <= most and 1 < len(parts) <= count:
            return parts
    return []


def _session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # threads spin within a run, not after it
    return onnxruntime.InferenceSession(
        str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
    )


def _run(session: onnxruntime.InferenceSession, ids: Ids, mask: Ids) -> Matrix:
    vectors: Matrix = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return vectors
