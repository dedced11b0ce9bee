"""BERT as an ONNX graph over a run's weights, with free batch and length.

Letters: N examples, T tokens, H hidden units, A heads, D = H / A, C classes. Names of inputs as in Hugging Face's
exports, so that their programs run it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kft import __version__
from kft.models import Architecture

OPSET = 20  # the first with Gelu
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def save(architecture: Architecture, weights: dict[str, np.ndarray], file: Path) -> None:
    """Writes the graph: int64 [N, T] three times → `logits` float32 [N, C]."""
    import onnx  # optional

    graph = _Graph(onnx, weights)
    _model(graph, architecture)
    integers, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        graph.nodes,
        "classifier",
        [onnx.helper.make_tensor_value_info(name, integers, ["batch", "length"]) for name in _INPUTS],
        [onnx.helper.make_tensor_value_info("logits", floats, ["batch", architecture.outputs])],
        list(graph.arrays.values()),
    )
    model = onnx.helper.make_model(
        made,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=9,  # of that opset's time, so that older runtimes read it
        producer_name="kft",
        producer_version=__version__,
    )
    onnx.checker.check_model(model)
    onnx.save(model, file)


class _Graph:
    """Nodes and constants as they come; every method returns the name of its result."""

    def __init__(self, onnx: Any, weights: dict[str, np.ndarray]):
        self.onnx = onnx
        self.weights = weights
        self.nodes: list[Any] = []
        self.arrays: dict[str, Any] = {}

    def __call__(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, value: np.ndarray, name: str | None = None) -> str:
        name = name or f"constant_{len(self.arrays)}"
        if name not in self.arrays:
            self.arrays[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64), "integers_" + "_".join(map(str, values)))

    def weight(self, name: str) -> str:
        return self.constant(self.weights[name], name)

    def dense(self, name: str, x: str, output: str | None = None) -> str:
        product = self("MatMul", x, self.weight(f"{name}.weight"))
        return self("Add", product, self.weight(f"{name}.bias"), name=output)

    def norm(self, name: str, x: str, epsilon: float) -> str:
        scale, offset = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self("LayerNormalization", x, scale, offset, axis=-1, epsilon=epsilon)


def _model(graph: _Graph, architecture: Architecture) -> None:
    hidden = _embed(graph, architecture.encoding.epsilon)
    # 0 where a token is, -1e9 elsewhere: [N, 1, 1, T]
    mask = graph("Cast", "attention_mask", to=graph.onnx.TensorProto.FLOAT)
    absent = graph("Sub", graph.constant(np.float32(1), "one"), mask)
    bias = graph(
        "Mul", graph("Unsqueeze", absent, graph.integers(1, 2)), graph.constant(np.float32(-1e9), "far")
    )
    last = architecture.backbone["num_layers"] - 1
    for i in range(last):
        hidden = _layer(graph, architecture, i, hidden, hidden, bias)
    if architecture.pooling == "mean":
        hidden = _layer(graph, architecture, last, hidden, hidden, bias)
        pooled = _mean(graph, hidden, mask)
    else:
        zero, one = graph.integers(0), graph.integers(1)
        first = graph("Slice", hidden, zero, one, one)  # [N, 1, H]
        first = graph("Squeeze", _layer(graph, architecture, last, first, hidden, bias), one)
        pooled = graph("Tanh", graph.dense("pooler.dense", first))
    graph.dense("classifier", pooled, output="logits")


def _embed(graph: _Graph, epsilon: float) -> str:
    words, positions, kinds = (
        graph.weight(f"embeddings.{name}_embeddings.weight") for name in ("word", "position", "token_type")
    )
    length = graph("Shape", "input_ids", start=1, end=2)
    here = graph("Slice", positions, graph.integers(0), length, graph.integers(0))  # [T, H]
    x = graph("Add", graph("Gather", words, "input_ids"), here)
    x = graph("Add", x, graph("Gather", kinds, "token_type_ids"))
    return graph.norm("embeddings.LayerNorm", x, epsilon)


def _layer(graph: _Graph, architecture: Architecture, i: int, x: str, context: str, bias: str) -> str:
    """One layer for the tokens x, which attend to context."""
    at, epsilon, heads = (
        f"encoder.layer.{i}",
        architecture.encoding.epsilon,
        architecture.backbone["num_heads"],
    )
    size = architecture.backbone["hidden_dim"] // heads
    split, joined = graph.integers(0, 0, heads, size), graph.integers(0, 0, heads * size)

    def project(name: str, tokens: str, perm: list[int]) -> str:
        made = graph("Reshape", graph.dense(f"{at}.attention.self.{name}", tokens), split)
        return graph("Transpose", made, perm=perm)

    query = project("query", x, [0, 2, 1, 3])  # [N, A, Q, D]
    key = project("key", context, [0, 2, 3, 1])  # [N, A, D, T]
    value = project("value", context, [0, 2, 1, 3])
    scores = graph("Mul", graph("MatMul", query, key), graph.constant(np.float32(size**-0.5), "scale"))
    weights = graph("Softmax", graph("Add", scores, bias), axis=-1)
    attended = graph("Transpose", graph("MatMul", weights, value), perm=[0, 2, 1, 3])
    attended = graph.dense(f"{at}.attention.output.dense", graph("Reshape", attended, joined))
    x = graph.norm(f"{at}.attention.output.LayerNorm", graph("Add", x, attended), epsilon)
    inner = _ACTIVATIONS[architecture.encoding.activation](graph, graph.dense(f"{at}.intermediate.dense", x))
    return graph.norm(
        f"{at}.output.LayerNorm", graph("Add", x, graph.dense(f"{at}.output.dense", inner)), epsilon
    )


def _mean(graph: _Graph, hidden: str, mask: str) -> str:
    weight = graph("Unsqueeze", mask, graph.integers(2))
    axis = graph.integers(1)
    total = graph("ReduceSum", graph("Mul", hidden, weight), axis, keepdims=0)
    count = graph("Max", graph("ReduceSum", weight, axis, keepdims=0), graph.constant(np.float32(1), "one"))
    return graph("Div", total, count)


_ACTIVATIONS = {
    "gelu_exact": lambda graph, x: graph("Gelu", x),
    "gelu_tanh": lambda graph, x: graph("Gelu", x, approximate="tanh"),
    "relu": lambda graph, x: graph("Relu", x),
    "silu": lambda graph, x: graph("Mul", x, graph("Sigmoid", x)),
}
