"""Settings that exclude each other, or need one another."""

from collections.abc import Iterator
from typing import Any

from kft.config import optax_names
from kft.config.sections import (
    FRAME_COLUMNS,
    DataConfig,
    ModelConfig,
    Section,
    SplitConfig,
    TrainConfig,
    TuneConfig,
)
from kft.tasks import TASKS


def conflicts(
    task: str,
    backend: str,
    data: DataConfig,
    split: SplitConfig,
    model: ModelConfig,
    train: TrainConfig,
    tune: TuneConfig,
) -> Iterator[str]:
    """A line for each mistake that no single setting shows."""
    if data.source is None and data.train is None:
        yield "`data` names no examples: set `data.train` to a file or folder, or `data.source` to a data set's name"
    if data.source is not None and (data.train or data.validation or data.test):
        yield "`data.source` and `data.train`, `data.validation`, `data.test` exclude each other"
    if not data.header:
        texts = ("question", "context", "answers", "key")
        for key in texts if data.question is not None else ("text", "text_pair", "label", "group"):
            value = getattr(data, key)
            if isinstance(value, str):
                yield f"`data.{key}` must be a column number (from 0) where `data.header` is false, got: {value!r}"
        for value in data.labels or ():
            if isinstance(value, str):
                yield f"`data.labels` must be column numbers (from 0) where `data.header` is false, got: {value!r}"
    if data.labels is not None and data.label_separator is not None:
        yield "`data.labels` names a column for each label: leave `data.label_separator` out"
    yield from _column_conflicts(data)
    if data.text_pair is not None and data.text_pair == data.text:
        yield f"`data.text_pair` is the same column as `data.text`: {data.text!r}"
    if data.label in (data.text, data.text_pair):
        yield f"`data.label` is the same column as a text: {data.label!r}"
    if (split.validation_fraction or 0) + (split.test_fraction or 0) >= 1:
        yield "`split.validation_fraction` and `split.test_fraction` leave nothing to train on"
    yield from _fold_conflicts(data, split)
    yield from _cut_conflicts(data, split)
    yield from _task_conflicts(task, {"data": data, "split": split, "model": model, "train": train})
    yield from _window_conflicts(data, model)
    yield from _control_conflicts(model, train)
    yield from _launcher_conflicts(tune)
    yield from _optax_conflicts(backend, train)
    if train.optimizer != "sgd":
        for key in ("momentum", "nesterov"):
            if getattr(train, key):
                yield f'`train.{key}` needs `train.optimizer` = "sgd", got: {train.optimizer!r}'
    elif train.nesterov and not train.momentum:
        yield "`train.nesterov` needs `train.momentum` above 0"


def _task_conflicts(task: str, sections: dict[str, Section]) -> Iterator[str]:
    """Settings that the task needs, and those that it does not know."""
    rules = TASKS.rules[task]

    def value(name: str) -> Any:
        section, key = name.split(".")
        return getattr(sections[section], key)

    def is_set(name: str) -> bool:
        section, key = name.split(".")
        return value(name) not in (None, False, type(sections[section]).model_fields[key].default)

    for name, what in rules.needs.items():
        if value(name) is None:
            yield f'`task` = "{task}" needs `{name}`, {what}'
    for name, what in rules.refuses.items():
        if is_set(name) and value(name) != {}:
            yield f"`{name}` needs {what}, and `task` is {task}"
    if value("train.loss") not in (None, *rules.losses):
        yield f'`train.loss` = "{value("train.loss")}" is not for {task}, which takes {" or ".join(rules.losses)}'
    if value("split.method") == "stratified" and not rules.stratified:
        yield f'`split.method` = "stratified" needs classes; a {task} takes "random" or "hash"'


def _window_conflicts(data: DataConfig, model: ModelConfig) -> Iterator[str]:
    """Mistakes in `model.stride` and `model.windows`."""
    if model.stride is None:
        if model.windows != ModelConfig.model_fields["windows"].default:
            yield "`model.windows` needs `model.stride`, which reads a longer text in windows"
        return
    if model.stride >= model.max_length:
        yield f"`model.stride` must be below `model.max_length` = {model.max_length}, got: {model.stride}"
    if data.spans:
        yield "`data.spans` marks words that most windows of a text do not have: leave `model.stride` out"


def _control_conflicts(model: ModelConfig, train: TrainConfig) -> Iterator[str]:
    """Training controls that exclude each other."""
    if train.loss == "focal":
        if train.label_smoothing:
            yield '`train.label_smoothing` needs `train.loss` = "cross_entropy"'
    elif train.focal_gamma != TrainConfig.model_fields["focal_gamma"].default:
        yield '`train.focal_gamma` needs `train.loss` = "focal"'
    if model.lora_rank is None:
        for key in ("lora_alpha", "lora_targets", "lora_rank_stabilised", "lora_dropout", "lora_dora"):
            if getattr(model, key) != ModelConfig.model_fields[key].default:
                yield f"`model.{key}` needs `model.lora_rank`"
    if model.lora_rank is not None and model.reinit_layers:
        yield "`model.lora_rank` keeps the encoder fixed, so new layers would never be trained: leave `model.reinit_layers` out"
    if model.lora_rank is not None and model.freeze_layers:
        yield "`model.lora_rank` keeps the whole encoder fixed, leave `model.freeze_layers` out"
    if model.lora_targets != "all" and len(set(model.lora_targets)) < len(model.lora_targets):
        yield f"`model.lora_targets` names a kernel twice: {model.lora_targets}"
    if train.unfreeze_every_epochs is not None:
        for key, off in (("lora_rank", None), ("freeze_layers", 0)):
            if getattr(model, key) != off:
                yield f"`train.unfreeze_every_epochs` trains every layer in its turn: leave `model.{key}` out"
    if train.r_drop_alpha and model.dropout == 0:
        yield "`train.r_drop_alpha` compares two dropout masks, and `model.dropout` is 0"
    if train.ema_momentum is not None and train.gradient_accumulation_steps > 1:
        yield "`train.ema_momentum` averages after each step, and needs `train.gradient_accumulation_steps` = 1"


