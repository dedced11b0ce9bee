"""One epoch: steps are taken and timed, lines and checkpoints written, until its end or a stop."""

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kft import backend, models
from kft.batches import Plan
from kft.errors import KftError
from kft.progress import Track, bar
from kft.runs import RunDir
from kft.train.checkpoints import Position, append_history, save_checkpoint
from kft.train.schedule import WarmupDecay
from kft.train.trackers import Tracking

backend.select()

import keras  # noqa: E402


@dataclass(frozen=True)
class Course:
    """What the epochs of a run share.

    Attributes:
        schedule: gives the learning rate of a step without asking the model, which would copy its
            state off the device.
        loss_scale: turns the loss on standardised scores into one on scores as they are; else 1.
        tracking: where losses go besides the history.
    """

    run: RunDir
    plan: Plan
    schedule: WarmupDecay
    loss_scale: float
    epochs: int
    log_every_steps: int
    checkpoint_every_steps: int
    stop: threading.Event
    tracking: Tracking


@dataclass(frozen=True)
class Epoch:
    """What came of an epoch.

    Attributes:
        position: where the run stands now; before the epoch's end where a stop was asked for.
        train_loss: mean over a whole epoch, each example by its weight.
        input_wait_fraction: share of its time that steps waited for their batches.
    """

    position: Position
    train_loss: float
    input_wait_fraction: float


def run_epoch(
    model: models.Classifier,
    steps: Iterable[tuple],
    position: Position,
    course: Course,
    step_weights: np.ndarray,
    loss_state: list[np.ndarray] | None = None,
) -> Epoch:
    """Trains from a position to the end of its epoch, or until `course.stop` is set.

    Args:
        model: compiled.
        steps: the batches that are left of the epoch.
        position: where the run stands.
        course: of the run.
        step_weights: total weight of each step of the epoch, [S].
        loss_state: values of Keras's metrics, where the position is in the middle of an epoch.

    Raises:
        KftError: the loss is not finite, or there is no space for a checkpoint.
    """
    with bar(f"epoch {position.epoch + 1}/{course.epochs}", course.plan.steps, position.step) as track:
        watch = EpochWatch(course, position, step_weights, loss_state, track)
        model.fit(
            watch.timed(steps),
            steps_per_epoch=course.plan.steps - position.step,
            initial_epoch=position.epoch,
            epochs=position.epoch + 1,
            callbacks=[watch],
            verbose=0,
            shuffle=False,
        )
    return Epoch(watch.position, watch.train_loss, watch.waited / max(watch.last_time - watch.began, 1e-9))


class EpochWatch(keras.callbacks.Callback):
    """Keras's callback for one epoch; its arguments and attributes are those of `run_epoch`."""

    def __init__(
        self,
        course: Course,
        position: Position,
        step_weights: np.ndarray,
        loss_state: list[np.ndarray] | None,
        track: Track,
    ):
        super().__init__()
        self.weights_before = np.concatenate([[0.0], np.cumsum(step_weights)])  # of so many steps
        self.course, self.position, self.loss_state, self.track = course, position, loss_state, track
        self.began = self.last_time = time.monotonic()
        self.waited = 0.0
        self.last_step = position.step
        self.train_loss = float("nan")
        self.words = ""

    def timed(self, steps: Iterable[tuple]) -> Iterator[tuple]:
        """The batches, and how long each was waited for."""
        batches = iter(steps)
        while True:
            begin = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited += time.monotonic() - begin
            yield batch

    def on_epoch_begin(self, epoch, logs=None):
        # Keras has just set the running loss to zero; a resumed epoch goes on from its own.
        if self.loss_state is not None:
            for variable, value in zip(self.model.metrics_variables, self.loss_state, strict=True):
                variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        course, steps = self.course, self.course.plan.steps
        step = self.position.step + 1
        self.position = replace(self.position, step=step)
        # Reading a loss waits for the device, so only now and then.
        if step % course.log_every_steps == 0 or step == steps:
            self._log(float(logs["mean_loss"]) * course.loss_scale)
        self.track(step, self.words)
        if course.stop.is_set():
            self.model.stop_training = True
        elif step % course.checkpoint_every_steps == 0 and step < steps:
            save_checkpoint(self.model, course.run, self.position, course.plan)

    def _log(self, mean: float) -> None:
        """One line of history from the mean loss of the epoch so far."""
        plan, position, now = self.course.plan, self.position, time.monotonic()
        step, before = position.step, position.logged_step
        weight, weight_before = self.weights_before[step], self.weights_before[before]
        loss = mean * weight - position.logged_loss * weight_before  # of the steps since the line before
        loss = float(loss / (weight - weight_before)) if weight > weight_before else 0.0
        rate = (step - self.last_step) * plan.batch_size / max(now - self.last_time, 1e-9)
        done = plan.steps * position.epoch + step
        if not np.isfinite(mean):
            raise KftError(
                f"the loss is {mean} at step {done}",
                "lower train.learning_rate, or train in float32; the last checkpoint is kept",
            )
        line = {
            "event": "train",
            "step": done,
            "epoch": position.epoch + step / plan.steps,
            "loss": loss,
            "learning_rate": float(keras.ops.convert_to_numpy(self.course.schedule(done - 1))),
            "examples_per_second": rate,
        }
        append_history(self.course.run, line)
        values = {f"train/{key}": line[key] for key in ("loss", "learning_rate")}
        self.course.tracking.log(done, values)
        self.train_loss = mean
        self.position = replace(position, logged_step=step, logged_loss=mean)
        self.last_step, self.last_time = step, now
        self.words = f"loss {loss:.4f}, {rate:.{0 if rate >= 10 else 1}f} {plan.unit}/s"
