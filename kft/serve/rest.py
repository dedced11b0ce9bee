"""JSON bodies ↔ arrays, as in TensorFlow Serving's RESTful API.

Described in tensorflow.org/tfx/serving/api_rest.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kft.serve import model as models
from kft.serve.model import Model, Signature, Tensor
from kft.serve.refusal import bad

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Call:
    """What a request asks for.

    Attributes:
        signature: name of the signature to call.
        columns: input name → array [count, …].
        count: rows.
        answer: outputs of the signature → the JSON object to answer with.
    """

    signature: str
    columns: Columns
    count: int
    answer: Callable[[Columns], dict[str, Any]]


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        Refused: 400, it is not UTF-8, not JSON, or no object.
    """
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise bad(f"JSON Parse error: not UTF-8 at offset: {error.start}") from None
    except json.JSONDecodeError as error:
        raise bad(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except (RecursionError, ValueError):  # lists in lists in lists …; a number of thousands of digits
        raise bad("JSON Parse error: too deep, or a number too long") from None
    if not isinstance(value, dict):
        raise bad("the body must be a JSON object")
    return value


def predict(body: Mapping[str, Any], model: Model) -> Call:
    """A `:predict` request, in row form ("instances") or column form ("inputs").

    Raises:
        Refused: 400.
    """
    name, signature = _signature(body, model, "serving_default")
    if ("instances" in body) == ("inputs" in body):
        both = "instances" in body
        raise bad(
            "Both 'inputs' and 'instances' are given" if both else "Missing 'inputs' or 'instances' key"
        )
    rows = "instances" in body
    given = _columns_of_rows(body["instances"], signature) if rows else _named(body["inputs"], signature)
    columns = {key: _array(key, given[key], spec) for key, spec in signature.inputs.items()}
    sizes = {len(column) for column in columns.values()}
    if len(sizes) > 1:
        raise bad(f"the inputs differ in their number of rows: {', '.join(map(str, sorted(sizes)))}")
    count = sizes.pop()
    if not count:
        raise bad(f"'{'instances' if rows else 'inputs'}' is empty")
    answer, bare = _rows_answer if rows else _columns_answer, models.is_bare(signature.outputs)
    return Call(name, columns, count, lambda outputs: answer(outputs, bare))


def classify(body: Mapping[str, Any], model: Model) -> Call:
    """A `:classify` request: features of examples → label and score pairs.

    Raises:
        Refused: 400.
    """
    return _examples(body, model, models.CLASSIFY, _classify_answer)


def regress(body: Mapping[str, Any], model: Model) -> Call:
    """A `:regress` request: features of examples → values.

    Raises:
        Refused: 400.
    """
    return _examples(
        body, model, models.REGRESS, lambda outputs: _results(_plain("outputs", outputs["outputs"]))
    )


def _examples(body: Mapping[str, Any], model: Model, method: str, answer: Callable) -> Call:
    kind = method.rpartition("/")[2]
    default = next((name for name, s in model.signatures.items() if s.method == method), None)
    if default is None and "signature_name" not in body:
        raise bad(f"the model has no signature for :{kind}")
    name, signature = _signature(body, model, default)
    if signature.method != method:
        raise bad(f"Expected {kind} signature method_name to be {method}. Was: {signature.method}")
    examples, context = body.get("examples"), body.get("context", {})
    if not isinstance(examples, list) or not examples:
        raise bad("'examples' must be a list of at least one object")
    serialized = np.empty(len(examples), object)
    for i, features in enumerate(examples):
        if not isinstance(features, dict) or not isinstance(context, dict):
            raise bad("each of 'examples' and 'context' must be an object of features")
        for feature in (*features, *context):
            _bytes("the name of a feature", feature)  # half of a surrogate pair cannot be one
        if set(features) & set(context):
            raise bad("a feature stands both in 'context' and in an example")
        serialized[i] = models.example({k: _feature(k, v) for k, v in (context | features).items()})
    return Call(name, {next(iter(signature.inputs)): serialized}, len(examples), answer)


def _signature(body: Mapping[str, Any], model: Model, default: str | None) -> tuple[str, Signature]:
    name = body.get("signature_name", default)
    if not isinstance(name, str):
        raise bad("'signature_name' must be a string")
    name = name or "serving_default"
    if name not in model.signatures:
        raise bad(f'Serving signature name: "{name}" not found in signature def')
    return name, model.signatures[name]


def _columns_of_rows(rows: Any, signature: Signature) -> dict[str, list]:
    if not isinstance(rows, list):
        raise bad("'instances' must be a list")
    if not any(_is_object(row) for row in rows):
        return {_only(signature): rows}
    names = set(signature.inputs)
    for i, row in enumerate(rows):
        if not _is_object(row) or set(row) != names:
            raise bad(f"instance {i} must be an object of {_listed(signature)}")
    return {name: [row[name] for row in rows] for name in names}


def _named(value: Any, signature: Signature) -> dict[str, Any]:
    if not _is_object(value):
        return {_only(signature): value}
    if set(value) != set(signature.inputs):
        raise bad(f"'inputs' must be an object of {_listed(signature)}")
    return value


def _only(signature: Signature) -> str:
    if len(signature.inputs) > 1:
        raise bad(f"the signature has several inputs: name each of {_listed(signature)}")
    return next(iter(signature.inputs))


def _listed(signature: Signature) -> str:
    return ", ".join(f"'{name}'" for name in sorted(signature.inputs))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and set(value) != {"b64"}


def _array(name: str, value: Any, spec: Tensor) -> np.ndarray:
    """Nested lists → an array of the input's type and rank."""
    shape: list[int] = []
    level = value
    for size in spec.shape:
        if not isinstance(level, list):
            raise bad(f"'{name}' must have {len(spec.shape)} dimensions")
        if size not in (None, len(level)):
            raise bad(f"'{name}' must have the shape {list(spec.shape)}")
        shape.append(len(level))
        level = level[0] if level else []
    flat = _flat(name, value, shape)
    if spec.dtype == "string":
        array = np.empty(len(flat), object)
        array[:] = [_bytes(name, item) for item in flat]
    else:
        array = _numbers(name, flat, np.dtype(spec.dtype))
    return array.reshape(shape)


def _flat(name: str, value: Any, shape: list[int]) -> list:
    if not shape:
        return [value]
    if not isinstance(value, list) or len(value) != shape[0]:
        raise bad(f"'{name}' must be rectangular: lists of one length at each level")
    if len(shape) == 1:
        return value
    return [item for part in value for item in _flat(name, part, shape[1:])]


def _bytes(name: str, item: Any) -> bytes:
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError:
            raise bad(f"'{name}' holds half of a surrogate pair, which is not Unicode text") from None
    if isinstance(item, dict) and set(item) == {"b64"} and isinstance(item["b64"], str):
        try:
            return base64.b64decode(item["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise bad(f"'{name}' holds a b64 value that is not Base64") from None
    raise bad(f"'{name}' must hold strings, got: {_kind(item)}")


def _numbers(name: str, flat: list, dtype: np.dtype) -> np.ndarray:
    whole = dtype.kind in "iu"
    wrong = next(
        (x for x in flat if isinstance(x, bool) or not isinstance(x, int if whole else (int, float))), None
    )
    if wrong is not None or None in flat:
        raise bad(f"'{name}' must hold {'whole ' if whole else ''}numbers, got: {_kind(wrong)}")
    try:
        return np.array(flat, dtype)
    except OverflowError:
        raise bad(f"'{name}' holds a number that {dtype.name} cannot") from None


def _feature(name: str, value: Any) -> list:
    values = value if isinstance(value, list) else [value]
    if all(isinstance(item, (str, dict)) for item in values):
        return [_bytes(name, item) for item in values]
    if not all(isinstance(item, (int, float)) for item in values):
        raise bad(f"feature '{name}' must hold strings alone or numbers alone")
    if any(isinstance(item, float) for item in values):
        return [float(item) for item in values]
    if any(not -(2**63) <= item < 2**63 for item in values):
        raise bad(f"feature '{name}' holds a number that int64 cannot")
    return [int(item) for item in values]  # true is 1, as in TensorFlow Serving


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _rows_answer(outputs: Columns, bare: bool) -> dict[str, Any]:
    columns = {name: _plain(name, values) for name, values in outputs.items()}
    if bare:
        return {"predictions": next(iter(columns.values()))}
    return {
        "predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    }


def _columns_answer(outputs: Columns, bare: bool) -> dict[str, Any]:
    columns = {name: _plain(name, values) for name, values in outputs.items()}
    return {"outputs": next(iter(columns.values())) if bare else columns}


def _classify_answer(outputs: Columns) -> dict[str, Any]:
    names, scores = _plain("classes", outputs["classes"]), _plain("scores", outputs["scores"])
    return _results(
        [[list(pair) for pair in zip(*row, strict=True)] for row in zip(names, scores, strict=True)]
    )


def _results(values: list) -> dict[str, Any]:
    """Both "results", which TensorFlow Serving writes, and "result", which its manual says."""
    return {"results": values, "result": values}


def _plain(name: str, values: np.ndarray) -> list:
    """An array → nested lists; strings as text, or as Base64 where the name ends with `_bytes`.

    Objects that the server made stay.
    """
    if values.dtype != object or not any(isinstance(value, bytes) for value in values.flat):
        return values.tolist()
    write = _base64 if name.endswith("_bytes") else lambda value: value.decode("utf-8", "replace")
    return np.vectorize(write, otypes=[object])(values).tolist() if values.size else values.tolist()


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


METHODS: dict[str, Callable[[Mapping[str, Any], Model], Call]] = {
    "predict": predict,
    "classify": classify,
    "regress": regress,
}