def _launcher_conflicts(tune: TuneConfig) -> Iterator[str]:
    """Mistakes in the resources of a trial."""
    for key in ("cpus_per_trial", "gpus_per_trial"):
        value = getattr(tune, key)
        if tune.launcher != "ray" and value != TuneConfig.model_fields[key].default:
            yield f'`tune.{key}` needs `tune.launcher` = "ray"'
        elif value > 1 and value != int(value):  # as Ray demands
            yield f"`tune.{key}` must be a fraction below 1 or a whole number, got: {value}"


def _optax_conflicts(backend: str, train: TrainConfig) -> Iterator[str]:
    """Mistakes in an optimizer of optax; optax is imported only where one is named."""
    kind, _, name = train.optimizer.rpartition(":")
    if not kind:
        if train.optax is not None:
            yield f'`train.optax` needs an optimizer of optax, such as "optax:lion", got: {train.optimizer!r}'
        return
    if backend != "jax":
        yield f'`train.optimizer` = "{train.optimizer}" runs on JAX only, and `backend` is {backend}'
        return
    for key in ("beta_1", "beta_2", "epsilon"):
        if getattr(train, key) != TrainConfig.model_fields[key].default:
            yield f"`train.{key}` is not for optax's optimizers: their settings stand in `train.optax`"
    if train.unfreeze_every_epochs is not None:
        yield "`train.unfreeze_every_epochs` needs an optimizer of Keras: adam, adamw or sgd"
    yield from optax_names.problems(name, train.optax or {}, train.weight_decay)


def _fold_conflicts(data: DataConfig, split: SplitConfig) -> Iterator[str]:
    """Mistakes in `split.folds` and `split.fold`."""
    if split.folds is None:
        if split.fold is not None:
            yield "`split.fold` needs `split.folds`"
        return
    if split.fold is not None and split.fold > split.folds:
        yield f"`split.fold` is {split.fold}, and there are {split.folds} (`split.folds`)"
    if split.validation_fraction is not None:
        yield "`split.folds` makes each part of train validation once: leave `split.validation_fraction` out"
    if data.validation is not None:
        yield "`split.folds` makes each part of train validation once: leave `data.validation` out"


def _cut_conflicts(data: DataConfig, split: SplitConfig) -> Iterator[str]:
    """Mistakes in `split.group` and `split.time`."""
    for key in ("group", "time"):
        column = getattr(split, key)
        if column is not None and isinstance(column, int) == data.header:
            wanted = "a column's name" if data.header else "a column number (from 0), `data.header` is false"
            yield f"`split.{key}` must be {wanted}, got: {column!r}"
        if column is not None and column in (data.text, data.text_pair):
            yield f"`split.{key}` is the same column as a text: {column!r}"
    if split.time is None:
        return
    for key in ("method", "folds", "group"):
        if getattr(split, key) is not None:
            yield f"`split.time` decides alone where a row goes: leave `split.{key}` out"


def _column_conflicts(data: DataConfig) -> Iterator[str]:
    """Mistakes in `data.group`, `data.entities` and `data.spans`."""
    if data.entities is not None and data.tokens is not None:
        yield "`data.tokens` and `data.entities` exclude each other: words with tags, or texts with entities"
    used = {data.text: "`data.text`", data.text_pair: "`data.text_pair`", data.label: "`data.label`"}
    if data.group is not None and data.group in used:
        yield f"`data.group` is the same column as {used[data.group]}: {data.group!r}"
    used |= {name: "a column that kft makes" for name in FRAME_COLUMNS if name not in used}
    used |= {data.group: "`data.group`"}
    marked = set()
    for span in data.spans or []:
        setting = f"`data.spans` = {span!r}"
        text, *ends = span
        if text not in ("text", "text_pair"):
            yield f'{setting}: the first part must be "text" or "text_pair"'
        elif getattr(data, text) is None:
            yield f"{setting}: there is no second text, `data.text_pair` is not set"
        if any(isinstance(end, int) == data.header for end in ends):
            wanted = "column names" if data.header else "column numbers (from 0), `data.header` is false"
            yield f"{setting}: the last two parts must be {wanted}"
        for end in (end for end in dict.fromkeys(ends) if end in used):
            yield f"{setting}: {end!r} is {used[end]}"
        if ends[0] == ends[1]:
            yield f"{setting}: begins and ends in the same column"
        elif tuple(span) in marked:
            yield f"{setting}: is listed twice"
        marked.add(tuple(span))
