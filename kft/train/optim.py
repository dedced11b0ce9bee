"""Optimizer, learning-rate schedule, weight-decay mask and clipping."""

import math
from typing import Any

from kft import backend
from kft.train import controls, optax_bridge

backend.select()

import keras  # noqa: E402
from keras import ops  # noqa: E402

DECAY_FREE = (
    "bias",
    "gamma",
    "beta",
)  # names of the variables that weight decay spares: biases and LayerNorm


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear rise from 0 over the warm-up steps, then constant, or linear or half-cosine decay to 0.

    Equal at every step to transformers' get_constant_schedule_with_warmup, get_linear_schedule_with_warmup and
    get_cosine_schedule_with_warmup. The steps are updates: with accumulation Keras asks by the number of gradients, of
    which `gradients_per_step` make an update.
    """

    def __init__(self, peak: float, steps: int, warmup_steps: int, decay: str, gradients_per_step: int = 1):
        super().__init__()
        self.peak, self.steps, self.warmup_steps, self.decay = peak, steps, warmup_steps, decay
        self.gradients_per_step = gradients_per_step

    def __call__(self, gradients):
        return self.of_update(gradients // self.gradients_per_step)

    def of_update(self, step):
        step = ops.cast(step, "float32")
        rise = step / max(self.warmup_steps, 1)
        after = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)  # 0 to 1 over the decay
        fall = {
            "constant": lambda: ops.ones_like(step),
            "linear": lambda: ops.maximum(1 - after, 0.0),
            "cosine": lambda: ops.maximum(0.5 * (1 + ops.cos(math.pi * after)), 0.0),
        }[self.decay]()
        return self.peak * ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self):
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "gradients_per_step": self.gradients_per_step,
        }


def build(
    name: str,
    *,
    learning_rate: float,
    steps: int,
    schedule: str = "constant",
    warmup_fraction: float = 0.0,
    weight_decay: float | None = None,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    nesterov: bool = False,
    gradient_clip_norm: float | None = None,
    gradient_accumulation_steps: int = 1,
    rates: dict[int, float] | None = None,
    thaws: dict[int, int] | None = None,
    ema_momentum: float | None = None,
    optax: dict[str, Any] | None = None,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer for a run of `steps` steps.

    The schedule counts updates: with accumulation there are `steps // gradient_accumulation_steps`. Weight decay is
    decoupled (Loshchilov and Hutter 2019) and spares biases and LayerNorm; it is 0.01 for adamw when not given.
    `rates` are of `controls.decayed_rates`, `thaws` of `controls.thaw_updates`; `ema_momentum` averages the weights for
    `controls.averaged`. The name "optax:lion" stands for optax's optimizer with the settings `optax`.

    Raises:
        KftError: optax does not take the value of a setting (when the optimizer is built).
    """
    updates = max(steps // gradient_accumulation_steps, 1)
    warmup = math.ceil(updates * warmup_fraction)
    rate = WarmupDecay(learning_rate, updates, warmup, schedule, gradient_accumulation_steps)
    common = {
        "learning_rate": rate,
        "global_clipnorm": gradient_clip_norm or None,
        "gradient_accumulation_steps": gradient_accumulation_steps
        if gradient_accumulation_steps > 1
        else None,
    }
    if ema_momentum is not None:
        common |= {"use_ema": True, "ema_momentum": ema_momentum}

    def kind(plain: type) -> type:
        plainly = rates is None and thaws is None and ema_momentum is None
        return plain if plainly else controls.controlled(plain, rates or {}, thaws)

    if name.startswith("optax:"):
        optimizer = kind(optax_bridge.Optax)(
            name.removeprefix("optax:"), optax or {}, weight_decay, rate.of_update, rates or {}, **common
        )
        optimizer.exclude_from_weight_decay(var_names=list(DECAY_FREE))
        return optimizer
    decay = (0.01 if name == "adamw" else 0.0) if weight_decay is None else weight_decay
    adam = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    optimizer = {
        "adam": lambda: kind(keras.optimizers.Adam)(**adam, **common, weight_decay=decay or None),
        "adamw": lambda: kind(keras.optimizers.AdamW)(**adam, **common, weight_decay=decay),
        "sgd": lambda: kind(keras.optimizers.SGD)(
            momentum=momentum, nesterov=nesterov, **common, weight_decay=decay or None
        ),
    }[name]()
    if decay:
        optimizer.exclude_from_weight_decay(var_names=list(DECAY_FREE))
    return optimizer
