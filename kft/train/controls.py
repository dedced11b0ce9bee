"""Training controls: learning rates by depth, gradual unfreezing, averaged weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kft import backend

backend.select()

import keras  # noqa: E402

MOST_UPDATES = 2**31 - 1  # that a step counts, in 32 bits


@dataclass(frozen=True)
class Controls:
    """What an optimizer does otherwise from variable to variable, and what it keeps besides.

    Attributes:
        rates: {id of a variable: factor of its learning rate}, of `decayed_rates`.
        thaws: {id of a variable: number of updates before its first}, of `thaw_updates`.
        ema_momentum: averages the weights for `averaged`.
    """

    rates: dict[int, float] | None = None
    thaws: dict[int, int] | None = None
    ema_momentum: float | None = None


NONE = Controls()


def layer_groups(model) -> list[list[keras.Variable]]:
    """The variables that train, from the embeddings up; the pooler goes with the head."""
    family = model.architecture.kind
    depth, layers = family.depth, family.own_layers(model.architecture.sizes)
    depths = {id(v): depth(name) for name, part in model.named.parts.items() for v in part.layer.variables}
    depths |= {id(v): depth(name) for name, adapter in model.adapters.items() for v in adapter.variables}
    groups = [[] for _ in range(layers + 2)]
    for variable in model.trainable_variables:
        place = depths[id(variable)]
        groups[-1 if place is None else place].append(variable)
    return groups


def decayed_rates(model, decay: float) -> dict[int, float]:
    """{id of a variable: rate's factor}: head 1, top layer decay, …, embeddings decay ** (L + 1).

    As in BEiT (Bao et al. 2021), where the classifier's own depth counts as none.
    """
    groups = layer_groups(model)
    return {id(v): decay ** (len(groups) - 1 - i) for i, group in enumerate(groups) for v in group}


def thaw_updates(model, every: float) -> dict[int, int]:
    """{id of a variable: updates before its first}, as in ULMFiT (Howard and Ruder 2018).

    The head has none before it; each layer below waits for `every` more updates, rounded, the
    embeddings longest.
    """
    groups = layer_groups(model)
    waits = [min(round((len(groups) - 1 - i) * every), MOST_UPDATES) for i in range(len(groups))]
    return {id(v): wait for wait, group in zip(waits, groups, strict=True) for v in group}


def controlled(kind: type, varied: Controls) -> type:
    """A Keras optimizer class whose steps and decoupled decay are scaled for each variable.

    Until its update in `thaws`, a variable keeps its value and its moments are 0,
    its gradient does not count in the norm that clipping sees, and Adam's bias correction starts
    with its first update: as if it joined the optimizer then. All in one compiled step, which
    therefore takes as long with frozen layers as without.

    Averages that the class keeps stay in the optimizer: Keras would put them in place of the
    weights after each `fit`, and the next epoch would start from them. `averaged` shows them.
    """
    rates, thaws = varied.rates or {}, varied.thaws or {}

    class Controlled(kind):
        before = 0  # updates before the first one of the variable at hand

        @property
        def iterations(self):
            if not self.before:
                return super().iterations
            return keras.ops.maximum(super().iterations - self.before, 0)

        def rate(self, variable):
            """Factor of the variable's learning rate; 0 while it is frozen."""
            rate, before = rates.get(id(variable), 1.0), thaws.get(id(variable), 0)
            return keras.ops.where(self.iterations >= before, rate, 0.0) if before else rate

        def apply(self, grads, trainable_variables=None):
            variables = trainable_variables or self._trainable_variables
            grads = [
                keras.ops.where(self.iterations >= thaws[id(v)], g, keras.ops.zeros_like(g))
                if g is not None and thaws.get(id(v))
                else g
                for g, v in zip(grads, variables, strict=True)
            ]
            return super().apply(grads, trainable_variables)

        def update_step(self, gradient, variable, learning_rate):
            learning_rate = learning_rate * self.rate(variable)
            self.before = thaws.get(id(variable), 0)
            super().update_step(gradient, variable, learning_rate)
            self.before = 0

        def _apply_weight_decay(self, variables):
            for variable in variables if self.weight_decay is not None else ():
                if self._use_weight_decay(variable):
                    rate = self.learning_rate * self.rate(variable)
                    variable.assign(variable - variable * self.weight_decay * rate)

        def finalize_variable_values(self, var_list):
            pass

    return Controlled


@contextmanager
def averaged(model) -> Iterator[None]:
    """The model with its averaged weights, if its optimizer keeps any; its own afterwards."""
    optimizer = model.optimizer
    if not optimizer.use_ema:
        yield
        return
    variables = optimizer._trainable_variables
    own = [keras.ops.convert_to_numpy(v.value).copy() for v in variables]
    for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
        variable.assign(keras.ops.convert_to_numpy(average.value).copy())  # a step donates the buffers
    try:
        yield
    finally:
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)
