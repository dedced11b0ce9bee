"""Every setting with its type, limits, default and meaning, and the mistakes that no single setting shows."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kft.config import optax_names

FRAME_COLUMNS = ("id", "text", "text_pair", "label", "group", "origin")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(Section):
    """Where the examples are and which columns they stand in."""

    source: str | None = Field(
        None, min_length=1, description="a TFDS name such as glue/sst2, or the built-in bbc_news"
    )
    data_dir: str | None = Field(
        None, min_length=1, description="folder in which TFDS finds its prepared data sets"
    )
    train: str | None = Field(
        None, min_length=1, description="file or class folder with the training examples"
    )
    validation: str | None = Field(
        None, min_length=1, description="file or class folder; else split off train"
    )
    test: str | None = Field(None, min_length=1, description="file or class folder; else split off train")
    format: Literal["csv", "tsv", "json", "jsonl", "parquet", "folder"] | None = Field(
        None, description="format of the files; else what the file's ending says"
    )
    header: bool = Field(True, description="whether the first row of CSV and TSV holds column names")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="column separator; else , or tab"
    )
    encoding: str = Field("utf-8", description="character encoding of the files")
    text: str | int = Field(
        "text", description="column of the text: a name, or a number from 0 without header"
    )
    text_pair: str | int | None = Field(None, description="column of the second text of a pair")
    label: str | int = Field("label", description="column of the label or score; of a choice 1 or 0")
    group: str | int | None = Field(
        None, description="column that the rows of one question share; they never part between splits"
    )
    spans: (
        Annotated[list[Annotated[list[str | int], Field(min_length=3, max_length=3)]], Field(min_length=1)]
        | None
    ) = Field(
        None,
        description='marked words that the head reads: ["text" or "text_pair", column of the first character\'s number '
        "(from 0), column of the number after the last]",
    )
    label_names: dict[str, str] = Field(
        {}, description="readable names for the labels as the files hold them"
    )
    max_examples: int | None = Field(None, ge=1, description="examples read from each file at most")


class SplitConfig(Section):
    """How the splits that have no file of their own are cut off train."""

    validation_fraction: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share cut off train for validation; 0.1 where there is no validation file",
    )
    test_fraction: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share cut off train for test; 0.1 where neither a validation nor a test file is there, and no folds",
    )
    method: Literal["stratified", "random", "hash"] | None = Field(
        None,
        description="stratified (by label), random, or hash (of the text); stratified for classes, else random",
    )
    seed: int = Field(0, ge=0, description="seed of the split")
    folds: int | None = Field(
        None,
        ge=2,
        description="for cross-validation: train is cut into this many parts, each validation once",
    )
    fold: int | None = Field(
        None,
        ge=1,
        description="which of the `folds` parts is validation, from 1; else `kft train` trains a run for each, and what "
        "trains one run takes the first",
    )


class CleanConfig(Section):
    """What is dropped before training, beyond empty texts and missing labels."""

    duplicates: Literal["keep", "exact", "normalized"] = Field(
        "keep",
        description="repeated train rows: keep all, or keep the first by exact or case/space-free text",
    )
    leaks: Literal["report", "drop"] = Field(
        "report", description="train rows that also stand in validation or test: report, or drop from train"
    )


class ModelConfig(Section):
    """The pretrained model and the head on it."""

    preset: str = Field(
        "all_minilm_l6_v2_en",
        min_length=1,
        description="KerasHub name, kaggle:// or hf:// handle, or a folder",
    )
    from_run: str | None = Field(
        None,
        min_length=1,
        description="finished run to start from instead of a preset; its head is kept where its labels match",
    )
    max_length: int = Field(128, ge=3, description="tokens of an example at most, special tokens included")
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="the head reads the first token through the tanh pooler, or the mean of the tokens"
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout rate; else the checkpoint's")
    freeze_layers: int = Field(0, ge=0, description="lowest encoder layers kept fixed, embeddings included")
    reinit_layers: int = Field(
        0, ge=0, description="top encoder layers that start anew, with the pooler, drawn from the seed"
    )
    lora_rank: int | None = Field(
        None, ge=1, description="rank of low-rank adapters; the rest of the encoder is then kept fixed"
    )
    lora_alpha: float | None = Field(
        None, gt=0, description="the adapters are scaled by lora_alpha / lora_rank; else 1"
    )
    lora_targets: list[Literal["query", "key", "value", "output", "feedforward"]] = Field(
        ["query", "value"], min_length=1, description="kernels of each layer that have an adapter"
    )


class TrainConfig(Section):
    """Optimisation."""

    epochs: int = Field(3, ge=1, description="passes over the training examples")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        32,
        description="examples in a step; questions, where the task is choice; auto: the largest power of two, up to 256 "
        "and to 1/32 of an epoch, whose step fits in memory (the learning rate stays as given)",
    )
    learning_rate: float = Field(2e-5, gt=0, description="highest learning rate of the schedule")
    optimizer: Literal["adam", "adamw", "sgd"] | Annotated[str, Field(pattern=r"^optax:\w+$")] = Field(
        "adamw", description="the update rule; on JAX also one of optax's, such as optax:lion"
    )
    optax: dict[str, bool | int | float | str] | None = Field(
        None, description="settings of optax's optimizer, such as {b1 = 0.9}; else its own defaults"
    )
    loss: Literal["cross_entropy", "focal", "mse"] | None = Field(
        None, description="cross_entropy for classes and choices, or focal for classes; mse for scores"
    )
    focal_gamma: float = Field(2.0, ge=0, description="how much the focal loss spares easy examples; 0: not")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after the warm-up")
    warmup_fraction: float = Field(
        0.06, ge=0, lt=1, description="share of the steps with a rising learning rate"
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="decoupled decay, sparing biases and LayerNorm; 0.01 for adamw, optax's own for its, else 0",
    )
    beta_1: float = Field(0.9, ge=0, lt=1, description="Adam's decay rate of the first moment")
    beta_2: float = Field(0.999, ge=0, lt=1, description="Adam's decay rate of the second moment")
    epsilon: float = Field(1e-8, gt=0, description="Adam's epsilon (torch's value)")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="factor of the learning rate for each layer below the head"
    )
    unfreeze_every_epochs: float | None = Field(
        None,
        gt=0,
        description="the head trains first, and one layer more from the top each time so many epochs have passed",
    )
    ema_momentum: float | None = Field(
        None, gt=0, lt=1, description="momentum of the averaged weights, which are scored and saved"
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd")
    nesterov: bool = Field(False, description="Nesterov momentum of sgd")
    gradient_clip_norm: float | None = Field(
        1.0, ge=0, description="largest global gradient norm; 0 turns it off"
    )
    gradient_accumulation_steps: int = Field(1, ge=1, description="steps whose gradients make one update")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    r_drop_alpha: float = Field(
        0.0,
        ge=0,
        description="weight in the loss of how much the predictions under two dropout masks differ (R-Drop); 0: one mask",
    )
    class_weight: (
        Literal["balanced"] | Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)] | None
    ) = Field(
        None,
        description="balanced (inverse frequency), or a table of label = weight; labels left out weigh 1",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the head, the order of examples and dropout")
    precision: Literal["float32", "mixed_bfloat16"] = Field(
        "float32", description="type that the layers compute in"
    )
    best_metric: str | None = Field(
        None, description="metric that picks the best epoch; else the task's first"
    )
    patience_epochs: int | None = Field(
        None, ge=1, description="epochs without a better score before stopping"
    )
    checkpoint_every_steps: int = Field(
        500, ge=1, description="steps between checkpoints; one every epoch besides"
    )
    log_every_steps: int = Field(10, ge=1, description="steps between two lines of loss in the history")
    packing: bool = Field(
        True, description="several examples share a row of a batch (the scores do not change)"
    )


class TuneConfig(Section):
    """How `kft tune` searches. Every other key of the table is a setting's name, and what is tried for it."""

    method: Literal["grid", "random", "tpe"] = Field(
        "random", description="every combination, random ones, or ones guided by the trials before"
    )
    trials: int = Field(20, ge=1, description="trials of random and tpe; a grid has its combinations")
    metric: str | None = Field(
        None,
        description="validation metric that ranks the trials; else train.best_metric or the task's first",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the search")
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)] | None = Field(
        None, description="train.seed of each run of a trial, which is ranked by their mean; else one run"
    )
    pruner: Literal["none", "median", "halving"] | None = Field(
        None,
        description="what stops hopeless trials after an epoch: nothing, the median of the trials before, or successive "
        "halving; else median for tpe and none for grid and random, whose trials then never depend on each other",
    )
    prune_after_trials: int = Field(5, ge=1, description="trials that end before the median stops any")
    prune_after_epochs: int = Field(1, ge=0, description="epochs of a trial before the median may stop it")
    workers: int = Field(1, ge=1, description="processes that train trials")
    launcher: Literal["process", "ray"] = Field(
        "process", description="where the workers run: on this machine, or on a Ray cluster"
    )
    cpus_per_trial: float = Field(1, gt=0, description="CPUs that Ray reserves for each worker")
    gpus_per_trial: float = Field(0, ge=0, description="GPUs of each worker on Ray; a fraction shares one")
    timeout_minutes: float | None = Field(
        None, gt=0, description="time after which the search is saved and left, to go on another day"
    )
    space: dict[str, Any] = Field(
        {},
        description='what is searched: "train.learning_rate" = [1e-5, 5e-5], "train.epochs" = {low = 1, high = 4}; '
        "ranges also take step and log; the keys may stand in `tune` itself",
    )

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, settings: Any) -> Any:
        """The keys that are no settings of the search itself go to `space`."""
        if not isinstance(settings, dict):
            return settings
        own = {key: value for key, value in settings.items() if key in cls.model_fields}
        searched = {key: value for key, value in settings.items() if key not in own}
        space = own.get("space", {})
        return own | {"space": space | searched} if isinstance(space, dict) else own


