"""From a config to what an epoch needs: data, batches, model, optimizer."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from kft import audit, batches, models
from kft.config import Config, ModelConfig, TrainConfig
from kft.data import sources, splits
from kft.errors import KftError
from kft.models import losses, presets
from kft.models.low_rank import ALL
from kft.progress import note
from kft.tasks import TASKS, scoring
from kft.tasks.labels import positive_of
from kft.tasks.record import Inputs, Learned, Reads
from kft.text import Tokens
from kft.train import controls, memory, optim, updates
from kft.train.schedule import WarmupDecay, schedule_of_run


@dataclass(frozen=True)
class Data:
    """The examples of a run, ready for batches.

    Attributes:
        reads: what the head reads of each example of train, from which the task learns.
        batched: the same as batches take it: of each window, where long texts have several.
    """

    splits: splits.Splits
    inputs: Inputs
    learned: Learned
    preset: presets.Preset
    tokens: dict[str, Tokens]
    reads: Reads
    batched: Reads

    @property
    def labels(self) -> list[str]:
        return list(self.learned.labels)


def prepare_data(config: Config, known_labels: list[str] | None = None) -> Data:
    """Reads, cleans, splits, tokenizes, and learns from train what the task takes from it.

    Args:
        config: of the run.
        known_labels: names of the classes by id in a run that goes on, whose weights mean just
            these ids.

    Raises:
        KftError: a mistake in the data, or a setting that the preset or the labels rule out.
    """
    frames = sources.read(config.data, config.split)
    prepared = splits.prepare(frames, config.split, config.clean, config.task, config.data.spans)
    task = TASKS[config.task]
    learned = task.learn(prepared.train, known_labels, config.train)
    positive = positive_of(learned.labels, config.data.positive, config.data.label_names)
    learned = replace(learned, positive=positive)
    preset = audit.preset_of(config, prepared)
    if config.model.max_length > preset.sizes.max_length:
        raise KftError(
            f"`model.max_length` is {config.model.max_length}, {preset.name} reads at most {preset.sizes.max_length} tokens",
            f"--set model.max_length={preset.sizes.max_length}",
        )
    if config.train.best_metric:
        scoring.check_name(config.task, config.train.best_metric, len(learned.labels))
    inputs = audit.inputs_of(config)
    tokens = audit.add_token_lengths(prepared, preset, inputs)
    reads = task.reads(prepared.train, tokens["train"], learned, config.train.class_weight)
    batched = batches.spread(reads, tokens["train"])
    return Data(prepared, inputs, learned, preset, tokens, reads, batched)


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
    _check_updates(config.train, plan.steps * config.train.epochs)
    schedule = compile_model(model, config.train, plan, data)
    return Prepared(config, data, model, plan, schedule, devices)


def _check_updates(settings: TrainConfig, steps: int) -> None:
    """Raises KftError: the training ends before its first update."""
    every = settings.gradient_accumulation_steps
    if steps < every:
        raise KftError(
            f"`train.gradient_accumulation_steps` is {every}, and the whole training has {steps} steps: nothing is learnt",
            f"--set train.gradient_accumulation_steps={max(1, steps // 10)}",
        )


def plan_batches(settings: TrainConfig, data: Data, devices: int) -> batches.Plan:
    """The packed batches of every epoch."""
    lengths = np.diff(data.tokens["train"].offsets)
    return batches.plan(
        lengths,
        settings.batch_size,
        settings.epochs,
        settings.seed,
        packed=settings.packing,
        devices=devices,
        reads=data.batched,
    )


def steps_of_epoch(
    plan: batches.Plan, data: Data, settings: TrainConfig, epoch: int, first_step: int = 0
) -> Iterator[tuple]:
    """The batches of an epoch from `first_step` on.

    Where several make an update, the inputs carry the share of each in it, float32 [R].
    """
    steps = batches.dataset(plan, data.tokens["train"], data.batched, epoch, first_step)
    accumulated = settings.gradient_accumulation_steps
    if accumulated == 1:
        return steps
    shares = updates.shares(plan, data.batched.example_weights, epoch, settings.epochs, accumulated)
    return (
        (inputs | {"share": np.full(plan.packed_rows, share)}, *rest)
        for (inputs, *rest), share in zip(steps, shares[first_step:], strict=True)
    )


def find_batch_size(model: models.Classifier, settings: TrainConfig, data: Data, devices: int) -> int:
    """The number that `train.batch_size` = "auto" stands for."""
    room = memory.room_bytes()

    def sized(size: int) -> TrainConfig:
        return settings.model_copy(update={"batch_size": size})

    @functools.cache
    def planned(size: int) -> batches.Plan:
        return plan_batches(sized(size), data, devices)

    def estimated(size: int) -> int:
        return memory.estimate(model, planned(size), devices, settings)

    def compiled(size: int) -> int | None:
        compile_model(model, sized(size), planned(size), data)
        return memory.compiled_bytes(model, next(steps_of_epoch(planned(size), data, sized(size), epoch=0)))

    groups = data.batched.groups
    units = len(np.unique(groups)) if groups is not None else len(data.batched.counts)
    size = memory.largest_batch(memory.batch_sizes(units), room, estimated, compiled)
    note(f"memory    {room / 2**30:.1f} GiB for a step: train.batch_size = {size}")
    return size


def build_model(config: Config, data: Data) -> models.Classifier:
    """The classifier that the config describes, with the preset's weights."""
    m, seed = config.model, config.train.seed
    goal = models.Goal(
        task=config.task,
        outputs=TASKS[config.task].outputs(data.learned),
        labels=data.learned.labels,
        pooling=m.pooling,
        score_mean=data.learned.mean,
        score_scale=data.learned.scale,
        spans=len(config.data.spans or []),
        windows=m.windows,
    )
    start = models.Start(m.dropout, m.freeze_layers, m.reinit_layers, _lora(m), config.train.r_drop_alpha)
    model = models.build(data.preset, goal, start, config.train.precision, seed)
    bias = TASKS[config.task].bias
    if bias and not models.keeps_head(data.preset, data.labels, model.architecture):
        model.head.bias.assign(bias(data.reads))
    return model


def _lora(settings: ModelConfig) -> models.Lora | None:
    rank = settings.lora_rank
    if rank is None:
        return None
    targets = (ALL,) if settings.lora_targets == ALL else tuple(settings.lora_targets)
    return models.Lora(
        rank=rank,
        alpha=settings.lora_alpha or rank * (rank**-0.5 if settings.lora_rank_stabilised else 1.0),
        targets=targets,
        rank_stabilised=settings.lora_rank_stabilised,
        dropout=settings.lora_dropout,
        dora=settings.lora_dora,
    )


def compile_model(
    model: models.Classifier, settings: TrainConfig, plan: batches.Plan, data: Data
) -> WarmupDecay:
    """Gives the model its loss and an optimizer for the whole plan; returns the schedule."""
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
    loss = TASKS[model.architecture.task].loss(settings, data.reads, data.learned)
    model.compile(optimizer=optimizer, loss=losses.LOSSES[loss.name](**loss.options))
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
