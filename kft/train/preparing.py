"""From a config to what an epoch needs: data, batches, model, optimizer."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kft import audit, batches, metrics, models, tasks
from kft import text as tokens
from kft.config import Config, TrainConfig
from kft.data import sources, splits
from kft.errors import KftError
from kft.models import presets
from kft.progress import note
from kft.train import controls, memory, optim
from kft.train.schedule import WarmupDecay, schedule_of_run


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


@dataclass(frozen=True)
class Prepared:
    """What the first step of a training needs.

    Attributes:
        config: with the number that `train.batch_size` = "auto" stands for.
        model: compiled, its optimizer built.
        schedule: the optimizer's.
        devices: number of devices that share a batch.
    """

    config: Config
    data: Data
    model: models.Classifier
    plan: batches.Plan
    schedule: WarmupDecay
    devices: int


def prepare(config: Config, data: Data, devices: int) -> Prepared:
    """The model and its batches.

    Raises:
        KftError: the weights cannot be read, or a setting does not fit the model or the optimizer.
    """
    model = build_model(config, data)
    if config.train.batch_size == "auto":
        size = find_batch_size(model, config.train, data, devices)
        train = config.train.model_copy(update={"batch_size": size})
        config = config.model_copy(update={"train": train})
    plan = plan_batches(config.train, data, devices)
    schedule = compile_model(model, config.train, plan)
    return Prepared(config, data, model, plan, schedule, devices)


def plan_batches(settings: TrainConfig, data: Data, devices: int) -> batches.Plan:
    """The packed batches of every epoch."""
    lengths = np.diff(data.rows["train"].offsets)
    return batches.plan(
        lengths,
        settings.batch_size,
        settings.epochs,
        settings.seed,
        packed=settings.packing,
        devices=devices,
        groups=data.questions,
    )


def steps_of_epoch(plan: batches.Plan, data: Data, epoch: int, first_step: int = 0) -> Iterator[tuple]:
    """The batches of an epoch from `first_step` on."""
    return batches.dataset(plan, data.rows["train"], data.targets, data.weights, epoch, first_step)


def find_batch_size(model: models.Classifier, settings: TrainConfig, data: Data, devices: int) -> int:
    """The number that `train.batch_size` = "auto" stands for."""
    room = memory.room_bytes()

    def sized(size: int) -> TrainConfig:
        return settings.model_copy(update={"batch_size": size})

    @functools.cache
    def planned(size: int) -> batches.Plan:
        return plan_batches(sized(size), data, devices)

    def estimated(size: int) -> int:
        return memory.estimate(model, planned(size), devices)

    def compiled(size: int) -> int | None:
        compile_model(model, sized(size), planned(size))
        return memory.compiled_bytes(model, next(steps_of_epoch(planned(size), data, epoch=0)))

    units = len(np.unique(data.questions)) if data.questions is not None else len(data.targets)
    size = memory.largest_batch(memory.batch_sizes(units), room, estimated, compiled)
    note(f"memory    {room / 2**30:.1f} GiB for a step: train.batch_size = {size}")
    return size


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


def compile_model(model: models.Classifier, settings: TrainConfig, plan: batches.Plan) -> WarmupDecay:
    """Gives the model its loss and an optimizer for all epochs of the plan, whose schedule it returns."""
    schedule = schedule_of_run(
        plan.steps * settings.epochs,
        settings.learning_rate,
        settings.schedule,
        settings.warmup_fraction,
        settings.gradient_accumulation_steps,
    )
    rule = optim.Rule(
        settings.optimizer,
        settings.weight_decay,
        settings.beta_1,
        settings.beta_2,
        settings.epsilon,
        settings.momentum,
        settings.nesterov,
        settings.optax,
    )
    varied = _controls(model, settings, plan)
    optimizer = optim.build(rule, schedule, settings.gradient_clip_norm, varied)
    gamma = settings.focal_gamma if settings.loss == "focal" else None
    loss = tasks.TASKS[model.architecture.task].loss(settings.label_smoothing, gamma)
    model.compile(optimizer=optimizer, loss=loss)
    optimizer.build(model.trainable_variables)  # so that a checkpoint can be put back before the first step
    return schedule


def _controls(model: models.Classifier, settings: TrainConfig, plan: batches.Plan) -> controls.Controls:
    updates = plan.steps / settings.gradient_accumulation_steps  # in an epoch
    decay, every = settings.layer_decay, settings.unfreeze_every_epochs
    return controls.Controls(
        rates=None if decay is None else controls.decayed_rates(model, decay),
        thaws=None if every is None else controls.thaw_updates(model, every * updates),
        ema_momentum=settings.ema_momentum,
    )
