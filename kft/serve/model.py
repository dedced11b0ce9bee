"""Loads a SavedModel, where there is TensorFlow but no Keras or JAX, and calls its signatures."""

import functools
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kft import backend
from kft.errors import KftError
from kft.later import Later
from kft.serve.texts import Texts

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))
tasks = Later("kft.serve.answers")  # with polars, which other models do not need
TOKENS = "answers_of_tokens"  # the signature of a model whose tokenizer lies beside it
JSON = "json"  # the "type" of outputs that are objects, which only the server makes
_OF_EXAMPLES = (  # (signature over serialized examples, its method, its output → that of TOKENS)
    ("classify", CLASSIFY, {"classes": "labels", "scores": "probabilities"}),
    ("regress", REGRESS, {"outputs": "value"}),
)
_WARM_UP_ROWS = (1, 8, 1)


class BadInput(Exception):
    """The model refuses the tensors: too long, out of range, not what was serialized."""


@dataclass(frozen=True)
class Tensor:
    """What a signature takes or gives.

    Attributes:
        dtype: TensorFlow's name of the type, or JSON.
        shape: with None where it is free.
        schema: of JSON, what the objects are.
    """

    dtype: str
    shape: tuple[int | None, ...]
    schema: Any = None


def is_bare(tensors: dict[str, Tensor]) -> bool:
    """Whether a row is its value alone, as of TensorFlow Serving's lone tensors.

    What a task says keeps its name.
    """
    return len(tensors) == 1 and all(tensor.dtype != JSON for tensor in tensors.values())


@dataclass(frozen=True)
class Signature:
    """One way to call a model; `method` is TensorFlow Serving's name of the kind of call."""

    method: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    function: Any


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded version: signatures, what `metadata` answers, and the owner of the variables."""

    version: int
    signatures: dict[str, Signature]
    metadata: dict[str, Any]
    loaded: Any

    def call(self, signature: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One call: input name → array [N, …] → output name → array [N, …].

        Raises:
            BadInput: the model does not take these tensors.
        """
        tf = tensorflow()
        known = self.signatures[signature]
        tensors = {name: tf.constant(column, known.inputs[name].dtype) for name, column in columns.items()}
        try:
            outputs = known.function(**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise BadInput(_reason(error.message)) from None
        return {name: np.asarray(outputs[name]) for name in sorted(outputs)}  # loading keeps no order


def load(folder: Path) -> Model:
    """The model of a version's folder, ready: its first calls, which are slow, are done."""
    tf = tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    described = proto.meta_graphs[0].signature_def
    loaded = tf.saved_model.load(str(folder))
    signatures = {
        name: _signature(function, described[name].method_name)
        for name, function in loaded.signatures.items()
    }
    if "serving_default" not in signatures:
        if TOKENS in signatures:
            added = _of_texts(Texts(folder), signatures[TOKENS])
        else:
            content = json.loads((folder / "export.json").read_text("utf-8"))
            added = _of_task(tasks.Answers(folder, content), signatures["tokens"])
        _describe(added, described)
        signatures |= added
    model = Model(int(folder.name), signatures, _metadata(described), loaded)
    _warm_up(model)
    return model


@functools.cache
def tensorflow() -> ModuleType:
    """The module tensorflow, with the operations of tensorflow-text for exported tokenizers."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _hidden(
        "keras", "tf_keras", "jax"
    ):  # TensorFlow imports them where it finds them: seconds and memory
        with backend.without_stderr():
            import tensorflow as tf

        text = Path(importlib.util.find_spec("tensorflow_text").origin).parent
        tf.load_op_library(str(next(text.rglob("_fast_wordpiece_tokenizer.so"))))
    tf.get_logger().setLevel("ERROR")
    return tf


def example(features: Mapping[str, list]) -> bytes:
    """A serialized `tf.train.Example`; a feature's values are all bytes, all int or all float."""
    tensorflow()
    from tensorflow.core.example import example_pb2

    result = example_pb2.Example()
    for name, values in features.items():
        feature = result.features.feature[name]
        kinds = {bytes: feature.bytes_list, int: feature.int64_list, float: feature.float_list}
        kinds[type(values[0]) if values else bytes].value.extend(values)
    return result.SerializeToString()


def _of_texts(texts: Texts, tokens: Signature) -> dict[str, Signature]:
    """The signatures that take raw texts elsewhere, of a model whose tokenizer lies beside it."""
    tf = tensorflow()

    def answer(**columns: Any) -> dict[str, Any]:
        ids = texts.token_ids({name: column.numpy() for name, column in columns.items()})
        return tokens.function(**{name: tf.constant(ids[name]) for name in tokens.inputs})

    inputs = {name: Tensor("string", (None,)) for name in texts.names}
    signatures = {"serving_default": Signature(PREDICT, inputs, tokens.outputs, answer)}
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in texts.names}
    for name, method, names in _OF_EXAMPLES:
        if set(names.values()) <= set(tokens.outputs) and tokens.outputs.keys() & {"label", "value"}:

            def of_examples(inputs: Any, names: dict[str, str] = names) -> dict[str, Any]:
                outputs = answer(**tf.io.parse_example(inputs, features))
                return {new: outputs[old] for new, old in names.items()}

            outputs = {new: tokens.outputs[old] for new, old in names.items()}
            signatures[name] = Signature(method, {"inputs": Tensor("string", (None,))}, outputs, of_examples)
    return signatures


