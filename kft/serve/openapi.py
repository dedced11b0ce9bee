"""The interface as an OpenAPI document, with the inputs and outputs of the model that is served."""

from typing import Any

from kft import __version__
from kft.serve.model import JSON, PREDICT, Model, Signature, Tensor, is_bare

_KINDS = {"string": "string", "float32": "number", "float64": "number", "bool": "boolean"}


def document(name: str, model: Model) -> dict[str, Any]:
    """OpenAPI 3.1 for a model under its name."""
    path = f"/v1/models/{name}"
    paths: dict[str, Any] = {
        f"{path}:predict": {"post": _predict(model)},
        path: {"get": _get("The state of each version", "model_version_status")},
        f"{path}/metadata": {"get": _get("Signatures with the types and shapes of their inputs and outputs", "metadata")},
        "/healthz": {"get": _get("200 while requests are answered, else 503; needs no token", "status")},
        "/metrics": {"get": {"summary": "Counters in Prometheus's text format", "responses": {"200": {"description": "text"}}}},
    }  # fmt: skip
    for signature in model.signatures.values():
        kind = signature.method.rpartition("/")[2]
        if signature.method != PREDICT:
            paths[f"{path}:{kind}"] = {"post": _examples(kind)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": str(model.version),
            "description": "TensorFlow Serving's REST interface. Each path also takes /versions/VERSION after the name.",
        },
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "x-kft-version": __version__,
    }


def _predict(model: Model) -> dict[str, Any]:
    signature = model.signatures["serving_default"]
    example = _example(signature)
    body = {
        "type": "object",
        "properties": {
            "signature_name": {
                "type": "string",
                "enum": list(model.signatures),
                "default": "serving_default",
            },
            "instances": {"type": "array", "items": _row(signature.inputs)},
            "inputs": {"description": "the same by columns", **_columns(signature.inputs)},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        "example": {"instances": [example]},
    }
    answer = {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": _row(signature.outputs)}},
    }
    return {
        "summary": "Answers for texts, in row form (instances → predictions) or column form (inputs → outputs)",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _responses(answer),
    }


def _examples(kind: str) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["examples"],
        "properties": {
            "signature_name": {"type": "string"},
            "context": {"type": "object", "description": "features that all examples share"},
            "examples": {"type": "array", "items": {"type": "object", "description": "feature name → value"}},
        },
    }
    item = {"type": "array"} if kind == "classify" else {"type": "number"}
    answer = {"type": "object", "properties": {"results": {"type": "array", "items": item}}}
    return {
        "summary": f"TensorFlow Serving's {kind} over features of examples",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _responses(answer),
    }


def _get(summary: str, field: str) -> dict[str, Any]:
    return {"summary": summary, "responses": _responses({"type": "object", "required": [field]})}


def _responses(answer: dict[str, Any]) -> dict[str, Any]:
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    return {
        "200": {"description": "the answer", "content": {"application/json": {"schema": answer}}},
        "default": {
            "description": "400 malformed, 401 no token, 404 no such model or version, 408 too slow, 413 too long, "
            "503 busy or stopping (Retry-After), 504 no answer in time",
            "content": {"application/json": {"schema": error}},
        },
    }


def _row(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The schema of a row: a bare value if there is one tensor, as in TensorFlow Serving."""
    rows = {name: _schema(tensor, tensor.shape[1:]) for name, tensor in tensors.items()}
    return next(iter(rows.values())) if is_bare(tensors) else {"type": "object", "properties": rows}


def _columns(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _schema(tensor, tensor.shape) for name, tensor in tensors.items()},
    }


def _schema(tensor: Tensor, shape: tuple) -> dict[str, Any]:
    if not shape and tensor.dtype == JSON:
        return tensor.schema
    if not shape:
        return {"type": _KINDS.get(tensor.dtype, "integer")}
    return {"type": "array", "items": _schema(tensor, shape[1:])}


def _example(signature: Signature) -> Any:
    texts = {name: f"a {name.replace('_', ' ')}" for name in signature.inputs}
    return next(iter(texts.values())) if len(texts) == 1 else texts
