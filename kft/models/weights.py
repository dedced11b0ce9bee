"""The weights of a Keras model by the checkpoint's names."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kft import backend
from kft.models.families import Part

backend.select()

import keras  # noqa: E402


@dataclass(frozen=True, eq=False)
class Weights:
    """Where each weight of a model is.

    Attributes:
        parts: name → its place. A kernel is [inputs, outputs], however the layer holds it.
        adapters: name of a dense layer → what changes its product: a function (blocks, x [R, M,
            inputs], product x · kernel [R, M, outputs], kernel [inputs, outputs]) → the product to
            which the bias is added. A low-rank adapter gives product + x · A · B * scale;
            `blocks.drop` drops x. Put one in before the model is first called.
    """

    parts: dict[str, Part]
    adapters: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def value(self, name: str, dtype: str | None = None) -> Any:
        """A weight as a tensor of one or two dimensions, in its own type or in `dtype`."""
        part = self.parts[name]
        value = part.value
        if tuple(value.shape) != part.shape:
            value = keras.ops.reshape(value, part.shape)
        return value if dtype is None else keras.ops.cast(value, dtype)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every weight, float32."""
        return {
            name: np.asarray(keras.ops.convert_to_numpy(part.value), np.float32).reshape(part.shape)
            for name, part in self.parts.items()
        }

    def assign(self, arrays: dict[str, np.ndarray]) -> None:
        """Puts values in the place of some weights."""
        for name, array in arrays.items():
            value = self.parts[name].value
            value.assign(np.reshape(array, value.shape))
