"""One frozen, fully checked `Config` from a TOML file and `--set key=value` overrides."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from kft.config import reading
from kft.config.mistakes import explain
from kft.config.reading import FORMATS, PATH_KEYS, SCHEMA_HINT
from kft.config.sections import (
    FRAME_COLUMNS,
    CleanConfig,
    DataConfig,
    ModelConfig,
    SplitConfig,
    TrainConfig,
    TuneConfig,
)
from kft.config.table import is_section, setting_types, settings_table
from kft.config.whole import Config
from kft.errors import KftError, closest, did_you_mean
from kft.progress import note
from kft.tasks import DEFAULT, TASKS

__all__ = [
    "FORMATS", "FRAME_COLUMNS", "PATH_KEYS", "SCHEMA_HINT", "CleanConfig", "Config", "DataConfig", "ModelConfig",
    "SplitConfig", "TrainConfig", "TuneConfig", "builtin", "change", "differences", "dump", "find", "load", "of_file", "of_run", "parse", "refusals", "schema",
    "setting_types", "settings_table",
]  # fmt: skip

# What may be said of one file that a finished run reads; of the second line only what the run
# reads.
READ_KEYS = ("text_pair", "group", "spans")
FILE_KEYS = (
    "format",
    "header",
    "delimiter",
    "encoding",
    "text",
    "label",
    "tokens",
    "tags",
    "entities",
    "question",
    "context",
    "answers",
    "key",
    "label_names",
    "max_examples",
    *READ_KEYS,
)
_PACKAGE_CONFIGS = Path(__file__).parents[1] / "configs"  # where the wheel puts them
_SOURCE_CONFIGS = Path(__file__).parents[2] / "configs"  # where a checkout has them


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
    where = (
        reading.display_path(file)
        if path is not None and file.name == Path(path).name
        else str(path or file.stem)
    )
    return parse(reading.read_toml(file), overrides, where, base=file.parent)


def parse(
    settings: dict[str, Any],
    overrides: tuple[str, ...] | list[str] = (),
    where: str = "settings",
    base: Path | None = None,
) -> Config:
    """`load` for settings in a dictionary; their paths are relative to `base`."""
    settings = reading.absolute_paths(settings, base or Path.cwd())
    changes: dict[str, Any] = {}
    for override in overrides:
        keys, text = reading.split_override(override)
        reading.assign(changes, keys, reading.toml_value(text), override)
    changes = reading.absolute_paths(changes, Path.cwd())
    if overrides and (mixed := reading.mixed_data(settings, changes)):
        note(f"config    {mixed}")
    settings = reading.merge(reading.without_replaced_data(settings, changes), changes)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        # Several alternatives of one setting (`class_weight`, `text`) fail with one and the same
        # line.
        problems = dict.fromkeys(line for item in error.errors() for line in explain(item))
        origin = f"{where} and --set" if overrides else where
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise KftError(f"{origin}: {len(problems)} to fix\n{lines}", SCHEMA_HINT) from None


def of_run(file: Path) -> Config:
    """The settings that a run keeps, in their present names; raises as `load` does."""
    settings = reading.read_toml(file)
    data = settings.get("data")
    # `data.group` once kept the rows of an author or a document together, whatever the task.
    if isinstance(data, dict) and "data.group" in getattr(
        TASKS.rules.get(settings.get("task", DEFAULT)), "refuses", ()
    ):
        data = dict(data)
        group = data.pop("group", None)
        split = settings.get("split", {}) | ({} if group is None else {"group": group})
        settings = settings | {"data": data, "split": split}
    return parse(settings, where=reading.display_path(file), base=file.parent)


def dump(config: Config) -> str:
    """The settings as TOML that `load` reads back to an equal `Config`; unset ones are left out."""
    settings = config.model_dump(exclude_none=True)
    if not config.data.label_names:
        del settings["data"]["label_names"]
    if config.tune == TuneConfig():
        del settings["tune"]
    return tomli_w.dumps(settings)


def change(config: Config, changes: dict[str, Any], where: str = "settings") -> Config:
    """A config with other values for some settings, such as {"train.epochs": 3}, without search.

    Raises:
        KftError: every mistake of the new values, and conflicts with the others.
    """
    return parse(_changed(config, changes), where=where, base=Path("/"))


def differences(before: Config, now: Config) -> list[str]:
    """The dotted names of the settings that differ."""
    old, new = (dict(_leaves(config.model_dump())) for config in (before, now))
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def _leaves(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if is_section(Config.model_fields[name]):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def refusals(config: Config, name: str, value: Any) -> list[str]:
    """Why a setting does not take a value, whatever the others are; empty where it does."""
    try:
        Config.model_validate(_changed(config, {name: value}))
    except ValidationError as error:
        items = (item for item in error.errors() if item["type"] != "value_error")
        return list(dict.fromkeys(line for item in items for line in explain(item)))
    return []


def _changed(config: Config, changes: dict[str, Any]) -> dict[str, Any]:
    settings = config.model_dump(exclude_none=True, exclude={"tune"})
    nested: dict[str, Any] = {}
    for name, value in changes.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {}).update({key: value}) if key else nested.update({section: value})
    settings = reading.without_replaced_data(settings, nested)
    return settings | {
        name: settings.get(name, {}) | value if isinstance(value, dict) else value
        for name, value in nested.items()
    }


def of_file(data: DataConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """What `--set data.KEY=VALUE` says about one more file, which a finished run reads.

    Args:
        data: the run's own settings.
        overrides: such as "data.delimiter=;".

    Returns:
        The fields of `DataConfig` that are set.

    Raises:
        KftError: every mistake at once.
    """
    changes: dict[str, Any] = {}
    for override in overrides:
        keys, text = reading.split_override(override)
        reading.assign(changes, keys, reading.toml_value(text), override)
    strange = [name for name in changes if name != "data"]
    known = {key: field for key, field in DataConfig.model_fields.items() if key in FILE_KEYS}
    wanted = changes.get("data", {})
    problems = [f"`{name}` is not about the file that is read, `data` is" for name in strange]
    if not isinstance(wanted, dict):
        problems, wanted = [*problems, "`data` must be a table of settings"], {}
    for key in wanted:
        if key not in known:
            problems.append(f"`data.{key}` is not a setting of one file{did_you_mean(key, known)}")
        elif key in READ_KEYS and getattr(data, key) is None:
            problems.append(f"`data.{key}` is set, and the run does not read such a column")
    try:
        DataConfig.model_validate({key: value for key, value in wanted.items() if key in known})
    except ValidationError as error:
        located = ({**item, "loc": ("data", *item["loc"])} for item in error.errors())
        problems += dict.fromkeys(line for item in located for line in explain(item))
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        settings = ", ".join(f"data.{key}" for key in known)
        raise KftError(f"--set: {len(problems)} to fix\n{lines}", f"of the file that is read: {settings}")
    if "entities" in wanted:  # in place of what the run's own files hold
        wanted = {"tokens": None, "tags": None} | wanted
    elif "tokens" in wanted:
        wanted = {"entities": None} | wanted
    named = ("text", "text_pair", "label", "group", "question", "context", "answers")
    columns = [wanted[key] for key in named if key in wanted]
    if columns and "header" not in wanted:  # columns have names or numbers
        wanted = wanted | {"header": any(isinstance(column, str) for column in columns)}
    return wanted


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
    if str(path) in names and not os.path.isfile(path):  # noqa: PTH113 (Path's raises for a name that is too long)
        return names[str(path)]
    file = Path(os.path.expanduser(path))  # noqa: PTH111 (Path's raises for an unknown user)
    try:
        if file.is_dir():
            raise KftError(f"{path}: is a folder, not a config file", "give the TOML file in it")
        if file.is_file():
            return file.resolve()
        siblings = [str(file.with_name(entry.name)) for entry in file.absolute().parent.glob("*.toml")]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise KftError(
            f"{path}: cannot be read: {reason}", "give a TOML file, or a built-in config's name"
        ) from None
    near = closest(str(path), [*names, *siblings]) or next((s for s in siblings if s == f"{path}.toml"), None)
    hint = f"did you mean `{near}`? " if near else ""
    raise KftError(
        f"{path}: no such config file, and no built-in config of that name",
        f"{hint}the built-in ones are {', '.join(names)}",
    )


def schema() -> dict[str, Any]:
    """The JSON schema of a config file."""
    return Config.model_json_schema()
