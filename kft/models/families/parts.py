"""Where layers of Keras hold the weights of a checkpoint."""

from math import prod
from typing import Any

from kft.models.families.record import Part


def table_part(name: str, layer: Any, attribute: str = "embeddings") -> dict[str, Part]:
    return {f"{name}.weight": Part(layer, attribute, tuple(getattr(layer, attribute).shape))}


def dense_parts(name: str, layer: Any) -> dict[str, Part]:
    """Of a Dense or EinsumDense; its bias says how many last dimensions are outputs."""
    shape = tuple(layer.kernel.shape)
    outputs = shape[-1:] if layer.bias is None else tuple(layer.bias.shape)
    inputs = shape[: -len(outputs)]
    kernel = {f"{name}.weight": Part(layer, "kernel", (prod(inputs), prod(outputs)))}
    return kernel if layer.bias is None else kernel | {f"{name}.bias": Part(layer, "bias", (prod(outputs),))}


def norm_parts(name: str, layer: Any) -> dict[str, Part]:
    width = tuple(layer.gamma.shape)
    scale = {f"{name}.weight": Part(layer, "gamma", width)}
    return scale if layer.beta is None else scale | {f"{name}.bias": Part(layer, "beta", width)}


def held_parts(holder: Any) -> dict[str, Part]:
    """Of a `models.holder.Holder`, which is made of the checkpoint's own names."""
    return {
        f"{layer.prefix}.{part}": Part(layer, part, tuple(getattr(layer, part).shape))
        for layer in holder.modules
        for part in layer.parts
    }
