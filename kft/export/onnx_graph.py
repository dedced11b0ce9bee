"""A model as an ONNX graph over a run's weights, with free batch and length.

Letters: N examples, T tokens, M read places, H hidden units, A heads, D = H / A, C classes. Names
of inputs as in Hugging Face's exports, so that their programs run it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kft import __version__
from kft.models import heads
from kft.models.architecture import Architecture
from kft.models.families import Family
from kft.tasks import TASKS

OPSET = 20  # the first with Gelu


def inputs(family: Family) -> tuple[str, ...]:
    """Names of the graph's inputs, int64 [N, T]."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return names if family.segments else names[:2]


def save(architecture: Architecture, weights: dict[str, np.ndarray], file: Path) -> None:
    """Writes the graph: `inputs` → `logits` float32 [N, C], or of every token [N, T, C]."""
    import onnx  # optional

    blocks = OnnxBlocks(onnx, architecture, weights)
    given = {
        "token_ids": "input_ids",
        "segment_ids": "token_type_ids",
        "positions": blocks.positions("input_ids"),
        "example_ids": blocks.node("Cast", "attention_mask", to=onnx.TensorProto.FLOAT),
    }
    every_token = TASKS[architecture.task].export.every_token
    logits = heads.logits(blocks, architecture, given, None if every_token else blocks.integers(0))
    if every_token:
        blocks.node("Identity", logits, name="logits")
    else:
        blocks.node("Squeeze", logits, blocks.integers(1), name="logits")
    integers, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    names = inputs(architecture.kind)
    shape = ["batch", *(["length"] if every_token else []), architecture.outputs]
    graph = onnx.helper.make_graph(
        blocks.nodes,
        "classifier",
        [onnx.helper.make_tensor_value_info(name, integers, ["batch", "length"]) for name in names],
        [onnx.helper.make_tensor_value_info("logits", floats, shape)],
        list(blocks.arrays.values()),
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=9,  # of that opset's time, so that older runtimes read it
        producer_name="kft",
        producer_version=__version__,
    )
    onnx.checker.check_model(model)
    onnx.save(model, file)


