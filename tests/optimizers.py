"""Optimizers of kft for tests, from options by name."""

from kft.train import controls, optim
from kft.train.schedule import schedule_of_run


def build_optimizer(name: str, *, learning_rate: float, steps: int, **options):
    """`optim.build`, by default with a constant rate; `options` are fields of its records."""

    def present(*names: str) -> dict:
        return {key: options.pop(key) for key in names if key in options}

    timing = present("warmup_fraction", "gradients_per_update")
    schedule = schedule_of_run(steps, learning_rate, options.pop("schedule", "constant"), **timing)
    clip_norm = options.pop("clip_norm", None)
    varied = controls.Controls(**present("rates", "thaws", "ema_momentum"))
    return optim.build(optim.Rule(name, **options), schedule, clip_norm, varied)
