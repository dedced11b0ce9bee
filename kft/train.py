"""One config → one run directory."""

import functools
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kft import (
    audit,
    backend,
    batches,
    controls,
    evaluate,
    memory,
    metrics,
    models,
    optim,
    presets,
    report,
    rundir,
    sources,
    splits,
    tasks,
    tokens,
)
from kft import config as configs
from kft.checkpoints import Position, append_history, cut_history, restore, save_checkpoint
from kft.config import Config
from kft.errors import KftError
from kft.progress import note, stop_signals
from kft.recorder import Recorder
from kft.rundir import RunDir

backend.select()


class Stopped(Exception):  # noqa: N818 (it is not an error)
    """Training was asked to stop (SIGTERM or SIGINT) and has saved a checkpoint."""

    def __init__(self, run: RunDir):
        super().__init__(f"stopped; go on with: kft train --resume {run.path}")
        self.run = run


@dataclass(frozen=True)
class Data:
    """The examples of a run, ready for batches."""

    splits: splits.Splits
    labels: list[str]
    preset: presets.Preset
    rows: dict[str, tokens.Tokens]
    targets: np.ndarray
    weights: np.ndarray
    score_mean: float
    score_scale: float
    questions: np.ndarray | None


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
    run = rundir.create(run_path or default_run_path(config))
    rundir.write_text(run.config, configs.dump(config))
    rundir.write_json(run.environment, backend.describe())
    return _train(config, run, control, resumed=False)


