"""What happens while an epoch runs: it is told and timed, checkpoints are written, and it stops when asked to."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from kft import backend, batches
from kft.config import Config
from kft.errors import KftError
from kft.progress import bar
from kft.runs import RunDir
from kft.train.checkpoints import Position, append_history, save_checkpoint

backend.select()

import keras  # noqa: E402


class Recorder(keras.callbacks.Callback):
    """Tells how an epoch goes, writes history and checkpoints, and stops when asked to.

    `schedule` tells the learning rate after so many steps: asking the model for it would copy its state off the device.
    `loss_scale` turns the loss on standardised scores into one on scores as they are (1 for classes).
    `running_loss` holds the values of Keras's loss metric in the checkpoint that the run goes on from.
    """

    def __init__(
        self, run: RunDir, config: Config, plan: batches.Plan, schedule, loss_scale, stop, running_loss
    ):
        super().__init__()
        self.run, self.config, self.plan, self.stop = run, config, plan, stop
        self.schedule, self.loss_scale = schedule, loss_scale
        self.running_loss = running_loss
        self.summaries = backend.tensorflow().summary.create_file_writer(str(run.logs))
        self.train_loss = float("nan")  # of the epoch that ended last
        self.words = ""

    @contextmanager
    def epoch(self, at: Position) -> Iterator[None]:
        self.at = at
        self.began = time.monotonic()
        with bar(f"epoch {at.epoch + 1}/{self.config.train.epochs}", self.plan.steps, at.step) as self.track:
            yield

    def timed(self, steps: Iterator[tuple]) -> Iterator[tuple]:
        """The same steps; how long each was waited for is kept."""
        self.waited = 0.0
        while True:
            asked = time.monotonic()
            batch = next(steps, None)
            if batch is None:
                return
            self.waited += time.monotonic() - asked
            yield batch

    @property
    def input_wait_fraction(self) -> float:
        """Share of the epoch's time that its steps waited for their batches."""
        return self.waited / max(self.logged[2] - self.began, 1e-9)

    def on_epoch_begin(self, epoch, logs=None):
        # Keras has just set the running loss to zero; a resumed epoch goes on from its own.
        mean = 0.0
        if self.running_loss is not None:
            for variable, value in zip(self.model.metrics_variables, self.running_loss, strict=True):
                variable.assign(value)
            total, count = (float(v) for v in self.running_loss)
            mean = total / count * self.loss_scale if count else 0.0
            self.running_loss = None
        self.logged = (self.at.step, mean, self.began)

    def on_train_batch_end(self, batch, logs=None):
        steps, train = self.plan.steps, self.config.train
        self.at = replace(self.at, step=self.at.step + 1)
        step = self.at.step
        # Reading a loss waits for the device, so only now and then; the last two tell the last step's own loss.
        if step % train.log_every_steps == 0 or step in (steps - 1, steps):
            self._log(float(logs["loss"]) * self.loss_scale)
        self.track(step, self.words)
        if self.stop.is_set():
            self.model.stop_training = True
        elif step % train.checkpoint_every_steps == 0 and step < steps:
            save_checkpoint(self.model, self.run, self.at, self.plan)

    def _log(self, mean: float) -> None:
        """One line of history from the mean loss of the epoch's steps so far."""
        step, now = self.at.step, time.monotonic()
        last_step, last_mean, last_time = self.logged
        taken = step - last_step
        loss = (mean * step - last_mean * last_step) / taken
        rate = taken * self.plan.batch_size / max(now - last_time, 1e-9)
        done = self.plan.steps * self.at.epoch + step
        learning_rate = float(keras.ops.convert_to_numpy(self.schedule(done - 1)))
        if not np.isfinite(loss):
            raise KftError(
                f"the loss is {loss} at step {done}",
                "lower train.learning_rate, or train in float32; the last checkpoint is kept",
            )
        if step == self.plan.steps:  # this loss is the last step's alone, which may hold fewer examples
            examples = self.plan.units
            full = last_step * self.plan.batch_size
            self.train_loss = (last_mean * full + loss * (examples - full)) / examples
        line = {
            "event": "train",
            "step": done,
            "epoch": self.at.epoch + step / self.plan.steps,
            "loss": loss,
            "learning_rate": learning_rate,
            "examples_per_second": rate,
        }
        append_history(self.run, line)
        _summarise(self.summaries, done, {"train/" + key: line[key] for key in ("loss", "learning_rate")})
        self.logged = (step, mean, now)
        self.words = f"loss {loss:.4f}, {rate:.{0 if rate >= 10 else 1}f} {self.plan.unit}/s"


def _summarise(writer, step: int, values: dict[str, float]) -> None:
    """For TensorBoard."""
    tf = backend.tensorflow()
    with writer.as_default(step):
        for name, value in values.items():
            tf.summary.scalar(name, value)