class OnnxBlocks:
    """The machine, see `blocks`: tensors are names of results; nodes and constants gather."""

    def __init__(self, onnx: Any, architecture: Architecture, weights: dict[str, np.ndarray]):
        self.onnx, self.weights = onnx, weights
        self.sizes, self.encoding = architecture.sizes, architecture.encoding
        self.nodes: list[Any] = []
        self.arrays: dict[str, Any] = {}

    def node(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, value: np.ndarray, name: str) -> str:
        if name not in self.arrays:
            self.arrays[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(np.float32(value), f"number_{value}")

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64), "integers_" + "_".join(map(str, values)))

    def weight(self, name: str) -> str:
        return self.constant(self.weights[name], name)

    def positions(self, ids: str) -> str:
        """0, 1, … for the tokens of a row: [1, T]."""
        length = self.node("Squeeze", self.node("Shape", ids, start=1, end=2), self.integers(0))
        zero, one = (self.constant(np.int64(value), f"integer_{value}") for value in (0, 1))
        return self.node("Unsqueeze", self.node("Range", zero, length, one), self.integers(0))

    def embed(self, name: str, ids: str) -> str:
        return self.node("Gather", self.weight(f"{name}.weight"), ids)

    def compute(self, x: str) -> str:
        return x

    full = compute

    def drop(self, x: str, rate: float) -> str:
        return x

    def add(self, x: str, y: str) -> str:
        return self.node("Add", x, y)

    def multiply(self, x: str, y: str) -> str:
        return self.node("Mul", x, y)

    def scale(self, x: str, number: float) -> str:
        return self.node("Mul", x, self.number(number))

    def dense(self, name: str, x: str) -> str:
        product = self.node("MatMul", x, self.weight(f"{name}.weight"))
        return self.node("Add", product, *self.bias(name)) if self.bias(name) else product

    def bias(self, name: str) -> tuple[str, ...]:
        """That of a layer, where it has one."""
        return (self.weight(f"{name}.bias"),) if f"{name}.bias" in self.weights else ()

    def norm(self, name: str, x: str) -> str:
        weights = (self.weight(f"{name}.weight"), *self.bias(name))
        return self.node("LayerNormalization", x, *weights, axis=-1, epsilon=self.encoding.epsilon)

    def activate(self, x: str, kind: str) -> str:
        return _ACTIVATIONS[kind](self, x)

    def split_heads(self, x: str) -> str:
        heads = self.sizes.num_heads
        split = self.integers(0, 0, heads, self.sizes.hidden_size // heads)
        return self.node("Transpose", self.node("Reshape", x, split), perm=[0, 2, 1, 3])

    def merge_heads(self, x: str) -> str:
        joined = self.integers(0, 0, self.sizes.hidden_size)
        return self.node("Reshape", self.node("Transpose", x, perm=[0, 2, 1, 3]), joined)

    def visible(self, example_ids: str, places: str | None = None, reach: int | None = None) -> str:
        """0 where a token is, else -1e9, for all: [N, 1, 1, T]; within a reach [N, 1, M, T]."""
        absent = self.node("Sub", self.number(1.0), example_ids)
        hidden = self.node("Mul", self.node("Unsqueeze", absent, self.integers(1, 2)), self.number(-1e9))
        if reach is None:
            return hidden
        apart = self.node("Abs", self.distances(example_ids, places))
        far = self.node("Cast", self.node("Greater", apart, self.integers(reach)), to=1)
        return self.node("Add", hidden, self.node("Mul", far, self.number(-1e9)))

    def attend(
        self,
        query: str,
        key: str,
        value: str,
        visible: str,
        bias: str | None = None,
        scale: float | None = None,
    ) -> str:
        size = self.sizes.hidden_size // self.sizes.num_heads
        factor = self.number(size**-0.5 if scale is None else scale)
        scores = self.node("Mul", self.products(query, key), factor)  # [N, A, M, T]
        scores = scores if bias is None else self.node("Add", scores, bias)
        weights = self.node("Softmax", self.node("Add", scores, visible), axis=-1)
        return self.node("MatMul", weights, value)

    def table(self, name: str) -> str:
        return self.node("Unsqueeze", self.weight(f"{name}.weight"), self.integers(0))

    def distances(self, ids: str, places: str | None = None) -> str:
        """[1, M, T]"""
        place = self.positions(ids)
        looking = place if places is None else self.node("Unsqueeze", places, self.integers(0))
        return self.node("Sub", self.node("Unsqueeze", looking, self.integers(2)), place)

    def bucket(self, distances: str, numbers: np.ndarray) -> str:
        farthest = self.integers(len(numbers) // 2)
        index = self.node("Min", self.node("Max", distances, self.node("Neg", farthest)), farthest)
        table = self.constant(np.asarray(numbers, np.int64), f"buckets_{len(numbers)}")
        return self.node("Gather", table, self.node("Add", index, farthest))

    def products(self, x: str, y: str) -> str:
        return self.node("MatMul", x, self.turn(y))

    def pick(self, x: str, buckets: str) -> str:
        leading = self.node("Shape", x, end=3)
        shape = self.node("Concat", leading, self.node("Shape", buckets, start=2), axis=0)
        index = self.node("Expand", self.node("Unsqueeze", buckets, self.integers(1)), shape)
        return self.node("GatherElements", x, index, axis=-1)

    def turn(self, x: str) -> str:
        return self.node("Transpose", x, perm=[0, 1, 3, 2])

    def flip(self, distances: str) -> str:
        return self.node("Transpose", distances, perm=[0, 2, 1])

    def heads_first(self, x: str) -> str:
        return self.node("Transpose", x, perm=[0, 3, 1, 2])

    def rotate(self, x: str, positions: str, rates: Any) -> str:
        rates = np.array(rates, np.float32)
        turns = self.node("Unsqueeze", self.node("Cast", positions, to=1), self.integers(1, 3))
        angles = self.node("Mul", turns, self.constant(rates, f"rates_{rates.tobytes().hex()}"))
        cos, sin = self.node("Cos", angles), self.node("Sin", angles)
        first, second = self.split(x, 2)
        one = self.node("Sub", self.multiply(first, cos), self.multiply(second, sin))
        two = self.add(self.multiply(second, cos), self.multiply(first, sin))
        return self.node("Concat", one, two, axis=-1)

    def split(self, x: str, count: int) -> list[str]:
        names = [f"Split_{len(self.nodes)}_{i}" for i in range(count)]
        node = self.onnx.helper.make_node("Split", [x], names, name=names[0], axis=-1, num_outputs=count)
        self.nodes.append(node)
        return names

    def take(self, x: str, places: str) -> str:
        return self.node("Gather", x, places, axis=1)

    def at_places(self, numbers: str, places: str | None) -> str:
        return numbers if places is None else self.take(numbers, places)

    def mean(self, x: str, example_ids: str, places: str) -> str:
        """The same for every place: [N, 1, H]."""
        weight, axis = self.node("Unsqueeze", example_ids, self.integers(2)), self.integers(1)
        total = self.node("ReduceSum", self.node("Mul", x, weight), axis, keepdims=1)
        count = self.node("ReduceSum", weight, axis, keepdims=1)
        return self.node("Div", total, self.node("Max", count, self.number(1.0)))


_ACTIVATIONS = {
    "gelu_exact": lambda graph, x: graph.node("Gelu", x),
    "gelu_tanh": lambda graph, x: graph.node("Gelu", x, approximate="tanh"),
    "relu": lambda graph, x: graph.node("Relu", x),
    "silu": lambda graph, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    "tanh": lambda graph, x: graph.node("Tanh", x),
}
