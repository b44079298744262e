"""int8 for a graph's big matrices, so that a vector does not depend on its batch.

Weights have a scale a column. Activations have one scale a matrix, measured once on made-up texts: onnxruntime's own
dynamic quantization measures it on each batch instead, and a text's vector then changes with what it is batched with. A
few channels of a transformer's activations are many times larger than the rest, and would cost all others their
precision. What is done about it was chosen by what it costs in cosine, in MRR and in time:

- Where several matrices multiply the same, which attention's projections do, channels are divided by a power of their
  range, and the rows of the weights multiplied by it (SmoothQuant, Xiao et al. 2022).
- After attention nothing needs to be done.
- Elsewhere, which is before and after gelu, what the largest channels exceed the others' range by is multiplied in
  float32.

The products inside attention, the embeddings and the layer norms stay in float32.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embedscale.embedder.network import Ids

Batches = Sequence[tuple[Ids, Ids]]
Floats = NDArray[np.float32]

_POWER = 0.8
"""How much of a channel's range moves into the weights."""
_OUTLIERS = 16
_MARGIN = 1.3
"""After gelu real texts reach further than made-up ones where the largest channels do not make the range; what a layer
norm gives is bounded by the norm itself."""
_CONTRIB = "com.microsoft"


def weight_bits() -> int:
    """8, or 7 on an x86 processor without VNNI, whose sums of two products would overflow 16 bits."""
    vnni = platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_vnni_supported()
    return 8 if vnni else 7


def quantize(path: Path, batches: Batches) -> None:
    """Replace the float32 graph in `path` by an int8 one, with ranges measured on ids and masks of texts."""
    model = onnx.load(str(path))
    graph = _Graph(model)
    for values, (least, greatest) in _ranges(model, list(graph.products), batches).items():
        graph.quantize_products(values, least, greatest)
    graph.finish()
    onnx.save(model, str(path))


