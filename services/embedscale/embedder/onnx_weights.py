"""A graph's weights in a file beside it, which sessions map into memory: they share what they do not rearrange."""

import math
from pathlib import Path
from typing import Any

import onnx

_LEAST_BYTES = 1024
_LOOKUPS = ("Gather", "EmbedLayerNormalization")


def move_weights(graph: Path) -> None:
    """Write the weights of the graph in `graph` into `model.bin` in the same folder."""
    model = onnx.load(str(graph))
    onnx.save(model, str(graph), save_as_external_data=True, location="model.bin", size_threshold=_LEAST_BYTES)


def weight_bytes(graph: Path) -> tuple[int, int]:
    """Bytes of the embeddings, which are only looked up, and of all other weights."""
    parts = onnx.load(str(graph), load_external_data=False).graph
    tables = {name for node in parts.node if node.op_type in _LOOKUPS for name in node.input}
    total = sum(map(_bytes, parts.initializer))
    looked_up = sum(_bytes(weights) for weights in parts.initializer if weights.name in tables)
    return looked_up, total - looked_up


def _bytes(weights: Any) -> int:
    return int(math.prod(weights.dims) * onnx.helper.tensor_dtype_to_np_dtype(weights.data_type).itemsize)
