"""Graphs of onnxruntime in tests: not left behind, and made in this process, which has imported torch already."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from embedscale.core.embedding import Truncation
from embedscale.embedder import runtimes
from embedscale.embedder.encoder import Encoder
from embedscale.embedding.catalog import LocalModel


@contextmanager
def graphs_in(home: Path) -> Iterator[None]:
    """Keep graphs and unpacked models under `home`, and make graphs here instead of in a process for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDSCALE_HOME", str(home))
        patch.setattr(runtimes, "_elsewhere", lambda work, *arguments: work(*arguments))
        yield


def vectors_by_onnxruntime(folder: Path) -> np.ndarray:
    """What a process of its own computes, by a graph that it makes if there is none."""
    fields = {"engine": "torch", "source": {"folder": folder}, "pooling": "mean", "max_tokens": 64}
    model = LocalModel.model_validate(fields | {"runtime": "onnxruntime"})
    encoder = Encoder(folder, model, device="cpu", token_budget=256)
    return np.stack([one.vector for one in encoder.encode(["the red house", "one"], Truncation.END)[0]])
