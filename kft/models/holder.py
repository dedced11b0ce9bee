"""A family's weights where KerasHub has no class: a small layer for each of the checkpoint's."""

from kft import backend
from kft.models.families import Weight

backend.select()

import keras  # noqa: E402


class Held(keras.layers.Layer):
    """The weights of one layer, as attributes "weight" and, where it has one, "bias".

    Attributes:
        prefix: the checkpoint's name of the layer.
        parts: the names of those attributes.
    """

    def __init__(self, prefix: str, table: dict[str, Weight], precision: str):
        policy = keras.dtype_policies.DTypePolicy(precision)
        super().__init__(name=prefix.replace(".", "_"), dtype=policy)
        self.prefix, self.parts = prefix, tuple(table)
        for part, weight in table.items():
            setattr(self, part, self.add_weight(name=part, shape=weight.shape, initializer="zeros"))
        self.built = True


class Holder(keras.layers.Layer):
    """All weights of an encoder, zero until the caller sets them.

    `families.parts.held_parts` names them.

    Args:
        table: {name: Weight}, of `Family.weights`.
        precision: "float32" or "mixed_bfloat16", which the encoder computes in.
    """

    def __init__(self, table: dict[str, Weight], precision: str):
        super().__init__(name="encoder", dtype=keras.dtype_policies.DTypePolicy(precision))
        layers: dict[str, dict[str, Weight]] = {}
        for name, weight in table.items():
            prefix, _, part = name.rpartition(".")
            layers.setdefault(prefix, {})[part] = weight
        self.modules = [Held(prefix, parts, precision) for prefix, parts in layers.items()]
        self.built = True
