"""A network that onnxruntime computes on the CPU."""

import os
from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import torch

from embedscale.core.embedding import Matrix
from embedscale.embedder.network import Ids


class OnnxNetwork:
    """See `Network`. The graph takes ids and mask, and gives pooled vectors."""

    def __init__(self, graph: Path, hidden_size: int, parameters: int, facts: Mapping[str, object]) -> None:
        """Load the graph, to compute on as many threads as torch would."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":  # what torch's threads are told in this way
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.hidden_size = hidden_size
        self.parameters = parameters
        self.memory_bytes = graph.stat().st_size
        self.facts = facts

    def pooled(self, ids: Ids, mask: Ids) -> Matrix:
        """See `Network`."""
        vectors: Matrix = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors
