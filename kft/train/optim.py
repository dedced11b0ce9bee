"""Update rule, weight-decay mask and clipping → a Keras optimizer."""

from dataclasses import dataclass
from typing import Any

from kft import backend
from kft.train import controls, optax_bridge
from kft.train.schedule import WarmupDecay

backend.select()

import keras  # noqa: E402

# Names of the variables that weight decay spares: biases, LayerNorm, and the lengths that DoRA
# trains.
DECAY_FREE = ("bias", "gamma", "beta", "magnitude")


@dataclass(frozen=True)
class Rule:
    """What an optimizer does with a gradient.

    Attributes:
        name: "adam", "adamw", "sgd", or one of optax's, such as "optax:lion".
        weight_decay: decoupled (Loshchilov and Hutter 2019); where not given 0.01 for adamw,
            optax's own for its optimizers, else 0. It spares biases and LayerNorm.
        beta_1, beta_2, epsilon: of adam and adamw.
        momentum, nesterov: of sgd.
        optax: settings of optax's optimizer.
    """

    name: str
    weight_decay: float | None = None
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.0
    nesterov: bool = False
    optax: dict[str, Any] | None = None


def build(
    rule: Rule,
    schedule: WarmupDecay,
    clip_norm: float | None = None,
    varied: controls.Controls = controls.NONE,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer that makes an update of each `schedule.gradients_per_update` gradients.

    Args:
        rule: what it does with a gradient.
        schedule: learning rate of each update.
        clip_norm: largest global norm of a gradient; None or 0 turns clipping off.
        varied: what differs from variable to variable.

    Raises:
        KftError: optax does not take the value of a setting (when the optimizer is built).
    """
    accumulated = schedule.gradients_per_update
    common = {
        "learning_rate": schedule,
        "global_clipnorm": clip_norm or None,
        "gradient_accumulation_steps": accumulated if accumulated > 1 else None,
    }
    if varied.ema_momentum is not None:
        common |= {"use_ema": True, "ema_momentum": varied.ema_momentum}

    def kind(plain: type) -> type:
        return plain if varied == controls.NONE else controls.controlled(plain, varied)

    if rule.name.startswith("optax:"):
        update = optax_bridge.Rule(rule.name.removeprefix("optax:"), rule.optax or {}, rule.weight_decay)
        optimizer = kind(optax_bridge.Optax)(update, schedule.of_update, varied.rates or {}, **common)
        optimizer.exclude_from_weight_decay(var_names=list(DECAY_FREE))
        return optimizer
    decay = (0.01 if rule.name == "adamw" else 0.0) if rule.weight_decay is None else rule.weight_decay
    adam = {"beta_1": rule.beta_1, "beta_2": rule.beta_2, "epsilon": rule.epsilon}
    sgd = {"momentum": rule.momentum, "nesterov": rule.nesterov}
    optimizer = {
        "adam": lambda: kind(keras.optimizers.Adam)(**adam, **common, weight_decay=decay or None),
        "adamw": lambda: kind(keras.optimizers.AdamW)(**adam, **common, weight_decay=decay),
        "sgd": lambda: kind(keras.optimizers.SGD)(**sgd, **common, weight_decay=decay or None),
    }[rule.name]()
    if decay:
        optimizer.exclude_from_weight_decay(var_names=list(DECAY_FREE))
    return optimizer
