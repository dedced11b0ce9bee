"""One config → one run directory."""

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kft import backend, batches, evaluate, metrics, models, report, runs, tasks
from kft import config as configs
from kft.config import Config
from kft.errors import KftError
from kft.progress import note, stop_signals
from kft.runs import RunDir
from kft.train import controls, memory
from kft.train.account import describe, plan_account, write_inputs
from kft.train.checkpoints import Position, append_history, cut_history, restore, save_checkpoint
from kft.train.preparing import Data, build_model, compile_model, plan_batches, prepare_data, with_batch_size
from kft.train.recorder import Recorder

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
        after_epoch: called with the run after each line of evaluation in its history; what it raises ends the training.
        score_test: whether the test split is scored at the end.
    """

    stop: threading.Event | None = None
    after_epoch: Callable[[RunDir], None] = lambda run: None
    score_test: bool = True


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
    """
    backend.select(config.backend)
    run = runs.create(run_path or default_run_path(config))
    runs.write_text(run.config, configs.dump(config))
    runs.write_json(run.environment, backend.describe())
    return _train(config, run, control, resumed=False)


def resume(run_path: str | Path, control: Control = Control()) -> dict[str, Any]:
    """Goes on with a run from its last checkpoint; without one, starts it again from its config.

    The result equals that of the run that was never stopped, bit for bit on the same machine. A finished run is left
    as it is. Takes a folder, returns and raises as `train` does.
    """
    run = runs.open_run(run_path, finished=False)
    if run.done.exists():
        runs.open_run(run_path)  # whole?
        note(f"{run_path}: the run is finished, nothing to do")
        return {"run": str(run.path), "metrics": runs.read_json(run.metrics)}
    config = runs.read_config(run)
    backend.select(config.backend)
    if not runs.checkpoint_files(run):
        note(f"{run_path}: no checkpoint yet, starting again")
    return _train(config, run, control, resumed=True)


def dry_run(config: Config) -> dict[str, Any]:
    """Does all that `train` does before its second step, and writes nothing.

    Returns:
        {"data": account, "batches": {...}, "parameters": {...}, "memory_bytes": about, "first_loss": float,
        "first_step_seconds": float}.
    """
    backend.select(config.backend)
    devices = backend.distribute()
    data = prepare_data(config)
    model = build_model(config, data)
    if config.train.batch_size == "auto":
        config = with_batch_size(config, data, model, devices)
    plan = plan_batches(config, data, devices)
    compile_model(model, config, plan)
    steps = batches.dataset(plan, data.rows["train"], data.targets, data.weights, epoch=0)
    started = time.monotonic()
    logs = model.fit(itertools.islice(steps, 1), steps_per_epoch=1, verbose=0, shuffle=False).history
    counts = models.parameter_counts(model)
    return {
        "data": data.splits.account,
        "batches": plan_account(plan, config),
        "parameters": counts,
        "memory_bytes": memory.estimate(model, plan, devices),
        "first_loss": float(logs["loss"][0]),
        "first_step_seconds": time.monotonic() - started,
    }


def default_run_path(config: Config) -> Path:
    """`runs/<data>-<time>`, a name that does not exist yet."""
    origin = config.data.source or Path(config.data.train).resolve().with_suffix("").name
    if origin == "train":
        origin = Path(config.data.train).resolve().parent.name
    name = f"{origin.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in range(1, 1000))
    return next(path for path in taken if not path.exists())


