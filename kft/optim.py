"""Optimizer, learning-rate schedule, weight-decay mask and clipping."""

import math

from kft import backend, controls

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
    get_cosine_schedule_with_warmup.
    """

    def __init__(self, peak: float, steps: int, warmup_steps: int, decay: str):
        super().__init__()
        self.peak, self.steps, self.warmup_steps, self.decay = peak, steps, warmup_steps, decay

    def __call__(self, step):
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
    ema_momentum: float | None = None,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer for a run of `steps` steps.

    The schedule counts updates: with accumulation there are `steps // gradient_accumulation_steps`. Weight decay is
    decoupled (Loshchilov and Hutter 2019) and spares biases and LayerNorm; it is 0.01 for adamw when not given.
    `rates` are of `controls.decayed_rates`; `ema_momentum` averages the weights for `controls.averaged`.
    """
    updates = max(steps // gradient_accumulation_steps, 1)
    common = {
        "learning_rate": WarmupDecay(learning_rate, updates, math.ceil(updates * warmup_fraction), schedule),
        "weight_decay": (0.01 if name == "adamw" else 0.0) if weight_decay is None else weight_decay,
        "global_clipnorm": gradient_clip_norm or None,
        "gradient_accumulation_steps": gradient_accumulation_steps
        if gradient_accumulation_steps > 1
        else None,
    }
    common["weight_decay"] = common["weight_decay"] or None

    def kind(plain: type) -> type:
        return plain if rates is None and ema_momentum is None else controls.controlled(plain, rates or {})

    if ema_momentum is not None:
        common |= {"use_ema": True, "ema_momentum": ema_momentum}
    adam = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    optimizer = {
        "adam": lambda: kind(keras.optimizers.Adam)(**adam, **common),
        "adamw": lambda: kind(keras.optimizers.AdamW)(
            **adam, **(common | {"weight_decay": common["weight_decay"] or 0.0})
        ),
        "sgd": lambda: kind(keras.optimizers.SGD)(momentum=momentum, nesterov=nesterov, **common),
    }[name]()
    if common["weight_decay"]:
        optimizer.exclude_from_weight_decay(var_names=list(DECAY_FREE))
    return optimizer
