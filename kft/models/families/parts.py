"""Where layers of Keras hold the weights of a checkpoint."""

from math import prod
from typing import Any

from kft.models.families.record import Part


def table_part(name: str, layer: Any, attribute: str = "embeddings") -> dict[str, Part]:
    return {f"{name}.weight": Part(layer, attribute, tuple(getattr(layer, attribute).shape))}


def dense_parts(name: str, layer: Any) -> dict[str, Part]:
    """Of a Dense or EinsumDense; its bias says how many last dimensions are outputs."""
    outputs = tuple(layer.bias.shape)
    inputs = tuple(layer.kernel.shape)[: -len(outputs)]
    return {
        f"{name}.weight": Part(layer, "kernel", (prod(inputs), prod(outputs))),
        f"{name}.bias": Part(layer, "bias", (prod(outputs),)),
    }


def norm_parts(name: str, layer: Any) -> dict[str, Part]:
    width = tuple(layer.gamma.shape)
    return {f"{name}.weight": Part(layer, "gamma", width), f"{name}.bias": Part(layer, "beta", width)}
