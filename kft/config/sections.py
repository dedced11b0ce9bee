"""Every setting with its type, limits, default and meaning, in sections."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kft.config.reading import FORMATS

FRAME_COLUMNS = (
    "id",
    "key",
    "text",
    "text_pair",
    "words",
    "label",
    "group",
    "split_group",
    "split_time",
    "origin",
)


_Name = Annotated[str, Field(min_length=1)]
Files = _Name | Annotated[list[_Name], Field(min_length=1)]


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
    train: Files | None = Field(
        None,
        description="the training examples: a file, a list of files, a pattern such as data/*.csv, a folder of such files, a "
        "class folder, or what the package datasets saves; of a folder of splits also validation and test",
    )
    validation: Files | None = Field(None, description="as train; else split off train")
    test: Files | None = Field(None, description="as train; else split off train")
    format: Literal[FORMATS] | None = Field(
        None, description="format of the files; else what the file's ending says"
    )
    sheet: str | None = Field(None, min_length=1, description="sheet of an Excel workbook; else the first")
    header: bool = Field(True, description="whether the first row of CSV, TSV and Excel holds column names")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="column separator; else , or tab"
    )
    escape: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description='sign before a quote, a delimiter or itself inside CSV, such as "\\\\"; else quotes are doubled',
    )
    decimal: Literal[".", ","] = Field(
        ".", description="sign before the decimals of labels; with a comma, points part thousands"
    )
    encoding: str = Field("utf-8", description="character encoding of the files")
    text: str | int = Field(
        "text", description="column of the text: a name, or a number from 0 without header"
    )
    text_pair: str | int | None = Field(None, description="column of the second text of a pair")
    label: str | int = Field("label", description="column of the label or score; of a choice 1 or 0")
    labels: Annotated[list[str | int], Field(min_length=1)] | None = Field(
        None, description="columns of 1 and 0, one for each label, where a row may have several"
    )
    label_separator: str | None = Field(
        None, min_length=1, description="what parts the labels of a row that may have several, such as ,"
    )
    group: str | int | None = Field(
        None,
        description="column that the rows of one question with choices share; they never part between splits",
    )
    spans: (
        Annotated[list[Annotated[list[str | int], Field(min_length=3, max_length=3)]], Field(min_length=1)]
        | None
    ) = Field(
        None,
        description='marked words that the head reads: ["text" or "text_pair", column of the first character\'s number '
        "(from 0), column of the number after the last]",
    )
    tokens: str | int | None = Field(
        None,
        description="column of the words of a text, a list; of CoNLL files its number from 0, else the first",
    )
    tags: str | int | None = Field(
        None, description="column of their tags, a list; of CoNLL files its number, else the last (-1)"
    )
    entities: str | int | None = Field(
        None,
        description="column of the entities in `text`: a list of {start, end, label} or [start, end, label], in characters",
    )
    question: str | int | None = Field(None, description="column of the question that `context` answers")
    context: str | int | None = Field(None, description="column of the text that holds the answer")
    answers: str | int | None = Field(
        None,
        description="column of the right answers: a list of {text, answer_start}, or of texts and of starts; [] for none",
    )
    key: str | int | None = Field(None, description="column of a question's own id, where files have one")
    label_names: dict[str, str] = Field(
        {}, description="readable names for the labels as the files hold them"
    )
    positive: str | None = Field(
        None,
        min_length=1,
        description="of two classes the label, as `label_names` renames it, that precision, recall and f1 are of; else the "
        "second in the order of the labels, by value or alphabet",
    )
    max_examples: int | None = Field(None, ge=1, description="examples read from each file at most")

    @property
    def paired(self) -> bool:
        """Whether a row has two texts."""
        return self.text_pair is not None or self.question is not None

    @property
    def files(self) -> list[str]:
        """The paths, patterns and addresses of train, validation and test."""
        named = (self.train, self.validation, self.test)
        return [name for names in named if names for name in ([names] if isinstance(names, str) else names)]


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
    group: str | int | None = Field(
        None,
        description="column whose rows of one value, such as an author or a document, never part between splits or folds",
    )
    time: str | int | None = Field(
        None,
        description="column of numbers or ISO dates: the latest rows become test, those before them validation",
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
    classes: Annotated[list[_Name], Field(min_length=2)] | None = Field(
        None, description="the labels, as `data.label_names` renames them, whose rows are kept; else all"
    )
    exclude_classes: Annotated[list[_Name], Field(min_length=1)] | None = Field(
        None, description="labels whose rows are left out, such as the unsup of the IMDb reviews"
    )


class ModelConfig(Section):
    """The pretrained model and the head on it."""

    preset: str = Field(
        "all_minilm_l6_v2_en",
        min_length=1,
        description="KerasHub name, kaggle:// or hf:// handle, or a folder; one of peft's adapters brings its base along",
    )
    adapter_base: str | None = Field(
        None,
        min_length=1,
        description="base of peft's adapters in `preset`; else what their adapter_config.json names",
    )
    from_run: str | None = Field(
        None,
        min_length=1,
        description="finished run to start from instead of a preset; its head is kept where its labels match",
    )
    max_length: int = Field(
        128,
        ge=3,
        description="tokens of an example at most, special tokens included; 384 for answers in a context",
    )
    stride: int | None = Field(
        None,
        ge=0,
        description="a longer text becomes several rows, each sharing so many tokens with the one before; else it is cut. "
        "For answers in a context a third of max_length",
    )
    windows: Literal["mean", "max"] = Field(
        "mean",
        description="answer of a text of several rows: the mean of the rows' logits, or the largest of each",
    )
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
        None, gt=0, description="the adapters are scaled by lora_alpha / lora_rank; else by 1"
    )
    lora_rank_stabilised: bool = Field(
        False, description="whether they are scaled by lora_alpha / sqrt(lora_rank) instead (rsLoRA)"
    )
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate of what the adapters read")
    lora_dora: bool = Field(
        False, description="whether the lengths of the adapted kernels' columns are trained besides (DoRA)"
    )
    lora_targets: (
        Annotated[list[Literal["query", "key", "value", "output", "feedforward"]], Field(min_length=1)]
        | Literal["all"]
    ) = Field(["query", "value"], description="kernels of each layer that have an adapter, or all of these")


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
    loss: Literal["cross_entropy", "focal", "binary_cross_entropy", "mse"] | None = Field(
        None,
        description="cross_entropy for classes and choices, or focal for classes; binary_cross_entropy for several labels; "
        "mse for scores",
    )
    thresholds: Literal["tuned"] | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="probability from which one of several labels is predicted; tuned: for each label the one with the best F1 "
        "on validation; else 0.5",
    )
    max_answer_tokens: int | None = Field(
        None, ge=1, description="tokens of an answer in a context at most; else 30"
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
    keep_checkpoints: bool = Field(
        False,
        description="whether a finished run keeps its last checkpoints, each about three times as large as the weights",
    )
    log_every_steps: int = Field(10, ge=1, description="steps between two lines of loss in the history")
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(
        ["tensorboard"],
        description="programs that losses and scores go to besides the run's own history; wandb and mlflow need their "
        "packages and read their own environment variables",
    )
    packing: bool = Field(
        True, description="several examples share a row of a batch (the scores do not change)"
    )


class TuneConfig(Section):
    """How `kft tune` searches; every other key of the table is a setting with its choices."""

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
