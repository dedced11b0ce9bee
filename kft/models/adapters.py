"""What of an encoder trains and what it starts from: frozen and new layers, low-rank adapters."""

from dataclasses import dataclass

from kft import backend
from kft.models.classifier import Classifier

backend.select()

import keras  # noqa: E402


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021): the rank, alpha (the product is scaled by alpha / rank), and the kernels that
    have one, by the keys of `Family.adapters`.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = ("query", "value")


def add_lora(model: Classifier, lora: Lora, seed: int) -> None:
    """Adds low-rank adapters to kernels of each layer and fixes every other weight of the encoder.

    Keras's own: A of shape [*kernel.shape[:-1], rank] and B [rank, kernel.shape[-1]], so the queries, keys and values of
    each head have an A of their own. What stands above the layers trains on, as the head does.
    """
    family, parts = model.architecture.kind, model.named.parts
    for name, part in parts.items():
        part.value.trainable = family.depth(name) is None
    names = family.adapted(lora.targets, model.architecture.sizes)
    for i, name in enumerate(names):
        initializer = keras.initializers.HeUniform(seed=seed * 1000 + i)
        layer = parts[f"{name}.weight"].layer
        layer.enable_lora(lora.rank, lora_alpha=lora.alpha, a_initializer=initializer)


def reinitialise(model: Classifier, kept: int, seed: int) -> None:
    """Draws the layers above the lowest `kept` and the pooler anew, as BERT's own start (Zhang et al. 2021).

    "Revisiting Few-sample BERT Fine-tuning"; kernels come from a normal distribution of deviation 0.02 cut at two, biases
    are 0, LayerNorm 1 and 0. A head that is new anyway is not counted.
    """
    architecture = model.architecture
    if kept == architecture.sizes.num_layers:
        return
    depths = {name: architecture.kind.depth(name) for name in architecture.kind.hub.parts(model.backbone)}
    new = [model.named.parts[name] for name, depth in depths.items() if depth is None or depth > kept]
    for i, part in enumerate(new):
        variable = part.value
        if part.attribute == "kernel":
            value = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed * 1000 + i)(variable.shape)
        else:
            value = keras.ops.full(variable.shape, float(part.attribute == "gamma"))
        variable.assign(value)


def freeze(model: Classifier, layers: int) -> None:
    """The embeddings and the lowest layers keep their weights."""
    for name, part in model.named.parts.items():
        depth = model.architecture.kind.depth(name)
        if layers and depth is not None and depth <= layers:
            part.value.trainable = False