def resume(run_path: str | Path, control: Control = Control()) -> dict[str, Any]:
    """Goes on with a run from its last checkpoint; without one, starts it again from its config.

    The result equals that of the run that was never stopped, bit for bit on the same machine. A finished run is left
    as it is. Takes a folder, returns and raises as `train` does.
    """
    run = rundir.open_run(run_path, finished=False)
    if run.done.exists():
        rundir.open_run(run_path)  # whole?
        note(f"{run_path}: the run is finished, nothing to do")
        return {"run": str(run.path), "metrics": rundir.read_json(run.metrics)}
    config = rundir.read_config(run)
    backend.select(config.backend)
    if not rundir.checkpoint_files(run):
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
    data = _prepare_data(config)
    model = _build_model(config, data)
    if config.train.batch_size == "auto":
        config = _with_batch_size(config, data, model, devices)
    plan = _plan(config, data, devices)
    _compile(model, config, plan)
    steps = batches.dataset(plan, data.rows["train"], data.targets, data.weights, epoch=0)
    started = time.monotonic()
    logs = model.fit(steps.take(1), verbose=0, shuffle=False).history
    counts = models.parameter_counts(model)
    return {
        "data": data.splits.account,
        "batches": _plan_account(plan, config),
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
        data = _prepare_data(config)
        if resumed:
            _check_same_data(run, data.splits.account)
        model = _build_model(config, data)
        if config.train.batch_size == "auto":
            config = _with_batch_size(config, data, model, devices)
            rundir.write_text(run.config, configs.dump(config))
        plan = _plan(config, data, devices)
        _write_inputs(run, config, data, model)
        _compile(model, config, plan)
        _describe(data, plan, config, model)

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


def _prepare_data(config: Config) -> Data:
    frames = sources.read(config.data)
    made = splits.prepare(frames, config.split, config.clean, config.task, config.data.spans)
    task = tasks.TASKS[config.task]
    labels = task.labels(made.train)
    preset = presets.locate(config.model.preset, config.model.from_run)
    if config.model.max_length > preset.max_length:
        raise KftError(
            f"`model.max_length` is {config.model.max_length}, {preset.name} reads at most {preset.max_length} tokens",
            f"--set model.max_length={preset.max_length}",
        )
    if config.train.best_metric:
        metrics.check_name(config.task, config.train.best_metric, len(labels))
    tokenizer = tokens.load_tokenizer(preset.vocabulary, **presets.tokenizer_settings(preset))
    rows = audit.add_token_lengths(made, tokenizer, config.data, config.model.max_length)
    targets = task.targets(made.train, labels)
    mean, scale = 0.0, 1.0
    if config.task == "regression":
        mean, scale = float(targets.mean()), float(targets.std()) or 1.0
        targets = ((targets - mean) / scale).astype(np.float32)
    weights = task.weights(targets, labels, config.train.class_weight)
    questions = tasks.question_numbers(made.train, task)
    return Data(made, labels, preset, rows, targets, weights, mean, scale, questions)


def _plan(config: Config, data: Data, devices: int) -> batches.Plan:
    lengths = np.diff(data.rows["train"].offsets)
    t = config.train
    return batches.plan(
        lengths, t.batch_size, t.epochs, t.seed, packed=t.packing, devices=devices, groups=data.questions
    )


def _with_batch_size(config: Config, data: Data, model: models.Classifier, devices: int) -> Config:
    """The config with the number that `train.batch_size` = "auto" stands for."""
    room = memory.room_bytes()

    def sized(size: int) -> Config:
        return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": size})})

    @functools.cache
    def planned(size: int) -> batches.Plan:
        return _plan(sized(size), data, devices)

    def estimated(size: int) -> int:
        return memory.estimate(model, planned(size), devices)

    def compiled(size: int) -> int | None:
        _compile(model, sized(size), planned(size))
        steps = batches.dataset(planned(size), data.rows["train"], data.targets, data.weights, epoch=0)
        return memory.compiled_bytes(model, next(steps.as_numpy_iterator()))

    units = len(np.unique(data.questions)) if data.questions is not None else len(data.targets)
    size = memory.largest_batch(memory.batch_sizes(units), room, estimated, compiled)
    note(f"memory    {room / 2**30:.1f} GiB for a step: train.batch_size = {size}")
    return sized(size)


def _build_model(config: Config, data: Data) -> models.Classifier:
    return models.build(
        data.preset,
        config.task,
        data.labels,
        tasks.TASKS[config.task].outputs(data.labels),
        pooling=config.model.pooling,
        dropout=config.model.dropout,
        freeze_layers=config.model.freeze_layers,
        reinit_layers=config.model.reinit_layers,
        lora_rank=config.model.lora_rank,
        lora_alpha=config.model.lora_alpha,
        lora_targets=config.model.lora_targets,
        r_drop_alpha=config.train.r_drop_alpha,
        precision=config.train.precision,
        seed=config.train.seed,
        score_mean=data.score_mean,
        score_scale=data.score_scale,
        spans=len(config.data.spans or []),
    )


def _compile(model: models.Classifier, config: Config, plan: batches.Plan) -> None:
    t = config.train
    updates = plan.steps / t.gradient_accumulation_steps  # in an epoch
    every = t.unfreeze_every_epochs
    optimizer = optim.build(
        t.optimizer,
        learning_rate=t.learning_rate,
        steps=plan.steps * t.epochs,
        schedule=t.schedule,
        warmup_fraction=t.warmup_fraction,
        weight_decay=t.weight_decay,
        beta_1=t.beta_1,
        beta_2=t.beta_2,
        epsilon=t.epsilon,
        momentum=t.momentum,
        nesterov=t.nesterov,
        gradient_clip_norm=t.gradient_clip_norm,
        gradient_accumulation_steps=t.gradient_accumulation_steps,
        rates=None if t.layer_decay is None else controls.decayed_rates(model, t.layer_decay),
        thaws=None if every is None else controls.thaw_updates(model, every * updates),
        ema_momentum=t.ema_momentum,
        optax=t.optax,
    )
    gamma = t.focal_gamma if t.loss == "focal" else None
    model.compile(optimizer=optimizer, loss=tasks.TASKS[config.task].loss(t.label_smoothing, gamma))
    optimizer.build(model.trainable_variables)  # so that a checkpoint can be put back before the first step


def _write_inputs(run: RunDir, config: Config, data: Data, model: models.Classifier) -> None:
    rundir.write_json(run.data, data.splits.account)
    rundir.write_json(run.labels, {"labels": data.labels})
    tokens.save_vocabulary(data.preset.vocabulary, run.vocabulary)
    rundir.write_json(
        run.model,
        models.architecture_file(
            model.architecture,
            preset=data.preset.name,
            max_length=config.model.max_length,
            tokenizer=presets.tokenizer_settings(data.preset),
            **_origin(data, model.architecture),
        ),
    )
    for name in ("validation", "test"):
        frame = getattr(data.splits, name)
        if len(frame):
            rundir.write_whole(run.split(name), frame.write_parquet)


def _origin(data: Data, architecture: models.Architecture) -> dict[str, Any]:
    """What model.json tells of the run that this one starts from."""
    if data.preset.kind != "run":
        return {}
    start = RunDir(data.preset.path)
    kept = models.keeps_head(data.preset, data.labels, architecture)
    told = {"path": str(start.path), "weights_sha256": rundir.file_sha256(start.weights), "head_kept": kept}
    return {"from_run": told}


def _describe(data: Data, plan: batches.Plan, config: Config, model: models.Classifier) -> None:
    account = data.splits.account["splits"]
    counts = ", ".join(f"{name} {part['examples']:,}" for name, part in account.items())
    note(f"data      {counts}" + (f"; {len(data.labels)} labels" if data.labels else ""))
    told = _plan_account(plan, config)
    note(
        f"batches   {plan.steps} {'step' if plan.steps == 1 else 'steps'} an epoch of {plan.batch_size} {plan.unit} in {plan.rows} × {plan.length} tokens, "
        f"{told['filled']:.1%} filled (padding to {config.model.max_length} would fill {told['filled_if_padded']:.1%})"
    )
    count = models.parameter_counts(model)
    note(
        f"model     {config.model.from_run or config.model.preset}, {count['total']:,} weights, {count['trainable']:,} trained, on {backend.select()}"
    )
    if config.train.unfreeze_every_epochs is not None:
        waits = [config.train.unfreeze_every_epochs * n for n in range(len(controls.layer_groups(model)))]
        never = sum(wait >= config.train.epochs for wait in waits)
        told = (
            f"the lowest {never} (embeddings included) never" if never else f"all after {waits[-1]:g} epochs"
        )
        note(f"unfreeze  the head first, a layer more every {waits[1]:g} epochs; {told}")


def _plan_account(plan: batches.Plan, config: Config) -> dict[str, Any]:
    padded = plan.lengths.sum() / (len(plan.lengths) * config.model.max_length)
    return {
        "steps": plan.steps,
        plan.unit: plan.batch_size,
        "rows": plan.rows,
        "length": plan.length,
        "slots": plan.slots,
        "filled": plan.filled,
        "filled_if_padded": float(padded),
    }


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
        rundir.write_whole(run.predictions(name), scored.predictions.write_parquet)
    rundir.write_json(run.details, details)
    rundir.write_json(run.metrics, scores)
    report.curves(run)
    report.report(run)
    rundir.finish(run)
    best.unlink(missing_ok=True)
    return {"run": str(run.path), "metrics": rundir.finite(scores)}


def _check_same_data(run: RunDir, account: dict[str, Any]) -> None:
    if not run.data.exists():
        return
    before = rundir.read_json(run.data, "splits")["splits"]
    for name, part in account["splits"].items():
        known = before.get(name) if isinstance(before, dict) else None
        if not isinstance(known, dict) or known.get("sha256") != part["sha256"]:
            raise KftError(
                f"{run.path}: the {name} data is not what this run was started with",
                "put the old data back, or train a new run",
            )