def _ranges(model: Any, names: Sequence[str], batches: Batches) -> dict[str, tuple[Floats, Floats]]:
    """Least and greatest value of each channel of some activations (n * t, channels), padding left out."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    probed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(names, {"input_ids": ids, "attention_mask": mask}) for ids, mask in batches]
    rows = {
        name: np.concatenate(
            [_extremes(run[place][mask.ravel() > 0]) for run, (_, mask) in zip(runs, batches, strict=True)]
        )
        for place, name in enumerate(names)
    }
    return {name: (values.min(0), values.max(0)) for name, values in rows.items()}


def _extremes(rows: Floats) -> Floats:
    return np.stack([rows.min(0), rows.max(0)])


class _Graph:
    """A graph whose products with constant matrices are replaced one by one; `finish` writes them into the model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._weights = {one.name: one for one in model.graph.initializer}
        self._producers: dict[str, str] = {}
        self._replaced: dict[str, list[Any]] = {}
        self.products: dict[str, list[Any]] = {}
        """Nodes by the activations that they multiply with a matrix."""
        for node in model.graph.node:
            kind = self._producers.get(node.input[0], "") if node.op_type == "Reshape" else node.op_type
            self._producers |= dict.fromkeys(node.output, kind)
            if node.op_type == "Gemm":
                self.products.setdefault(node.input[0], []).append(node)

    def quantize_products(self, values: str, least: Floats, greatest: Floats) -> None:
        """Compute in int8 what multiplies `values`, whose channels have these ranges."""
        products = list(map(self._product, self.products[values]))
        if len(products) > 1:
            nodes = self._smoothed(values, least, greatest, products)
        elif self._producers[values].endswith("Attention"):
            nodes = self._rounded(values, _scale(least, greatest), products)
        else:
            nodes = self._with_excess(values, least, greatest, products[0])
        first, *others = [product.output for product in products]
        self._replaced |= {first: nodes, **{output: [] for output in others}}

    def finish(self) -> None:
        """Write the replaced nodes into the model, and leave out the matrices that are not used any more."""
        graph = self._model.graph
        nodes = [new for node in graph.node for new in self._replaced.get(node.output[0], [node])]
        used = {name for node in nodes for name in node.input}
        kept = [one for name, one in self._weights.items() if name in used]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(kept)
        if all(one.domain != _CONTRIB for one in self._model.opset_import):
            self._model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))

    def _smoothed(self, values: str, least: Floats, greatest: Floats, products: Sequence["_Product"]) -> list[Any]:
        factors = _smoothing(least, greatest, [product.weight for product in products])
        owner = products[0].output
        divided = self._node("Mul", [values, self._constant(owner, "factors", 1 / factors)], owner, "smooth")
        multiplied = [replace(product, weight=product.weight * factors[:, None]) for product in products]
        return [divided, *self._rounded(divided.output[0], _scale(least / factors, greatest / factors), multiplied)]

    def _with_excess(self, values: str, least: Floats, greatest: Floats, product: "_Product") -> list[Any]:
        channels = _outliers(least, greatest)
        margin = 1.0 if self._producers[values].endswith("LayerNormalization") else _MARGIN
        scale = _scale(*(margin * np.delete(bound, channels) for bound in (least, greatest)))
        within = replace(product, output=f"{product.output}/within")
        excess = self._excess(values, channels, scale.bounds, product)
        return [*self._rounded(values, scale, [within]), *excess]

    def _rounded(self, values: str, scale: "_Scale", products: Sequence["_Product"]) -> list[Any]:
        """Build products of int8 matrices, scaled back to float32, one an output."""
        owner = products[0].output
        step, zero = self._constant(owner, "step", scale.step), self._constant(owner, "zero", scale.zero)
        rounded = self._node("QuantizeLinear", [values, step, zero], owner, "rounded")
        return [rounded, *(self._in_int8(rounded.output[0], step, zero, product) for product in products)]

    def _in_int8(self, rounded: str, step: str, zero: str, product: "_Product") -> Any:
        most = 2 ** (weight_bits() - 1) - 1
        steps = np.maximum(np.abs(product.weight).max(0) / most, np.float32(1e-12))
        whole = self._constant(product.output, "weights", np.rint(product.weight / steps).astype(np.int8))
        columns = self._constant(product.output, "steps", steps)
        given = [rounded, whole, step, columns, zero, "", product.bias]
        return helper.make_node("MatMulIntegerToFloat", given, [product.output], domain=_CONTRIB)

    def _excess(
        self, values: str, channels: NDArray[np.intp], bounds: tuple[float, float], product: "_Product"
    ) -> list[Any]:
        """Build the sum of what is within the bounds and of what the channels exceed them by, times their rows."""
        output = product.output
        low, high = (self._constant(output, name, np.float32(one)) for name, one in zip("lh", bounds, strict=True))
        found = self._node("Gather", [values, self._constant(output, "channels", channels)], output, "found")
        found.attribute.append(helper.make_attribute("axis", -1))
        clipped = self._node("Clip", [found.output[0], low, high], output, "clipped")
        excess = self._node("Sub", [found.output[0], clipped.output[0]], output, "excess")
        rows = self._constant(output, "rows", product.weight[channels])
        total = helper.make_node("Gemm", [excess.output[0], rows, f"{output}/within"], [output])
        return [found, clipped, excess, total]

    def _product(self, node: Any) -> "_Product":
        weight, *bias = node.input[1:]
        return _Product(node.output[0], numpy_helper.to_array(self._weights[weight]), *bias)

    def _constant(self, owner: str, name: str, value: Any) -> str:
        tensor = numpy_helper.from_array(np.ascontiguousarray(value) if np.ndim(value) else np.array(value))
        tensor.name = f"{owner}/{name}"
        self._weights[tensor.name] = tensor
        return str(tensor.name)

    def _node(self, operator: str, inputs: Sequence[str], owner: str, name: str) -> Any:
        return helper.make_node(operator, inputs, [f"{owner}/{name}"])


def _smoothing(least: Floats, greatest: Floats, weights: Sequence[Floats]) -> Floats:
    """Divisors of the channels, with a geometric mean of 1: range ** power / size of their weights ** (1 - power)."""
    ranges = np.maximum(np.maximum(-least, greatest), np.float32(1e-6))
    sizes = np.maximum(np.max([np.abs(weight).max(1) for weight in weights], axis=0), np.float32(1e-6))
    logarithms = _POWER * np.log(ranges) - (1 - _POWER) * np.log(sizes)
    factors: Floats = np.exp(logarithms - logarithms.mean()).astype(np.float32)
    return factors


def _outliers(least: Floats, greatest: Floats) -> NDArray[np.intp]:
    """Numbers of the largest channels, at most a sixteenth of them."""
    return np.sort(np.argsort(-np.maximum(-least, greatest))[: min(_OUTLIERS, len(least) // 16)])


@dataclass(frozen=True)
class _Product:
    """What a matrix (channels in, channels out) and perhaps a bias, which is a constant's name, make of activations."""

    output: str
    weight: Floats
    bias: str = ""


@dataclass(frozen=True)
class _Scale:
    """How float32 is rounded to uint8: value / step + zero."""

    step: np.float32
    zero: np.uint8

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value that is not clipped."""
        return -float(self.zero) * float(self.step), (255 - float(self.zero)) * float(self.step)


def _scale(least: Floats, greatest: Floats) -> _Scale:
    low = min(float(least.min()), 0.0)
    high = max(float(greatest.max()), low + 1e-6)
    step = np.float32((high - low) / 255)
    return _Scale(step, np.uint8(np.clip(np.rint(-low / step), 0, 255)))
