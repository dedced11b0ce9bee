"""optax's optimizers as Keras's, their state in Keras variables, which checkpoints hold."""

from dataclasses import dataclass
from typing import Any

from kft import backend
from kft.config import optax_names
from kft.errors import KftError

backend.select()

import keras  # noqa: E402


@dataclass(frozen=True)
class Rule:
    """A name of `optax_names.optimizers`, such as "lion", and the arguments of that function.

    The weight decay is another argument of it, where given; a mask makes it spare what
    `exclude_from_weight_decay` names.
    """

    kind: str
    settings: dict[str, Any]
    weight_decay: float | None = None


class Optax(keras.optimizers.Optimizer):
    """Updates weights as an optax optimizer does, from gradients Keras has clipped. JAX only.

    Args:
        rule: optax's optimizer and its settings.
        schedule: number of updates so far → learning rate; optax counts them itself.
        rates: {id of a variable: factor of its updates}; 1 for others.
        common: arguments of Keras's optimizers, such as `global_clipnorm` and `use_ema`.
    """

    def __init__(self, rule: Rule, schedule, rates: dict[int, float], **common):
        super().__init__(**common)
        self.kind, self.schedule, self.rates = rule.kind, schedule, rates
        decay = {"weight_decay": rule.weight_decay} if rule.weight_decay is not None else {}
        accepted = optax_names.takes(rule.kind)
        self.settings = rule.settings | {k: v for k, v in decay.items() if k in accepted}

    def build(self, variables):
        """Raises KftError: optax does not take the value of a setting."""
        import jax

        if self.built:
            return
        super().build(variables)
        decays = [self._use_weight_decay(v) for v in variables]
        masks = {key: lambda _: decays for key in optax_names.masks(self.kind)}
        weights = [v.value for v in variables]
        try:
            optimizer = optax_names.optimizers()[self.kind](
                learning_rate=self.schedule, **self.settings, **masks
            )
            state = optimizer.init(weights)
            jax.eval_shape(optimizer.update, weights, state, weights)
        except (TypeError, ValueError, AttributeError) as error:
            settings = ", ".join(f"{key} = {value!r}" for key, value in self.settings.items())
            raise KftError(
                f"`train.optax`: optax:{self.kind} does not take {settings}: {str(error).strip().splitlines()[0]}",
                f"what each means: https://optax.readthedocs.io, optax.{self.kind}",
            ) from error
        leaves, structure = jax.tree.flatten(state)
        self.state = [
            self.add_variable(leaf.shape, dtype=str(leaf.dtype), name=f"optax_{i}")
            for i, leaf in enumerate(leaves)
        ]
        for variable, leaf in zip(self.state, leaves, strict=True):
            variable.assign(leaf)

        def update(gradients, values, weights):
            updates, new = optimizer.update(gradients, jax.tree.unflatten(structure, values), weights)
            return updates, jax.tree.leaves(new)

        self.update = update

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        weights = [v.value for v in trainable_variables]
        updates, values = self.update(list(grads), [v.value for v in self.state], weights)
        for variable, change in zip(trainable_variables, updates, strict=True):
            variable.assign(variable.value + change * self.rates.get(id(variable), 1.0))
        for variable, value in zip(self.state, values, strict=True):
            variable.assign(value)
