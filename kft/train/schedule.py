"""The learning rate of each update."""

import math

from kft import backend

backend.select()

import keras  # noqa: E402
from keras import ops  # noqa: E402


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear rise from 0 over the warm-up, then constant, or linear or half-cosine decay to 0.

    Equal at every update to transformers' get_constant_schedule_with_warmup,
    get_linear_schedule_with_warmup and get_cosine_schedule_with_warmup. Keras asks by the number
    of gradients, of which `gradients_per_update` make an update.
    """

    def __init__(
        self, peak: float, updates: int, warmup_updates: int, decay: str, gradients_per_update: int = 1
    ):
        super().__init__()
        self.peak, self.updates, self.warmup_updates, self.decay = peak, updates, warmup_updates, decay
        self.gradients_per_update = gradients_per_update

    def __call__(self, gradients):
        return self.of_update(gradients // self.gradients_per_update)

    def of_update(self, update):
        update = ops.cast(update, "float32")
        rise = update / max(self.warmup_updates, 1)
        after = (update - self.warmup_updates) / max(self.updates - self.warmup_updates, 1)  # 0 to 1
        fall = {
            "constant": lambda: ops.ones_like(update),
            "linear": lambda: ops.maximum(1 - after, 0.0),
            "cosine": lambda: ops.maximum(0.5 * (1 + ops.cos(math.pi * after)), 0.0),
        }[self.decay]()
        return self.peak * ops.where(update < self.warmup_updates, rise, fall)

    def get_config(self):
        return {
            "peak": self.peak,
            "updates": self.updates,
            "warmup_updates": self.warmup_updates,
            "decay": self.decay,
            "gradients_per_update": self.gradients_per_update,
        }


def schedule_of_run(
    steps: int,
    peak: float,
    decay: str = "constant",
    warmup_fraction: float = 0.0,
    gradients_per_update: int = 1,
) -> WarmupDecay:
    """The schedule of a run of `steps` steps; its warm-up is a share of updates, rounded up."""
    updates = -(-steps // gradients_per_update)
    return WarmupDecay(peak, updates, math.ceil(updates * warmup_fraction), decay, gradients_per_update)
