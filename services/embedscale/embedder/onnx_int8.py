"""int8 for a graph's big matrices, so that a vector does not depend on its batch.

Weights have a scale a column. Activations have one scale a matrix, measured once on made-up texts: onnxruntime's own
dynamic quantization measures it on each batch instead, and a text's vector then changes with what it is batched with. A
few channels of a transformer's activations are many times larger than the rest. Left in, they cost all others their
precision, so what they exceed the range by is multiplied in float32 beside it. Attention with its projections, the
embeddings and the layer norms stay in float32.
"""

import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from embedscale.embedder.network import Ids

Batches = Sequence[tuple[Ids, Ids]]
Range = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Least and greatest value of each channel."""

_QUANTIZED = ("MatMul",)
_OUTLIERS = 16


def weight_bits() -> int:
    """8, or 7 on an x86 processor without VNNI, whose sums of two products would overflow 16 bits."""
    vnni = platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_vnni_supported()
    return 8 if vnni else 7


def quantize(path: Path, batches: Batches) -> None:
    """Replace the float32 graph in `path` by an int8 one, with ranges measured on ids and masks of texts."""
    exact = onnx.load(str(path))
    ranges = _ranges(exact, batches)
    _dynamic(path)
    graph = _Graph(onnx.load(str(path)))
    for node in [node for node in exact.graph.node if _is_big(exact, node)]:
        graph.fix_range(node, ranges[node.input[0]], _weight(exact, node))
    onnx.save(graph.model, str(path))


def _dynamic(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(_about_preprocessing)
    try:
        quantize_dynamic(
            path,
            path,
            op_types_to_quantize=list(_QUANTIZED),
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=weight_bits() == 7,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    finally:
        logging.getLogger().removeFilter(_about_preprocessing)


def _about_preprocessing(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()


def _is_big(model: Any, node: Any) -> bool:
    return node.op_type in _QUANTIZED and any(one.name == node.input[1] for one in model.graph.initializer)


def _initializer(model: Any, name: str) -> Any:
    return next(one for one in model.graph.initializer if one.name == name)


def _weight(model: Any, node: Any) -> NDArray[np.float32]:
    weight: NDArray[np.float32] = numpy_helper.to_array(_initializer(model, node.input[1]))
    return weight


def _ranges(model: Any, batches: Batches) -> dict[str, Range]:
    """Range of each channel of what the big matrices are multiplied with."""
    names = sorted({node.input[0] for node in model.graph.node if _is_big(model, node)})
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    probed.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(names, {"input_ids": ids, "attention_mask": mask}) for ids, mask in batches]
    columns = {name: np.concatenate([_extremes(run[place]) for run in runs]) for place, name in enumerate(names)}
    return {name: (values.min(0), values.max(0)) for name, values in columns.items()}


def _extremes(values: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = values.reshape(-1, values.shape[-1])
    return np.stack([rows.min(0), rows.max(0)])


class _Graph:
    """A dynamically quantized graph whose ranges are fixed one by one."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._nodes = model.graph.node

    def fix_range(self, node: Any, channels: Range, weight: NDArray[np.float32]) -> None:
        """Give a node's input a constant scale; `channels` and `weight` are those of the node in float32."""
        least, greatest = channels
        sizes = np.maximum(-least, greatest)
        count = min(_OUTLIERS, len(sizes) // 16)
        outliers = np.sort(np.argsort(-sizes)[:count])
        low = min(np.delete(least, outliers).min(), 0)
        high = max(np.delete(greatest, outliers).max(), low + 1e-6)
        scale = np.float32((high - low) / 255)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        self._freeze(node.input[0], scale, zero)
        bounds = (-float(zero) * float(scale), (255 - float(zero)) * float(scale))
        self._add_excess(node, outliers, bounds, weight[outliers])

    def _freeze(self, values: str, scale: np.float32, zero: np.uint8) -> None:
        """Quantize `values` with constants."""
        dynamic = next(
            node for node in self._nodes if node.op_type == "DynamicQuantizeLinear" and node.input[0] == values
        )
        place = list(self._nodes).index(dynamic)
        quantized, *constants = dynamic.output
        self._constants(dict(zip(constants, (np.array(scale), np.array(zero)), strict=True)))
        fixed = helper.make_node("QuantizeLinear", [values, *constants], [quantized], f"{dynamic.name}_fixed")
        self._nodes.remove(dynamic)
        self._nodes.insert(place, fixed)

    def _add_excess(
        self, node: Any, outliers: NDArray[np.intp], bounds: tuple[float, float], rows: NDArray[np.float32]
    ) -> None:
        """Add to a product what its outlier channels exceed the bounds by, times their rows of the weights."""
        name = [f"{node.name}_{part}" for part in ("channels", "low", "high", "rows", "values", "clipped", "excess")]
        channels, low, high, weights, values, clipped, excess = name
        self._constants(
            {
                channels: outliers.astype(np.int64),
                low: np.array(bounds[0], np.float32),
                high: np.array(bounds[1], np.float32),
                weights: rows,
            }
        )
        product = node.output[0]
        place = next(i for i, one in enumerate(self._nodes) if product in one.output)
        within, beyond = f"{node.name}_within", f"{node.name}_beyond"
        self._nodes[place].output[0] = within
        added = [
            helper.make_node("Gather", [node.input[0], channels], [values], axis=-1),
            helper.make_node("Clip", [values, low, high], [clipped]),
            helper.make_node("Sub", [values, clipped], [excess]),
            helper.make_node("MatMul", [excess, weights], [beyond]),
            helper.make_node("Add", [within, beyond], [product]),
        ]
        for offset, one in enumerate(added, 1):
            self._nodes.insert(place + offset, one)

    def _constants(self, values: dict[str, NDArray[Any]]) -> None:
        self.model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
