"""One frozen, fully checked `Config` from a TOML file and `--set key=value` overrides."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kft.errors import KftError, closest

BACKENDS = ("jax", "torch", "tensorflow")
FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "folder")
SCHEMA_HINT = "`kft config --schema` lists every setting with its default"
PATH_KEYS = ("data_dir", "train", "validation", "test")
_PACKAGE_CONFIGS = Path(__file__).parent / "configs"  # where the wheel puts them
_SOURCE_CONFIGS = Path(__file__).parent.parent / "configs"  # where a checkout has them


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Where the examples are and which columns they stand in."""

    source: str | None = Field(None, min_length=1, description="a TFDS name such as glue/sst2, or the built-in bbc_news")
    data_dir: str | None = Field(None, min_length=1, description="folder in which TFDS finds its prepared data sets")
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
    label: str | int = Field("label", description="column of the label or score")
    label_names: dict[str, str] = Field(
        {}, description="readable names for the labels as the files hold them"
    )
    max_examples: int | None = Field(None, ge=1, description="examples read from each file at most")


class SplitConfig(_Section):
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
        description="share cut off train for test; 0.1 where neither a validation nor a test file is there",
    )
    method: Literal["stratified", "random", "hash"] | None = Field(
        None,
        description="stratified (by label), random, or hash (of the text); stratified for classes, else random",
    )
    seed: int = Field(0, ge=0, description="seed of the split")


class CleanConfig(_Section):
    """What is dropped before training, beyond empty texts and missing labels."""

    duplicates: Literal["keep", "exact", "normalized"] = Field(
        "keep",
        description="repeated train rows: keep all, or keep the first by exact or case/space-free text",
    )
    leaks: Literal["report", "drop"] = Field(
        "report", description="train rows that also stand in validation or test: report, or drop from train"
    )


class ModelConfig(_Section):
    """The pretrained model and the head on it."""

    preset: str = Field(
        "all_minilm_l6_v2_en", min_length=1, description="KerasHub name, kaggle:// or hf:// handle, or a folder"
    )
    max_length: int = Field(128, ge=3, description="tokens of an example at most, special tokens included")
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="the head reads the first token through the tanh pooler, or the mean of the tokens"
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout rate; else the checkpoint's")
    freeze_layers: int = Field(0, ge=0, description="lowest encoder layers kept fixed, embeddings included")