class Config(Section):
    """Every setting of a run. Build it with `load`."""

    task: Literal["classification", "regression", "choice"] = Field(
        "classification",
        description="what is predicted: a class, a score, or the right one of the rows of a question (`data.group`)",
    )
    backend: Literal["jax", "torch", "tensorflow"] = Field("jax", description="Keras backend")
    data: DataConfig = Field(DataConfig(), description="where the examples are")
    split: SplitConfig = Field(SplitConfig(), description="how train is split")
    clean: CleanConfig = Field(CleanConfig(), description="what is dropped")
    model: ModelConfig = Field(ModelConfig(), description="the pretrained model and its head")
    train: TrainConfig = Field(TrainConfig(), description="optimisation")
    tune: TuneConfig = Field(TuneConfig(), description="how `kft tune` searches")

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        problems = list(_conflicts(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _conflicts(config: Config) -> Iterator[str]:
    """Mistakes that no single setting shows."""
    data, split, train = config.data, config.split, config.train
    if data.source is None and data.train is None:
        yield "`data` names no examples: set `data.train` to a file or folder, or `data.source` to a data set's name"
    if data.source is not None and (data.train or data.validation or data.test):
        yield "`data.source` and `data.train`, `data.validation`, `data.test` exclude each other"
    if not data.header:
        for key in ("text", "text_pair", "label", "group"):
            value = getattr(data, key)
            if isinstance(value, str):
                yield f"`data.{key}` must be a column number (from 0) where `data.header` is false, got: {value!r}"
    yield from _column_conflicts(data)
    if data.text_pair is not None and data.text_pair == data.text:
        yield f"`data.text_pair` is the same column as `data.text`: {data.text!r}"
    if data.label in (data.text, data.text_pair):
        yield f"`data.label` is the same column as a text: {data.label!r}"
    if (split.validation_fraction or 0) + (split.test_fraction or 0) >= 1:
        yield "`split.validation_fraction` and `split.test_fraction` leave nothing to train on"
    yield from _fold_conflicts(data, split)
    if config.task != "regression" and train.loss == "mse":
        yield '`train.loss` = "mse" needs `task` = "regression"; classes and choices take "cross_entropy"'
    if config.task == "choice" and data.group is None:
        yield '`task` = "choice" needs `data.group`, the column that the choices of one question share'
    if config.task != "classification":
        if split.method == "stratified":
            yield f'`split.method` = "stratified" needs classes; a {config.task} takes "random" or "hash"'
        for key in ("label_smoothing", "class_weight"):
            if getattr(train, key):
                yield f"`train.{key}` needs classes, and `task` is {config.task}"
    if config.task == "regression":
        if train.loss == "cross_entropy":
            yield '`train.loss` = "cross_entropy" needs `task` = "classification"; scores take "mse"'
        if data.label_names:
            yield "`data.label_names` needs classes, and `task` is regression"
    yield from _control_conflicts(config.task, config.model, train)
    yield from _launcher_conflicts(config.tune)
    yield from _optax_conflicts(config.backend, train)
    if train.optimizer != "sgd":
        for key in ("momentum", "nesterov"):
            if getattr(train, key):
                yield f'`train.{key}` needs `train.optimizer` = "sgd", got: {train.optimizer!r}'
    elif train.nesterov and not train.momentum:
        yield "`train.nesterov` needs `train.momentum` above 0"


def _control_conflicts(task: str, model: ModelConfig, train: TrainConfig) -> Iterator[str]:
    """Training controls that exclude each other."""
    if train.loss == "focal":
        if task != "classification":
            yield f'`train.loss` = "focal" needs classes, and `task` is {task}'
        if train.label_smoothing:
            yield '`train.label_smoothing` needs `train.loss` = "cross_entropy"'
    elif train.focal_gamma != TrainConfig.model_fields["focal_gamma"].default:
        yield '`train.focal_gamma` needs `train.loss` = "focal"'
    if model.lora_rank is None:
        for key in ("lora_alpha", "lora_targets"):
            if getattr(model, key) != ModelConfig.model_fields[key].default:
                yield f"`model.{key}` needs `model.lora_rank`"
    if model.lora_rank is not None and model.reinit_layers:
        yield "`model.lora_rank` keeps the encoder fixed, so new layers would never be trained: leave `model.reinit_layers` out"
    if model.lora_rank is not None and model.freeze_layers:
        yield "`model.lora_rank` keeps the whole encoder fixed, leave `model.freeze_layers` out"
    if len(set(model.lora_targets)) < len(model.lora_targets):
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


def _column_conflicts(data: DataConfig) -> Iterator[str]:
    """Mistakes in `data.group` and `data.spans`."""
    taken = {data.text: "`data.text`", data.text_pair: "`data.text_pair`", data.label: "`data.label`"}
    if data.group is not None and data.group in taken:
        yield f"`data.group` is the same column as {taken[data.group]}: {data.group!r}"
    taken |= {name: "a column that kft makes" for name in FRAME_COLUMNS if name not in taken}
    taken |= {data.group: "`data.group`"}
    marked = set()
    for span in data.spans or []:
        shown = f"`data.spans` = {span!r}"
        text, *ends = span
        if text not in ("text", "text_pair"):
            yield f'{shown}: the first part must be "text" or "text_pair"'
        elif getattr(data, text) is None:
            yield f"{shown}: there is no second text, `data.text_pair` is not set"
        if any(isinstance(end, int) == data.header for end in ends):
            wanted = "column names" if data.header else "column numbers (from 0), `data.header` is false"
            yield f"{shown}: the last two parts must be {wanted}"
        for end in (end for end in dict.fromkeys(ends) if end in taken):
            yield f"{shown}: {end!r} is {taken[end]}"
        if ends[0] == ends[1]:
            yield f"{shown}: begins and ends in the same column"
        elif tuple(span) in marked:
            yield f"{shown}: stands there twice"
        marked.add(tuple(span))