def _of_task(answers: Any, tokens: Signature) -> dict[str, Signature]:
    """The signature that takes raw texts, of a model that gives the logits of each token.

    Args:
        answers: `kft.serve.answers.Answers` of the version.
        tokens: its signature of token ids.
    """
    tf = tensorflow()

    def compute(ids: dict[str, np.ndarray]) -> np.ndarray:
        return tokens.function(**{name: tf.constant(ids[name]) for name in tokens.inputs})["logits"].numpy()

    def answer(**columns: Any) -> dict[str, Any]:
        try:
            return answers.answer({name: column.numpy() for name, column in columns.items()}, compute)
        except KftError as error:
            raise BadInput(error.message) from None

    inputs = {name: Tensor("string", (None,)) for name in answers.names}
    outputs = {name: Tensor(JSON, (None,), schema) for name, schema in answers.fields.items()}
    return {"serving_default": Signature(PREDICT, inputs, outputs, answer)}


def _describe(signatures: Mapping[str, Signature], described: Any) -> None:
    """Adds signatures to those that a SavedModel's file describes."""
    tf = tensorflow()
    for name, signature in signatures.items():
        entry = described[name]
        entry.method_name = signature.method
        for side, tensors in ((entry.inputs, signature.inputs), (entry.outputs, signature.outputs)):
            for key, tensor in tensors.items():
                dtype = "variant" if tensor.dtype == JSON else tensor.dtype
                side[key].dtype = tf.as_dtype(dtype).as_datatype_enum
                side[key].tensor_shape.CopyFrom(tf.TensorShape(tensor.shape).as_proto())
                side[key].name = f"{name}_{key}:0"


def _signature(function: Any, method: str) -> Signature:
    inputs = function.structured_input_signature[1]
    return Signature(method, _tensors(inputs), _tensors(function.structured_outputs), function)


def _tensors(specs: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: Tensor(spec.dtype.name, tuple(spec.shape)) for name, spec in sorted(specs.items())}


def _metadata(described: Mapping[str, Any]) -> dict[str, Any]:
    """The signatures as TensorFlow Serving's `metadata` describes them."""
    from google.protobuf import json_format

    return {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in described.items()
    }


def _warm_up(model: Model) -> None:
    for name, signature in model.signatures.items():
        if (
            signature.method != PREDICT
        ):  # its inputs are serialized examples, and it computes what another does
            continue
        for rows in _WARM_UP_ROWS:
            shapes = {k: (rows, *(size or 2 for size in t.shape[1:])) for k, t in signature.inputs.items()}
            model.call(
                name,
                {
                    k: np.full(shapes[k], b"warm up", object)
                    if t.dtype == "string"
                    else np.ones(shapes[k], t.dtype)
                    for k, t in signature.inputs.items()
                },
            )


def _reason(message: str) -> str:
    """What TensorFlow says is wrong, not where in the graph: the last line before a node's name."""
    return (message.partition("\n\t [[{{node")[0].strip().splitlines() or [""])[-1]


@contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Python does not find these packages meanwhile, unless they are loaded already."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
