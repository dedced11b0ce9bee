"""What each step counts in its update, so that its loss is Σ weight · loss / Σ weight.

Keras averages the gradients of the A steps of an update, each of the mean loss of its step. With
`W` for a total weight, the mean of shares · means is the mean over the update, whatever its steps
hold:

    steps        W 6, loss 0.5      W 2, loss 0.9          A = 2, W of the update 8
    shares       2 · 6 / 8 = 1.5    2 · 2 / 8 = 0.5
    update       (1.5 · 0.5 + 0.5 · 0.9) / 2  =  (6 · 0.5 + 2 · 0.9) / 8
"""

import numpy as np

from kft import backend, batches, models
from kft.train.schedule import WarmupDecay

backend.select()

import keras  # noqa: E402


def shares(plan: batches.Plan, weights: np.ndarray, epoch: int, epochs: int, accumulated: int) -> np.ndarray:
    """The share of each step of an epoch in its update, float32 [S]; 0 in an update without weight.

    Args:
        plan: of the run.
        weights: [N], of each example in the loss.
        epoch: from 0.
        epochs: of the run; updates reach from one epoch into the next.
        accumulated: A, steps of an update; the last one of the run may have fewer.
    """
    first, end = plan.steps * epoch, plan.steps * (epoch + 1)
    begin = first - first % accumulated
    end = min(end - end % -accumulated, plan.steps * epochs)
    touched = range(begin // plan.steps, -(-end // plan.steps))
    of_steps = np.concatenate([batches.step_weights(plan, weights, e) for e in touched])
    numbers = plan.steps * touched.start + np.arange(len(of_steps))
    update = numbers // accumulated - numbers[0] // accumulated
    of_updates = np.bincount(update, of_steps)[update]
    result = np.divide(accumulated * of_steps, of_updates, out=np.zeros(len(of_steps)), where=of_updates > 0)
    offset = first - numbers[0]
    return result[offset : offset + plan.steps].astype(np.float32)


def complete_last(model: models.Classifier, schedule: WarmupDecay, steps: int) -> None:
    """Ends a run's last update with gradients of 0 for the steps that it lacks."""
    optimizer, variables = model.optimizer, model.trainable_variables
    for _ in range(-steps % schedule.gradients_per_update):
        nothing = [keras.ops.zeros_like(v.value) for v in variables]
        if backend.select() != "jax":
            optimizer.apply(nothing, variables)
            continue
        state = [v.value for v in optimizer.variables]
        changed = optimizer.stateless_apply(state, nothing, [v.value for v in variables])
        for variable, value in zip(
            (*variables, *optimizer.variables), sum(map(list, changed), []), strict=True
        ):
            variable.assign(value)
