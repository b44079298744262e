"""Rewriting a graph changes how it is computed, and not what."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from embedscale.embedder.onnx_rewrite import rewrite

HIDDEN, INNER, HEADS = 8, 16, 2
IDS = np.array([[1, 2, 3, 4, 5], [5, 4, 3, 0, 0], [6, 0, 0, 0, 0]])
MASK = (IDS > 0).astype(np.int64)
FEED = {"input_ids": IDS, "attention_mask": MASK}
ATTENTION = [
    ("MatMul", "embedded query", "q"), ("MatMul", "embedded key", "k"), ("MatMul", "embedded value", "v"),
    ("Cast", "attention_mask", "mask"), ("MultiHeadAttention", "q k v biases mask", "attended"),
    ("MatMul", "attended out", "projected"), ("Add", "out_bias projected", "biased"),
]  # fmt: skip
REST = [
    ("Add", "biased embedded", "sum"), ("LayerNormalization", "sum scale shift", "normed"),
    ("MatMul", "normed up", "wide"), ("Add", "wide up_bias", "inner"), ("Sigmoid", "inner", "gate"),
    ("Mul", "inner gate", "silu"), ("MatMul", "silu down", "narrow"), ("Add", "narrow normed", "last"),
    ("Unsqueeze", "attention_mask axis", "unsqueezed"), ("Cast", "unsqueezed", "weights"),
    ("Mul", "last weights", "weighted"), ("ReduceSum", "weighted one", "pooled"),
]  # fmt: skip
FACTS: dict[str, dict[str, Any]] = {
    "mask": {"to": TensorProto.INT32}, "weights": {"to": TensorProto.FLOAT}, "pooled": {"keepdims": 0},
    "attended": {"num_heads": HEADS, "domain": "com.microsoft"},
}  # fmt: skip


def constants() -> dict[str, np.ndarray]:
    dice = np.random.default_rng(5)
    shapes = {
        "table": (7, HIDDEN), **dict.fromkeys(("query", "key", "value", "out"), (HIDDEN, HIDDEN)),
        "biases": (3 * HIDDEN,), "up": (HIDDEN, INNER), "down": (INNER, HIDDEN), "up_bias": (INNER,),
        **dict.fromkeys(("out_bias", "scale", "shift"), (HIDDEN,)),
    }  # fmt: skip
    random = {name: dice.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**random, "axis": np.array([2]), "one": np.array([1])}


def graph() -> onnx.ModelProto:
    """One layer of an encoder, with an activation that is not known by row and products with and without bias."""
    steps = [("Gather", "table input_ids", "embedded"), *ATTENTION, *REST]
    nodes = [helper.make_node(kind, given.split(), [made], **FACTS.get(made, {})) for kind, given, made in steps]
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in FEED]
    pooled = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["n", HIDDEN])
    weights = [numpy_helper.from_array(value, name) for name, value in constants().items()]
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(
        helper.make_graph(nodes, "layer", ids, [pooled], weights), opset_imports=opsets, ir_version=8
    )


def computed(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, FEED)[0])


@pytest.fixture
def rewritten() -> onnx.ModelProto:
    model = graph()
    rewrite(model)
    return model


def test_a_rewritten_graph_computes_the_same(rewritten: onnx.ModelProto) -> None:
    original = graph()
    original.ir_version = rewritten.ir_version
    np.testing.assert_allclose(computed(rewritten), computed(original), atol=1e-5)


def test_products_are_gemms_and_attention_is_that_of_onnx(rewritten: onnx.ModelProto) -> None:
    kinds = Counter(node.op_type for node in rewritten.graph.node)
    assert kinds["Gemm"] == 6
    assert kinds["Attention"] == 1
    assert not {"MatMul", "MultiHeadAttention"} & set(kinds)
    assert kinds["Add"] == 2  # the two sums of activations; biases are in the products


def test_nothing_is_left_that_is_not_used(rewritten: onnx.ModelProto) -> None:
    used = {name for node in rewritten.graph.node for name in node.input}
    made = {name for node in rewritten.graph.node for name in node.output}
    assert {one.name for one in rewritten.graph.initializer} <= used
    assert made <= used | {"pooled"}
    assert "biases" not in used
