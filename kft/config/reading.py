"""TOML files and `--set key=value` overrides → one dictionary of settings with absolute paths."""

import os
import tomllib
from pathlib import Path
from typing import Any

from kft.errors import KftError

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "excel", "folder", "conll", "squad")
SCHEMA_HINT = "`kft config --schema` lists every setting with its default"
PATH_KEYS = ("data_dir", "train", "validation", "test")
PRESET_KEYS = ("preset", "adapter_base")  # of `model`: a name, a handle or a folder


def display_path(file: Path) -> str:
    """A path as the user would write it."""
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        hint = 'strings need quotes: backend = "torch"'
        if file.suffix.lower().lstrip(".") in FORMATS:
            hint = (
                f"CONFIG is a TOML file: `kft init {display_path(file)}` writes one for these data; "
                f"or --set data.train={display_path(file)}"
            )
        raise KftError(f"{display_path(file)}: not valid TOML: {error}", hint) from None
    except UnicodeDecodeError as error:
        raise KftError(
            f"{display_path(file)}: not UTF-8 text (byte {error.start + 1})", "save the config as UTF-8"
        ) from None
    except OSError as error:
        raise KftError(
            f"{display_path(file)}: cannot be read: {error.strerror}", "check the file's permissions"
        ) from None


def split_override(override: str) -> tuple[list[str], str]:
    """The keys and the value of `a.b=value`; a key may be in quotes, as in TOML."""
    ends = [i for i, character in enumerate(override) if character == "="]
    for end in ends:
        try:
            inner, keys = tomllib.loads(override[:end] + "= 0"), []
        except tomllib.TOMLDecodeError:
            continue
        while isinstance(inner, dict):
            ((key, inner),) = inner.items()
            keys.append(key)
        return keys, override[end + 1 :].strip()
    keys = [key.strip() for key in override[: ends[0]].split(".")] if ends else []
    if not keys or not all(keys):
        raise KftError(f"--set {override}: must look like train.epochs=2", SCHEMA_HINT)
    return keys, override[ends[0] + 1 :].strip()  # such as data.label_names.schön=good


def toml_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text  # else lines that are more settings


def assign(settings: dict, keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        settings = settings.setdefault(key, {})
        if not isinstance(settings, dict):
            raise KftError(f"--set {override}: `{key}` is set twice, as a value and as a table", SCHEMA_HINT)
    settings[keys[-1]] = value


def merge(below: dict, above: dict) -> dict:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def without_replaced_data(settings: dict, changes: dict) -> dict:
    """The settings, less the data of the file where an override names other examples."""
    data, changed = settings.get("data"), changes.get("data")
    if not isinstance(data, dict) or not isinstance(changed, dict):
        return settings
    drop = {"source", "data_dir"} if "train" in changed else set()
    drop |= {"train", "validation", "test"} if "source" in changed else set()
    return settings | {"data": {key: value for key, value in data.items() if key not in drop}}


def mixed_data(settings: dict, changes: dict) -> str:
    """What an override of the examples leaves of the file's data, or replaces; "" for nothing."""
    data, changed = settings.get("data"), changes.get("data")
    if not isinstance(data, dict) or not isinstance(changed, dict):
        return ""
    others = [key for key in ("validation", "test") if data.get(key) and key not in changed]
    if "source" in changed and (gone := [key for key in ("train", *others) if data.get(key)]):
        return f"data.source of --set takes the place of {_named(gone)}"
    if "train" in changed and data.get("train") and others:
        files = ", ".join(_file_names(data[key]) for key in others)
        return f"data.train is of --set, {_named(others)} still of the config: {files}"
    return ""


def _named(keys: list[str]) -> str:
    return " and ".join(f"data.{key}" for key in keys)


def _file_names(setting: Any) -> str:
    return ", ".join(Path(str(name)).name for name in (setting if isinstance(setting, list) else [setting]))


def absolute_paths(settings: dict[str, Any], base: Path) -> dict[str, Any]:
    settings = dict(settings)
    if isinstance(settings.get("data"), dict):
        data = settings["data"] = dict(settings["data"])
        for key in PATH_KEYS:
            if isinstance(data.get(key), str) and data[key]:
                data[key] = str(_under(base, data[key]))
            elif isinstance(data.get(key), list):
                data[key] = [str(_under(base, v)) if isinstance(v, str) and v else v for v in data[key]]
    if isinstance(settings.get("model"), dict) and isinstance(settings["model"].get("from_run"), str):
        start = settings["model"]["from_run"]
        settings["model"] = settings["model"] | ({"from_run": str(_under(base, start))} if start else {})
    for key in PRESET_KEYS if isinstance(settings.get("model"), dict) else ():
        preset = settings["model"].get(key)
        if isinstance(preset, str) and _is_folder(preset, _under(base, preset)):
            settings["model"] = settings["model"] | {key: str(_under(base, preset))}
    if isinstance(settings.get("tune"), dict):
        settings["tune"] = _absolute_choices(settings["tune"], base)
    return settings


def _is_folder(preset: str, path: Path) -> bool:
    """Whether a preset is meant as a path, and is no name or handle."""
    if preset.startswith((".", "/", "~")):
        return True
    return bool(preset) and "://" not in preset and os.path.isdir(path)  # noqa: PTH112


def _absolute_choices(tune: dict[str, Any], base: Path) -> dict[str, Any]:
    """The table of a search, the choices of settings that are paths made absolute."""
    tune = dict(tune)
    for section, keys in (("data", PATH_KEYS), ("model", ("from_run", *PRESET_KEYS))):
        for key in keys:
            quoted = tune.get(f"{section}.{key}")
            if isinstance(quoted, list):
                tune[f"{section}.{key}"] = [_absolute(section, key, value, base) for value in quoted]
            inner = tune.get(section)
            if isinstance(inner, dict) and isinstance(inner.get(key), list):
                tune[section] = inner | {key: [_absolute(section, key, v, base) for v in inner[key]]}
    if isinstance(tune.get("space"), dict):
        tune["space"] = _absolute_choices(tune["space"], base)
    return tune


def _absolute(section: str, key: str, value: Any, base: Path) -> Any:
    return absolute_paths({section: {key: value}}, base)[section][key]


def _under(base: Path, path: str) -> Path | str:
    if "://" in path:  # an address, which stays as it was written
        return path
    # os.path and not Path, whose expanduser and resolve raise for odd names: these are reported
    # where they are read.
    whole = base / os.path.expanduser(path)  # noqa: PTH111
    return Path(os.path.realpath(whole)) if "\0" not in path else whole
