"""Rewrites a fused graph into the operators that onnxruntime computes fastest.

- Attention is ONNX's own operator, which is told how many tokens each text has. onnxruntime's `MultiHeadAttention` adds
  biases and masks in loops that take longer than the products.
- Between embeddings and pooling the tokens of all texts are rows of one matrix, (n * t, channels), so that a product
  and its bias are one `Gemm`. Only attention sees texts, (n, t, channels).
- Sums, layer norms and gelu stay apart, for `SkipLayerNormalization` takes four times as long as its parts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

_BY_ROW = ("Add", "Mul", "Gelu", "FastGelu", "Relu", "LayerNormalization")
"""What computes a row of its result from the same row of what it is given."""
_LENGTHS = "rewrite/lengths"
_IR_VERSION = 11
"""The first that may have the operator for attention."""


def rewrite(model: Any) -> None:
    """Replace nodes of a graph from `input_ids` and `attention_mask`, (n, t), where texts are padded at the right."""
    graph = model.graph
    constants = {one.name: one for one in graph.initializer}
    by_row = _ByRow(constants)
    for node in _with_gemms(list(_with_attention(graph.node, constants)), constants):
        by_row.add(node)
    nodes = _needed(by_row.nodes, {one.name for one in graph.output})
    named = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:], graph.value_info[:]  # the last has shapes, which are others now
    graph.node.extend(nodes)
    graph.initializer.extend(one for one in constants.values() if one.name in named)
    model.ir_version = max(model.ir_version, _IR_VERSION)


def _with_attention(nodes: Iterable[Any], constants: dict[str, Any]) -> Iterator[Any]:
    """Sums of projections and their biases, and ONNX's attention, for what is fused as a whole."""
    for node in nodes:
        if node.op_type != "MultiHeadAttention" or len(node.input) != 5 or not node.input[3]:
            yield node
            continue
        biases = np.split(numpy_helper.to_array(constants[node.input[3]]), 3)
        sums = [f"{node.output[0]}/{name}" for name in ("query", "key", "value")]
        for product, bias, total in zip(node.input[:3], biases, sums, strict=True):
            yield helper.make_node("Add", [product, _constant(f"{total}/bias", bias, constants)], [total])
        facts = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        heads = {"q_num_heads": facts["num_heads"], "kv_num_heads": facts["num_heads"], "scale": facts.get("scale")}
        yield helper.make_node("Attention", [*sums, "", "", "", _LENGTHS], list(node.output), **heads)


def _with_gemms(nodes: Sequence[Any], constants: Mapping[str, Any]) -> Iterator[Any]:
    """`Gemm` for each product with a constant matrix, and for the sum with a bias after it."""
    uses = Counter(name for node in nodes for name in node.input)
    products = {one.output[0]: one for one in nodes if one.op_type == "MatMul" and _rank(one.input[1], constants) == 2}
    sums = {one.output[0]: _product_and_bias(one, constants) for one in nodes if one.op_type == "Add"}
    sums = {total: terms for total, terms in sums.items() if terms and terms[0] in products and uses[terms[0]] == 1}
    biased = {product for product, _ in sums.values()}
    for node in nodes:
        name = node.output[0]
        product, *bias = sums.get(name, (name,))
        if product in products and name not in biased:
            yield helper.make_node("Gemm", [*products[product].input, *bias], [name])
        elif name not in biased:
            yield node


def _product_and_bias(node: Any, constants: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what is added to one another, if the second is a constant vector."""
    product, bias = sorted(node.input, key=lambda name: name in constants)
    return (product, bias) if _rank(bias, constants) == 1 else ()


def _needed(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    """Nodes without those that nothing is computed from."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _rank(name: str, constants: Mapping[str, Any]) -> int:
    """Dimensions of a constant, 0 of anything else."""
    return len(constants[name].dims) if name in constants else 0


def _constant(name: str, value: Any, constants: dict[str, Any]) -> str:
    constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
    return name


class _ByRow:
    """Nodes, with what makes rows of texts, and texts of rows again, between them."""

    def __init__(self, constants: dict[str, Any]) -> None:
        self._constants = constants
        self._rows: dict[str, str] = {}
        """Names of activations as rows, (n * t, channels), by their names; what is computed as rows has one name."""
        self._texts: dict[str, str] = {}
        self._channels: dict[str, int] = {}
        self.nodes = [
            helper.make_node("Shape", ["input_ids"], ["rewrite/shape"]),
            helper.make_node(
                "ReduceSum", ["attention_mask", _constant("rewrite/axis", [1], constants)], [_LENGTHS], keepdims=0
            ),
        ]

    def add(self, node: Any) -> None:
        """Add a node; they come in the order in which they are computed."""
        if node.op_type == "Gemm":
            width, channels = self._constants[node.input[1]].dims
            self._make_rows(node.input[0], width)
            self._add_on_rows(node, channels)
        elif node.op_type in _BY_ROW and all(map(self._suits_rows, node.input)):
            self._add_on_rows(node, next(self._channels[name] for name in node.input if name in self._channels))
        else:
            node.input[:] = [self._as_texts(name) for name in node.input]
            self.nodes.append(node)

    def _suits_rows(self, name: str) -> bool:
        return _rank(name, self._constants) <= 1 if name in self._constants else name in self._rows

    def _add_on_rows(self, node: Any, channels: int) -> None:
        node.input[:] = [self._rows.get(name, name) for name in node.input]
        self.nodes.append(node)
        self._rows[node.output[0]] = node.output[0]
        self._channels[node.output[0]] = channels

    def _make_rows(self, name: str, channels: int) -> None:
        if name not in self._rows:
            self._rows[name], self._channels[name] = f"{name}/rows", channels
            shape = _constant(f"{name}/rows/shape", [-1, channels], self._constants)
            self.nodes.append(helper.make_node("Reshape", [name, shape], [self._rows[name]]))

    def _as_texts(self, name: str) -> str:
        if self._rows.get(name) != name:
            return name
        if name not in self._texts:
            shape, self._texts[name] = f"{name}/texts/shape", f"{name}/texts"
            last = _constant(f"{name}/texts/channels", [self._channels[name]], self._constants)
            self.nodes.append(helper.make_node("Concat", ["rewrite/shape", last], [shape], axis=0))
            self.nodes.append(helper.make_node("Reshape", [name, shape], [self._texts[name]]))
        return self._texts[name]