class TrainConfig(_Section):
    """Optimisation."""

    epochs: int = Field(3, ge=1, description="passes over the training examples")
    batch_size: int = Field(32, ge=1, description="examples in a step")
    learning_rate: float = Field(2e-5, gt=0, description="highest learning rate of the schedule")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adamw", description="the update rule")
    loss: Literal["cross_entropy", "mse"] | None = Field(
        None, description="cross_entropy for classes, mse else"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after the warm-up")
    warmup_fraction: float = Field(
        0.06, ge=0, lt=1, description="share of the steps with a rising learning rate"
    )
    weight_decay: float | None = Field(
        None, ge=0, description="decoupled decay, sparing biases and LayerNorm; 0.01 for adamw, else 0"
    )
    beta_1: float = Field(0.9, ge=0, lt=1, description="Adam's decay rate of the first moment")
    beta_2: float = Field(0.999, ge=0, lt=1, description="Adam's decay rate of the second moment")
    epsilon: float = Field(1e-8, gt=0, description="Adam's epsilon (torch's value)")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd")
    nesterov: bool = Field(False, description="Nesterov momentum of sgd")
    gradient_clip_norm: float | None = Field(
        1.0, ge=0, description="largest global gradient norm; 0 turns it off"
    )
    gradient_accumulation_steps: int = Field(1, ge=1, description="steps whose gradients make one update")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    class_weight: (
        Literal["balanced"]
        | Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]
        | None
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


class Config(_Section):
    """Every setting of a run. Build it with `load`."""

    task: Literal["classification", "regression"] = Field("classification", description="what is predicted")
    backend: Literal["jax", "torch", "tensorflow"] = Field("jax", description="Keras backend")
    data: DataConfig = Field(DataConfig(), description="where the examples are")
    split: SplitConfig = Field(SplitConfig(), description="how train is split")
    clean: CleanConfig = Field(CleanConfig(), description="what is dropped")
    model: ModelConfig = Field(ModelConfig(), description="the pretrained model and its head")
    train: TrainConfig = Field(TrainConfig(), description="optimisation")

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        problems = list(_conflicts(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _conflicts(config: Config):
    """Mistakes that no single setting shows."""
    data, split, train = config.data, config.split, config.train
    if data.source is None and data.train is None:
        yield "`data` names no examples: set `data.train` to a file or folder, or `data.source` to a data set's name"
    if data.source is not None and (data.train or data.validation or data.test):
        yield "`data.source` and `data.train`, `data.validation`, `data.test` exclude each other"
    if not data.header:
        for key in ("text", "text_pair", "label"):
            value = getattr(data, key)
            if isinstance(value, str):
                yield f"`data.{key}` must be a column number (from 0) where `data.header` is false, got: {value!r}"
    if data.text_pair is not None and data.text_pair == data.text:
        yield f"`data.text_pair` is the same column as `data.text`: {data.text!r}"
    if data.label in (data.text, data.text_pair):
        yield f"`data.label` is the same column as a text: {data.label!r}"
    if (split.validation_fraction or 0) + (split.test_fraction or 0) >= 1:
        yield "`split.validation_fraction` and `split.test_fraction` leave nothing to train on"
    if config.task == "classification" and train.loss == "mse":
        yield '`train.loss` = "mse" needs `task` = "regression"; classes take "cross_entropy"'
    if config.task == "regression":
        if train.loss == "cross_entropy":
            yield '`train.loss` = "cross_entropy" needs `task` = "classification"; scores take "mse"'
        if split.method == "stratified":
            yield '`split.method` = "stratified" needs classes; a regression takes "random" or "hash"'
        for key in ("label_smoothing", "class_weight"):
            if getattr(train, key):
                yield f"`train.{key}` needs classes, and `task` is regression"
        if data.label_names:
            yield "`data.label_names` needs classes, and `task` is regression"
    if train.optimizer != "sgd":
        for key in ("momentum", "nesterov"):
            if getattr(train, key):
                yield f'`train.{key}` needs `train.optimizer` = "sgd", got: {train.optimizer!r}'
    elif train.nesterov and not train.momentum:
        yield "`train.nesterov` needs `train.momentum` above 0"


def load(path: str | Path | None = None, overrides: tuple[str, ...] | list[str] = ()) -> Config:
    """The checked settings of a file, with overrides on top.

    Args:
        path: a TOML file, the name of a built-in config, or None for the built-in `bbc_news`.
        overrides: `"train.learning_rate=5e-5"`; the value is TOML, and a bare word is a string.

    Paths in the file are relative to the file, paths in overrides to the current folder.

    Raises:
        KftError: every mistake at once, each with the nearest name.
    """
    file = find(path)
    return parse(_read_toml(file), overrides, where=_shown(file), base=file.parent)


def parse(
    settings: dict[str, Any],
    overrides: tuple[str, ...] | list[str] = (),
    where: str = "config",
    base: Path | None = None,
) -> Config:
    """`load` for settings that are already a dictionary; `base` is what their paths are relative to."""
    settings = _absolute_paths(settings, base or Path.cwd())
    changes: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise KftError(f"--set {override}: must look like train.epochs=2", SCHEMA_HINT)
        _assign(changes, key.strip().split("."), _toml_value(text.strip()), override)
    settings = _merge(settings, _absolute_paths(changes, Path.cwd()))
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        problems = [line for item in error.errors() for line in _explain(item)]
        count = f"{len(problems)} to fix" if len(problems) > 1 else "1 to fix"
        raise KftError(f"{where}: {count}\n" + "\n".join(f"  {p}" for p in problems), SCHEMA_HINT) from None


def dump(config: Config) -> str:
    """The settings as TOML that `load` reads back to an equal `Config`; unset ones are left out."""
    return tomli_w.dumps(config.model_dump(exclude_none=True))


def builtin() -> dict[str, Path]:
    """The built-in configs: name (such as `sst2` or `glue/cola`) → file."""
    root = _PACKAGE_CONFIGS if _PACKAGE_CONFIGS.is_dir() else _SOURCE_CONFIGS
    return {str(p.relative_to(root).with_suffix("")): p for p in sorted(root.rglob("*.toml"))}


def find(path: str | Path | None) -> Path:
    """The file of a config given as a path, a built-in name or None (`bbc_news`).

    Raises:
        KftError: there is no such file and no built-in config of that name.
    """
    names = builtin()
    if path is None:
        return names["bbc_news"]
    file = Path(path).expanduser()
    if file.is_file():
        return file.resolve()
    if str(path) in names:
        return names[str(path)]
    near = closest(str(path), names)
    hint = f"did you mean `{near}`? " if near else ""
    raise KftError(
        f"{path}: no such config file, and no built-in config of that name",
        f"{hint}the built-in ones are {', '.join(names)}",
    )


def settings_table() -> list[tuple[str, str, str, str]]:
    """Every setting as (dotted name, type, default, description), in the order of the sections."""
    rows = []
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            for key, inner in field.annotation.model_fields.items():
                rows.append(
                    (f"{name}.{key}", _type_name(inner.annotation), _shown_default(inner), inner.description)
                )
        else:
            rows.append((name, _type_name(field.annotation), _shown_default(field), field.description))
    return rows


def schema() -> dict[str, Any]:
    """The JSON schema of a config file."""
    return Config.model_json_schema()


def _shown(file: Path) -> str:
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise KftError(
            f"{_shown(file)}: not valid TOML: {error}", 'strings need quotes: task = "regression"'
        ) from None
    except UnicodeDecodeError as error:
        raise KftError(
            f"{_shown(file)}: not UTF-8 text (byte {error.start})", "save the config as UTF-8"
        ) from None
    except OSError as error:
        raise KftError(f"{_shown(file)}: cannot be read: {error.strerror}") from None


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(settings: dict, keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        settings = settings.setdefault(key, {})
        if not isinstance(settings, dict):
            raise KftError(f"--set {override}: `{key}` is set twice, as a value and as a table", SCHEMA_HINT)
    settings[keys[-1]] = value


def _merge(below: dict, above: dict) -> dict:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _absolute_paths(settings: dict[str, Any], base: Path) -> dict[str, Any]:
    settings = dict(settings)
    if isinstance(settings.get("data"), dict):
        data = settings["data"] = dict(settings["data"])
        for key in PATH_KEYS:
            if isinstance(data.get(key), str) and data[key]:
                data[key] = str((base / Path(data[key]).expanduser()).resolve())
    if isinstance(settings.get("model"), dict) and isinstance(settings["model"].get("preset"), str):
        preset = settings["model"]["preset"]
        folder = base / Path(preset).expanduser()
        if preset.startswith((".", "/", "~")) or ("://" not in preset and folder.is_dir()):
            settings["model"] = settings["model"] | {"preset": str(folder.resolve())}
    return settings


def _explain(item: dict) -> list[str]:
    """One mistake that pydantic found, in the words of the user's file."""
    kind, loc, got = item["type"], [str(part) for part in item["loc"]], item.get("input")
    section = Config
    for part in loc[:-1]:
        inner = section.model_fields.get(part) if section else None
        is_section = inner and isinstance(inner.annotation, type) and issubclass(inner.annotation, _Section)
        section = inner.annotation if is_section else None
    # Alternatives of a union (`class_weight`, `text`) are one mistake, told at the setting itself.
    name = ".".join(loc[:2] if loc and loc[0] in Config.model_fields else loc)
    if kind == "value_error":
        return str(item["ctx"]["error"]).split("\n")
    if kind == "extra_forbidden":
        return [f"`{'.'.join(loc)}` is not a setting{_near_setting(loc, section)}"]
    limits = item.get("ctx", {})
    field = section.model_fields.get(loc[-1]) if section and loc else None
    options = [o for o in get_args(field.annotation) for o in (get_args(o) or [o])] if field else []
    wanted = {
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "float_type": "must be a number",
        "bool_type": "must be true or false",
        "string_type": "must be a string in quotes",
        "finite_number": "must be a finite number",
        "greater_than": f"must be more than {limits.get('gt')}",
        "greater_than_equal": f"must be at least {limits.get('ge')}",
        "less_than": f"must be less than {limits.get('lt')}",
        "less_than_equal": f"must be at most {limits.get('le')}",
        "literal_error": f"must be {limits.get('expected')}",
        "model_type": "must be a table of settings",
        "dict_type": "must be a table",
        "string_too_long": f"must be {limits.get('max_length')} character long",
        "string_too_short": f"must be {limits.get('min_length')} character long",
    }.get(kind, item["msg"])
    near = closest(got, [o for o in options if isinstance(o, str)]) if isinstance(got, str) else None
    return [f"`{name}` {wanted}, got: {got!r}" + (f", did you mean `{near}`?" if near else "")]


def _near_setting(loc: list[str], section: type[BaseModel] | None) -> str:
    names = list(section.model_fields) if section else []
    near = closest(loc[-1], names)
    if near is None:  # the right name in the wrong section, or none at all
        everywhere = [row[0] for row in settings_table()]
        near = next((n for n in everywhere if n.split(".")[-1] == loc[-1]), None) or closest(
            ".".join(loc), everywhere
        )
    return f", did you mean `{near}`?" if near else ""


def _type_name(annotation: Any) -> str:
    arguments = get_args(annotation)
    if not arguments or getattr(annotation, "__origin__", None) is dict:
        plain = {str: "string", int: "whole number", float: "number", bool: "true or false"}
        return plain.get(annotation, "table")
    names = []
    for argument in arguments:
        name = (
            argument
            if isinstance(argument, str)
            else None
            if argument is type(None)
            else _type_name(argument)
        )
        if name:
            names.append(name)
    return " | ".join(names)


def _shown_default(field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "-"
    return {True: "true", False: "false"}[default] if isinstance(default, bool) else str(default)
