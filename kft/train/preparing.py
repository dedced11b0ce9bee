"""From a config to what an epoch needs: data, batches, model, optimizer."""

import functools
from dataclasses import dataclass

import numpy as np

from kft import audit, batches, metrics, models, tasks
from kft.config import Config
from kft.data import sources, splits
from kft.errors import KftError
from kft.models import presets
from kft.progress import note
from kft.text import Tokens
from kft.train import controls, memory, optim


@dataclass(frozen=True)
class Data:
    """The examples of a run, ready for batches."""

    splits: splits.Splits
    labels: list[str]
    preset: presets.Preset
    rows: dict[str, Tokens]
    targets: np.ndarray
    weights: np.ndarray
    score_mean: float
    score_scale: float
    questions: np.ndarray | None


def prepare_data(config: Config, known_labels: list[str] | None = None) -> Data:
    """Reads, cleans, splits and tokenizes; a regression's targets are standardised by the train split.

    Args:
        config: of the run.
        known_labels: names of the classes by id in a run that goes on, whose weights mean just these ids.

    Raises:
        KftError: a mistake in the data, or a setting that the preset or the labels rule out.
    """
    frames = sources.read(config.data)
    made = splits.prepare(frames, config.split, config.clean, config.task, config.data.spans)
    task = tasks.TASKS[config.task]
    labels = task.labels(made.train)
    if known_labels is not None and set(known_labels) == set(labels):
        labels = known_labels
    preset = presets.locate(config.model.preset, config.model.from_run)
    if config.model.max_length > preset.max_length:
        raise KftError(
            f"`model.max_length` is {config.model.max_length}, {preset.name} reads at most {preset.max_length} tokens",
            f"--set model.max_length={preset.max_length}",
        )
    if config.train.best_metric:
        metrics.check_name(config.task, config.train.best_metric, len(labels))
    rows = audit.add_token_lengths(made, preset, config.data, config.model.max_length)
    targets = task.targets(made.train, labels)
    mean, scale = 0.0, 1.0
    if config.task == "regression":
        mean, scale = float(targets.mean()), float(targets.std()) or 1.0
        targets = ((targets - mean) / scale).astype(np.float32)
    weights = task.weights(targets, labels, config.train.class_weight)
    questions = tasks.question_numbers(made.train, task)
    return Data(made, labels, preset, rows, targets, weights, mean, scale, questions)


def plan_batches(config: Config, data: Data, devices: int) -> batches.Plan:
    """The packed batches of every epoch."""
    lengths = np.diff(data.rows["train"].offsets)
    t = config.train
    return batches.plan(
        lengths, t.batch_size, t.epochs, t.seed, packed=t.packing, devices=devices, groups=data.questions
    )


def with_batch_size(config: Config, data: Data, model: models.Classifier, devices: int) -> Config:
    """The config with the number that `train.batch_size` = "auto" stands for."""
    room = memory.room_bytes()

    def sized(size: int) -> Config:
        return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": size})})

    @functools.cache
    def planned(size: int) -> batches.Plan:
        return plan_batches(sized(size), data, devices)

    def estimated(size: int) -> int:
        return memory.estimate(model, planned(size), devices)

    def compiled(size: int) -> int | None:
        compile_model(model, sized(size), planned(size))
        steps = batches.dataset(planned(size), data.rows["train"], data.targets, data.weights, epoch=0)
        return memory.compiled_bytes(model, next(steps))

    units = len(np.unique(data.questions)) if data.questions is not None else len(data.targets)
    size = memory.largest_batch(memory.batch_sizes(units), room, estimated, compiled)
    note(f"memory    {room / 2**30:.1f} GiB for a step: train.batch_size = {size}")
    return sized(size)


def build_model(config: Config, data: Data) -> models.Classifier:
    """The classifier that the config describes, with the preset's weights."""
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


def compile_model(model: models.Classifier, config: Config, plan: batches.Plan) -> None:
    """Gives the model its loss and an optimizer for all epochs of the plan."""
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
