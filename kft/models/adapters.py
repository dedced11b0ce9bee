"""What of an encoder trains and what it starts from: frozen and new layers, low-rank adapters."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from kft import backend
from kft.errors import KftError, did_you_mean
from kft.models.classifier import Classifier
from kft.models.families import Weight
from kft.models.low_rank import ALL, Factors, Lora, merge
from kft.models.weights import Weights

backend.select()

import keras  # noqa: E402
from keras import ops  # noqa: E402


class Adapter(keras.layers.Layer):
    """The low-rank adapter of one dense layer, its variables in float32 whatever layers compute in.

    It changes a product as `Weights.adapters` asks. Equal to peft's: A is drawn evenly from
    ±1 / sqrt(inputs) (Kaiming's with a = sqrt(5)) and B is 0, so that training starts from the
    dense layer as it is.

    Args:
        name: the checkpoint's name of the dense layer.
        kernel: its values [inputs, outputs].
        lora: how it is scaled.
        seed: of A.
    """

    def __init__(self, name: str, kernel: np.ndarray, lora: Lora, seed: int):
        super().__init__(name=name.replace(".", "_"), dtype="float32")
        self.dense_name, self.lora = name, lora
        inputs, outputs = kernel.shape
        bound = inputs**-0.5
        even = keras.initializers.RandomUniform(-bound, bound, seed=seed)
        self.a = self.add_weight(name="lora_a", shape=(inputs, lora.rank), initializer=even)
        self.b = self.add_weight(name="lora_b", shape=(lora.rank, outputs), initializer="zeros")
        self.magnitude = None
        if lora.dora:
            self.magnitude = self.add_weight(name="magnitude", shape=(outputs,))
            self.magnitude.assign(np.linalg.norm(kernel, axis=0))
        self.built = True

    def change(self, blocks, x, product, kernel):
        """The product [R, M, outputs] of x [R, M, inputs] with the adapted kernel."""
        dropped = blocks.drop(x, self.lora.dropout)
        a, b = (ops.cast(factor, x.dtype) for factor in (self.a, self.b))
        added = ops.matmul(ops.matmul(dropped, a), b) * ops.cast(self.lora.scale, x.dtype)
        if self.magnitude is None:
            return product + added
        base = product if dropped is x else ops.matmul(dropped, kernel)
        growth = ops.cast(self.magnitude / self._lengths(blocks), x.dtype)  # [outputs]
        return product + (growth - 1) * base + growth * added

    def _lengths(self, blocks):
        """Of the columns of the merged kernel, [outputs], without gradient (DoRA, section 4.3)."""
        kernel = blocks.weights.value(f"{self.dense_name}.weight", "float32")
        merged = kernel + ops.matmul(self.a, self.b) * self.lora.scale
        return ops.stop_gradient(ops.sqrt(ops.sum(ops.square(merged), axis=0)))

    def factors(self) -> Factors:
        values = (self.a, self.b, self.magnitude)
        arrays = (None if v is None else np.array(ops.convert_to_numpy(v.value)) for v in values)
        return Factors(*arrays)


def add_lora(model: Classifier, lora: Lora, seed: int) -> None:
    """Adds low-rank adapters to dense layers and fixes every other weight of the encoder.

    What stands above the layers trains on, as the head does.

    Raises:
        KftError: the family has no such target.
    """
    family, parts = model.architecture.kind, model.named.parts
    targets = tuple(family.adapters) if lora.targets == (ALL,) else lora.targets
    for target in targets:
        if target not in family.adapters:
            raise KftError(
                f"`model.lora_targets`: {family.name} has no {target!r}{did_you_mean(target, family.adapters)}",
                f"it has {', '.join(family.adapters)}",
            )
    encoder = family.weights(model.architecture.sizes)
    for name, part in parts.items():
        part.value.trainable = part.value.trainable and name not in encoder
    kernels = model.named.arrays()
    model.adapters = {
        name: Adapter(name, kernels[f"{name}.weight"], lora, seed * 1000 + i)
        for i, name in enumerate(family.adapted(targets, model.architecture.sizes))
    }
    model.named.adapters.update({name: adapter.change for name, adapter in model.adapters.items()})


def lora_of(model: Classifier) -> Lora | None:
    """How a model's adapters are scaled; None where it has none."""
    return next((adapter.lora for adapter in model.adapters.values()), None)


def factors_of(model: Classifier) -> dict[str, Factors]:
    """A model's adapters, by the names of their dense layers."""
    return {name: adapter.factors() for name, adapter in model.adapters.items()}


@contextmanager
def merged(model: Classifier) -> Iterator[None]:
    """The model's kernels with its adapters merged into them; as they were again afterwards."""
    factors, lora = factors_of(model), lora_of(model)
    arrays = model.named.arrays() if factors else {}
    # Copies: an array may be the variable's own memory.
    own = {f"{name}.weight": arrays[f"{name}.weight"].copy() for name in factors}
    try:
        model.named.assign(
            {f"{name}.weight": merge(own[f"{name}.weight"], factors[name], lora.scale) for name in factors}
        )
        yield
    finally:
        model.named.assign(own)


def reinitialise(model: Classifier, kept: int, seed: int) -> None:
    """Draws the layers above the lowest `kept` and the pooler anew (Zhang et al. 2021).

    "Revisiting Few-sample BERT Fine-tuning"; kernels come from a normal distribution of deviation
    0.02 cut at two, biases are 0, LayerNorm 1 and 0. A head that is new anyway is not counted.
    """
    architecture = model.architecture
    family = architecture.kind
    if kept == family.own_layers(architecture.sizes):
        return
    depths = {name: family.depth(name) for name in family.parts(model.backbone)}
    new = [name for name, depth in depths.items() if depth is None or depth > kept]
    draw(model.named, new, family.weights(architecture.sizes), seed)


def draw(named: Weights, names: list[str], table: dict[str, Weight], seed: int) -> None:
    """Draws some weights anew; those that the table lacks are of a pooler."""
    for i, name in enumerate(names):
        variable = named.parts[name].value
        kind = table[name].kind if name in table else "kernel" if name.endswith(".weight") else "bias"
        if kind == "kernel":
            value = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed * 1000 + i)(variable.shape)
        else:
            value = keras.ops.full(variable.shape, float(kind == "scale"))
        variable.assign(value)


def freeze(model: Classifier, layers: int) -> None:
    """The embeddings and the lowest layers keep their weights."""
    for name, part in model.named.parts.items():
        depth = model.architecture.kind.depth(name)
        if layers and depth is not None and depth <= layers:
            part.value.trainable = False
