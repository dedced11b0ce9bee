"""One config → one run directory."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kft import backend, batches, evaluate, metrics, models, report, runs
from kft import config as configs
from kft.config import Config, TrainConfig
from kft.errors import KftError
from kft.progress import at_once, gently, note, stop_signals
from kft.runs import RunDir
from kft.tasks import TASKS
from kft.train import controls, memory, trackers, updates
from kft.train.account import describe, plan_account, write_inputs
from kft.train.checkpoints import (
    Position,
    append_history,
    best_adapters,
    best_weights,
    cut_history,
    drop_checkpoints,
    restore,
    save_checkpoint,
)
from kft.train.epoch import Course, Epoch, run_epoch
from kft.train.preparing import Prepared, prepare, prepare_data, steps_of_epoch
from kft.train.same import check_same_data, check_same_tokens
from kft.train.validation import Validation, validation_of

backend.select()


class Stopped(Exception):  # noqa: N818 (it is not an error)
    """Training was asked to stop (SIGTERM or SIGINT) and has saved a checkpoint."""

    def __init__(self, run: RunDir):
        super().__init__(f"stopped; go on with: kft train --resume {run.path}")
        self.run = run


@dataclass(frozen=True)
class Control:
    """How another program leads a training.

    Attributes:
        stop: asks for a stop when set; without it SIGTERM and SIGINT do.
        after_epoch: called with the run after each line of evaluation in its history; what it
            raises ends the training.
        score_test: whether the test split is scored at the end.
        goes_on_from: finished run that this one trains further, and whose splits it must have.
    """

    stop: threading.Event | None = None
    after_epoch: Callable[[RunDir], None] = lambda run: None
    score_test: bool = True
    goes_on_from: str | Path | None = None


def train(config: Config, run_path: str | Path | None = None, control: Control = Control()) -> dict[str, Any]:
    """Trains a model and writes its run directory.

    Args:
        config: from `kft.config.load`.
        run_path: the folder to make; None makes `runs/<data>-<time>`.
        control: of a program that leads many trainings.

    Returns:
        {"run": folder, "metrics": {split: {metric: float or None}}}, of the best epoch.

    Raises:
        KftError: a mistake in the data or the settings, or no space.
        Stopped: SIGTERM or SIGINT came; a checkpoint is saved.
        KeyboardInterrupt: one came before the first step.
    """
    backend.select(config.backend)
    run_path = run_path or new_run_path(config)
    with runs.only_writer(run_path):
        run = runs.create(run_path)
        runs.write_text(run.config, configs.dump(config))
        runs.write_json(run.environment, backend.describe())
        return _train(config, run, control, resumed=False)


def resume(run_path: str | Path, control: Control = Control()) -> dict[str, Any]:
    """Goes on with a run from its last checkpoint; without one, starts it again from its config.

    The result equals that of the run that was never stopped, bit for bit on the same machine. A
    finished run is left as it is. Takes a folder, returns and raises as `train` does.
    """
    run = runs.open_run(run_path, finished=False)
    if run.done.exists():
        runs.open_run(run_path)  # whole?
        if best_weights(run).exists():  # it was killed between its end and this
            _tidy(run, runs.read_config(run).train.keep_checkpoints)
        note(f"{run_path}: the run is finished, nothing to do")
        return {"run": str(run.path), "metrics": runs.read_json(run.metrics)}
    with runs.only_writer(run_path, "wait until it has ended; a run is trained by one process at a time"):
        runs.sweep(run.path)
        config = runs.read_config(run)
        backend.select(config.backend)
        if not runs.checkpoint_files(run):
            note(f"{run_path}: no checkpoint yet, starting again")
        return _train(config, run, control, resumed=True)


def dry_run(config: Config) -> dict[str, Any]:
    """Does all that `train` does before its second step, and writes nothing.

    Returns:
        {"data": account, "batches": {...}, "parameters": {...}, "memory_bytes": about,
        "first_loss": float, "first_step_seconds": float}.
    """
    backend.select(config.backend)
    devices = backend.distribute()
    prepared = prepare(config, prepare_data(config), devices)
    model, plan = prepared.model, prepared.plan
    steps = steps_of_epoch(plan, prepared.data, prepared.config.train, epoch=0)
    started = time.monotonic()
    logs = model.fit(steps, steps_per_epoch=1, verbose=0, shuffle=False).history
    return {
        "data": prepared.data.splits.account,
        "batches": plan_account(plan, config.model.max_length),
        "parameters": models.parameter_counts(model),
        "memory_bytes": memory.estimate(model, plan, devices, prepared.config.train),
        "first_loss": float(logs["mean_loss"][0]),
        "first_step_seconds": time.monotonic() - started,
    }


def new_run_path(config: Config) -> Path:
    """Makes the folder `runs/<data>-<time>`, under a name that no other process has used.

    Raises:
        KftError: it cannot be created.
    """
    files = config.data.train
    first = Path((files if isinstance(files, str) else files[0]) if files else "")
    origin = config.data.source or first.resolve().with_suffix("").name.strip("*-_.") or "train"
    if origin == "train":
        origin = first.resolve().parent.name
    name = f"{origin.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 1000):
        path = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise KftError(runs.cannot_write(path, error).message, runs.RUN_HINT) from None
        return path
    raise KftError(f"runs: holds 999 runs called {name}", runs.RUN_HINT)


def _train(config: Config, run: RunDir, control: Control, resumed: bool) -> dict[str, Any]:
    with _stoppable(run, control) as stop, runs.disk_errors(run.path):
        # Data, and everything that must be on disk before the first step.
        trackers.check(config.train.trackers)
        backend.preload()
        devices = backend.distribute()
        data = prepare_data(config, runs.read_labels(run) if resumed and run.labels.exists() else None)
        if resumed:
            check_same_data(run, data.splits.account, "started with", "or train a new run")
            check_same_tokens(run, data)
        if control.goes_on_from is not None:
            weights = f"or start a new run from its weights: kft train CONFIG --set model.from_run={control.goes_on_from}"
            check_same_data(RunDir(Path(control.goes_on_from)), data.splits.account, "trained on", weights)
        prepared = prepare(config, data, devices)
        if prepared.config != config:
            runs.write_text(run.config, configs.dump(prepared.config))
        write_inputs(run, prepared)

        # Epochs, from wherever the last checkpoint stands.
        model, plan, settings = prepared.model, prepared.plan, prepared.config.train
        position, loss_state = restore(model, run) if resumed else (Position(), None)
        if resumed:
            runs.go_on(run, backend.describe(), plan.steps * position.epoch + position.step)
        describe(prepared)
        cut_history(run, plan.steps * position.epoch + position.step)
        validation = validation_of(prepared)
        with trackers.tracking(settings.trackers, run.logs, run.path.name, config.model_dump()) as tracking:
            course = _course(run, prepared, stop, tracking)
            with gently(stop):
                while not _is_over(position, settings):
                    steps = steps_of_epoch(plan, data, settings, position.epoch, position.step)
                    weights = batches.step_weights(plan, data.batched.example_weights, position.epoch)
                    epoch = run_epoch(model, steps, position, course, weights, loss_state)
                    position, loss_state = epoch.position, None
                    if position.step < plan.steps:
                        save_checkpoint(model, run, position, plan)
                        raise Stopped(run)
                    if position.epoch + 1 == settings.epochs:
                        updates.complete_last(model, prepared.schedule, plan.steps * settings.epochs)
                    position = _finish_epoch(model, validation, epoch, course)
                    control.after_epoch(run)
                    if stop.is_set():
                        raise Stopped(run)

            # The best epoch's weights, scored on every split.
            splits = ("validation", "test") if control.score_test else ("validation",)
            result = _finish(prepared, run, validation, splits)
            tracking.log(plan.steps * position.epoch, _named("test", result["metrics"].get("test", {})))
        _tidy(run, settings.keep_checkpoints)
        return result


@contextmanager
def _stoppable(run: RunDir, control: Control) -> Iterator[threading.Event]:
    """The event that asks for a stop.

    Before the first step and after the last a signal does not wait for another one.

    Raises:
        KeyboardInterrupt: a signal came before anything was saved.
        Stopped: it came, and there is a checkpoint or another program leads.
    """
    try:
        with at_once(control.stop) if control.stop else stop_signals(gentle=False) as stop:
            yield stop
    except KeyboardInterrupt:
        if control.stop is None and not runs.checkpoint_files(run):
            raise
        raise Stopped(run) from None


def _course(run: RunDir, prepared: Prepared, stop: threading.Event, tracking: trackers.Tracking) -> Course:
    settings = prepared.config.train
    return Course(
        run=run,
        plan=prepared.plan,
        schedule=prepared.schedule,
        loss_scale=prepared.data.learned.scale**2,
        epochs=settings.epochs,
        log_every_steps=settings.log_every_steps,
        checkpoint_every_steps=settings.checkpoint_every_steps,
        stop=stop,
        tracking=tracking,
    )


def _named(split: str, values: dict[str, float | None]) -> dict[str, float | None]:
    """The scores of a split as trackers name them."""
    return {f"{split}/{name}": value for name, value in values.items()}


def _finish_epoch(model: models.Classifier, validation: Validation, epoch: Epoch, course: Course) -> Position:
    """Scores validation, keeps the best weights so far, and writes a checkpoint."""
    started = time.monotonic()
    run, plan, position = course.run, course.plan, epoch.position
    with controls.averaged(model):
        reads = validation.expected.reads
        logits = evaluate.predict_logits(model, validation.tokens, validation.shape, reads)
        learned = validation.tuned(logits)
        scores, loss = evaluate.scores(validation.expected, logits, validation.task, learned)
        value = scores[validation.metric]
        best = position.best is None or metrics.better(validation.metric, value, position.best)
        if best:
            models.save(model, best_weights(run))
            models.save_adapters(model, best_adapters(run))
    number = position.epoch + 1
    line = {
        "event": "evaluation",
        "epoch": number,
        "step": plan.steps * number,
        "train_loss": epoch.train_loss,
        "loss": loss,
        "metrics": scores,
        "best": best,
        "seconds": time.monotonic() - started,
        "input_wait_fraction": epoch.input_wait_fraction,
    }
    append_history(run, line)
    course.tracking.log(line["step"], _named("validation", {"loss": loss, **scores}))
    note(
        f"epoch {number}/{course.epochs}: train loss {epoch.train_loss:.4f}, "
        f"validation {validation.metric} {value:.4f}{' (best so far)' if best else ''}"
    )
    best_value, best_epoch = (value, number) if best else (position.best, position.best_epoch)
    position = Position(number, best=best_value, best_epoch=best_epoch)
    save_checkpoint(model, run, position, plan)
    return position


def _is_over(position: Position, settings: TrainConfig) -> bool:
    """Whether no epoch is left, or the best one lies too far back."""
    if position.epoch >= settings.epochs:
        return True
    patience = settings.patience_epochs
    waited = position.epoch - position.best_epoch
    return patience is not None and position.step == 0 and waited >= patience


def _finish(
    prepared: Prepared, run: RunDir, validation: Validation, scored_splits: tuple[str, ...]
) -> dict[str, Any]:
    data, shape = prepared.data, validation.shape
    model = _best_model(prepared.model, run)
    places = TASKS[validation.task].places
    reads = {
        name: places(getattr(data.splits, name), data.tokens[name])
        for name in scored_splits
        if name in data.tokens
    }
    logits = {
        name: evaluate.predict_logits(model, data.tokens[name], shape, places)
        for name, places in reads.items()
    }
    learned = validation.tuned(logits["validation"])
    if learned != validation.learned:
        runs.write_learned(run, learned)
    scores, details = {}, {}
    for name in logits:
        frame = getattr(data.splits, name)
        scored = evaluate.score(frame, logits[name], validation.task, learned, reads[name])
        scores[name], details[name] = scored.metrics, scored.details
        runs.write_whole(run.predictions(name), scored.predictions.write_parquet)
    runs.write_json(run.details, details)
    runs.write_json(run.metrics, scores)
    report.curves(run)
    report.report(run)
    runs.finish(run)
    return {"run": str(run.path), "metrics": runs.finite(scores)}


def _best_model(model: models.Classifier, run: RunDir) -> models.Classifier:
    """A model with the best epoch's weights, which become the run's."""
    best, adapters = best_weights(run), best_adapters(run)
    if not model.adapters:
        # The latter if only DONE was lost.
        models.load_weights(model, best if best.exists() else run.weights)
        models.save(model, run.weights)
        return model
    for file, own in ((adapters, run.adapters), (best, run.weights)):
        if file.exists():
            runs.write_whole(own, partial(shutil.copyfile, file))
    # Their adapters are merged into them, so what answers from now on has none.
    return models.load(run, model.backbone.dtype_policy.name)


def _tidy(run: RunDir, keep_checkpoints: bool) -> None:
    """Drops what a finished run does not need."""
    for file in (best_weights(run), best_adapters(run)):  # they are the run's own now
        file.unlink(missing_ok=True)
    if not keep_checkpoints:
        drop_checkpoints(run)