def _train(config: Config, run: RunDir, control: Control, resumed: bool) -> dict[str, Any]:
    with nullcontext(control.stop) if control.stop else stop_signals() as stop:
        # Data, and everything that must be on disk before the first step.
        devices = backend.distribute()
        data = prepare_data(config, runs.read_labels(run) if resumed and run.labels.exists() else None)
        if resumed:
            _check_same_data(run, data.splits.account)
        model = build_model(config, data)
        if config.train.batch_size == "auto":
            config = with_batch_size(config, data, model, devices)
            runs.write_text(run.config, configs.dump(config))
        plan = plan_batches(config, data, devices)
        write_inputs(run, config, data, model)
        compile_model(model, config, plan)
        describe(data, plan, config, model)

        # Epochs, from wherever the last checkpoint stands.
        at, running_loss = restore(model, run) if resumed else (Position(), None)
        cut_history(run, plan.steps * at.epoch + at.step)
        shape = evaluate.choose_shape(model, *(r for name, r in data.rows.items() if name != "train"))
        metric = config.train.best_metric or metrics.main_metric(config.task)
        schedule, loss_scale = model.optimizer._learning_rate, data.score_scale**2
        recorder = Recorder(run, config, plan, schedule, loss_scale, stop, running_loss)
        while at.epoch < config.train.epochs and not _out_of_patience(at, config):
            steps = batches.dataset(plan, data.rows["train"], data.targets, data.weights, at.epoch, at.step)
            with recorder.epoch(at):
                model.fit(
                    recorder.timed(steps),
                    steps_per_epoch=plan.steps - at.step,
                    initial_epoch=at.epoch,
                    epochs=at.epoch + 1,
                    callbacks=[recorder],
                    verbose=0,
                    shuffle=False,
                )
            at = recorder.at
            if at.step < plan.steps:
                save_checkpoint(model, run, at, plan)
                raise Stopped(run)
            at = _finish_epoch(model, run, config, data, plan, at, shape, metric, recorder)
            control.after_epoch(run)
            if stop.is_set():
                raise Stopped(run)

        # The best epoch's weights, scored on every split.
        return _finish(
            model, run, data, shape, ("validation", "test") if control.score_test else ("validation",)
        )


def _finish_epoch(
    model, run, config, data, plan, at: Position, shape, metric: str, recorder: Recorder
) -> Position:
    """Scores the validation split, keeps the weights when they are the best so far, and writes a checkpoint."""
    started = time.monotonic()
    task = tasks.TASKS[config.task]
    frame = data.splits.validation
    with controls.averaged(model):
        logits = evaluate.predict_logits(model, data.rows["validation"], shape)
        scored = evaluate.score(frame, logits, model.architecture, task, data.labels, detailed=False)
        value = scored.metrics[metric]
        best = at.best is None or metrics.better(metric, value, at.best)
        if best:
            models.save(model, run.checkpoints / "best.weights.h5")
    line = {
        "event": "evaluation",
        "epoch": at.epoch + 1,
        "step": plan.steps * (at.epoch + 1),
        "train_loss": recorder.train_loss,
        "loss": scored.loss,
        "metrics": scored.metrics,
        "best": best,
        "seconds": time.monotonic() - started,
        "input_wait_fraction": recorder.input_wait_fraction,
    }
    append_history(run, line)
    shown = f"{metric} {value:.4f}"
    mark = " (best so far)" if best else ""
    note(
        f"epoch {at.epoch + 1}/{config.train.epochs}: train loss {recorder.train_loss:.4f}, validation {shown}{mark}"
    )
    if best:
        at = replace(at, best=value, best_epoch=at.epoch + 1)
    at = replace(at, epoch=at.epoch + 1, step=0)
    save_checkpoint(model, run, at, plan)
    return at


def _out_of_patience(at: Position, config: Config) -> bool:
    patience = config.train.patience_epochs
    return patience is not None and at.step == 0 and at.epoch - at.best_epoch >= patience


def _finish(
    model: models.Classifier,
    run: RunDir,
    data: Data,
    shape: batches.PredictionShape,
    scored_splits: tuple[str, ...],
) -> dict[str, Any]:
    best = run.checkpoints / "best.weights.h5"
    models.load_weights(model, best if best.exists() else run.weights)  # the latter if only DONE was lost
    models.save(model, run.weights)
    task = tasks.TASKS[model.architecture.task]
    scores, details = {}, {}
    for name in scored_splits:
        if name not in data.rows:
            continue
        frame = getattr(data.splits, name)
        logits = evaluate.predict_logits(model, data.rows[name], shape)
        scored = evaluate.score(frame, logits, model.architecture, task, data.labels)
        scores[name], details[name] = scored.metrics, scored.details
        runs.write_whole(run.predictions(name), scored.predictions.write_parquet)
    runs.write_json(run.details, details)
    runs.write_json(run.metrics, scores)
    report.curves(run)
    report.report(run)
    runs.finish(run)
    best.unlink(missing_ok=True)
    return {"run": str(run.path), "metrics": runs.finite(scores)}


def _check_same_data(run: RunDir, account: dict[str, Any]) -> None:
    if not run.data.exists():
        return
    before = runs.read_json(run.data, "splits")["splits"]
    for name, part in account["splits"].items():
        known = before.get(name) if isinstance(before, dict) else None
        if not isinstance(known, dict) or known.get("sha256") != part["sha256"]:
            raise KftError(
                f"{run.path}: the {name} data is not what this run was started with",
                "put the old data back, or train a new run",
            )
