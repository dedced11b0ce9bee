"""A name or path → polars frames of examples: CSV, TSV, JSON, JSONL, Parquet, Arrow, class folders, TFDS, built-in.

Every frame has the columns `id` (Int64, row number in its file from 0), `text`, `text_pair` (only with
`data.text_pair`), `label` (String, null where there is none), `group` (String, only with `data.group`), `origin`
(String: the file as messages name it; of class folders "class/name.txt") and, under their own names, the Int64 columns
of `data.spans`. Other values are strings: CSV and TSV as they stand, others in one spelling (`columns.as_string`). Text
is kept as it is, labels are stripped. Messages count data rows from 1.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import polars as pl

from kft.config import FORMATS, DataConfig, SplitConfig
from kft.data.sources import label_sets
from kft.data.sources.arrow import (
    is_saved_dataset,
    is_saved_splits,
    parquet_pieces,
    read_arrow,
    read_parquet,
)
from kft.data.sources.columns import LabelPolicy, Pick, Wanted, finish, listed, pick, shown
from kft.data.sources.documents import jsonl_pieces, read_json, read_jsonl
from kft.data.sources.folders import read_folder
from kft.data.sources.marked import marked_texts
from kft.data.sources.named import benchmark_splits as benchmark_splits
from kft.data.sources.named import first_rows as first_rows
from kft.data.sources.named import read_benchmark as read_benchmark
from kft.data.sources.named import read_named
from kft.data.sources.tables import csv_pieces, read_csv, read_tsv, tsv_pieces
from kft.errors import KftError, did_you_mean

__all__ = ["ENDINGS", "READERS", "SPLITS", "format_of", "marked_texts", "read", "read_file", "read_pieces"]

SPLITS = ("train", "validation", "test")
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
# Folders of the splits of a saved data set.
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def read(data: DataConfig, split: SplitConfig | None = None) -> dict[str, pl.DataFrame]:
    """The frames of train, validation and test, as far as `data` names them, in that order.

    Train has the columns by which `split` cuts it as `split_group` and `split_time`.

    A test file without a label column has null labels, and so has one whose labels are all -1 where train has no such label:
    that is how secret labels are written. Of a folder of saved splits, `data.train` takes all that no setting names.

    Raises:
        KftError: a file or data set is missing or malformed, or `data.label_names` names a label that no row has.
    """
    cut_by = _cut_columns(split)
    if data.source is not None:
        frames = read_named(_wanted(data, cut_by))
    else:
        paths = _with_saved_splits(
            {name: Path(getattr(data, name)) for name in SPLITS if getattr(data, name)}
        )
        names = _display_names(paths)
        frames = {
            part: _read_path(
                path,
                names[part],
                _wanted(data, cut_by) if part == "train" else data,
                "expected" if part == "test" else "needed",
            )
            for part, path in paths.items()
        }
    if "train" not in frames:
        raise KftError(
            f"{data.source or 'data'}: has no examples to train on",
            "set `data.train` to a file or class folder",
        )
    if "test" in frames:
        frames["test"] = _without_secret(frames["test"], frames["train"])
    if data.max_examples is None:  # the first rows need not hold every label
        _check_label_names(frames, data.label_names)
    return {part: _rename_labels(frame, data) for part, frame in frames.items()}


def _cut_columns(split: SplitConfig | None) -> dict[str, tuple[str, str | int]]:
    named = {key: None if split is None else getattr(split, key) for key in ("group", "time")}
    return {f"split_{key}": (f"split.{key}", column) for key, column in named.items() if column is not None}


def _wanted(data: DataConfig, also: dict[str, tuple[str, str | int]]) -> DataConfig:
    return Wanted(**data.model_dump(), also=also) if also else data


def read_file(
    path: str | Path, data: DataConfig, need_label: bool = True, format: str | None = None
) -> pl.DataFrame:
    """The frame of one file or class folder with the columns that `data` names.

    `data.format` and `data.delimiter` were written for the files that `data` names: a file with another known
    ending is read by its own ending.

    Args:
        path: the file or folder.
        data: columns, header, delimiter, encoding, label names.
        need_label: whether a file without the label column is a mistake; else its labels are null.
        format: one of `FORMATS`, above all else.

    Raises:
        KftError: the file is missing or malformed.
    """
    path = Path(path)
    data = _as_it_ends(data, path)
    policy = "needed" if need_label else "optional"
    return _rename_labels(_read_path(path, path.name, data, policy, format), data)


def read_pieces(path: str | Path, data: DataConfig, size: int) -> Iterator[pl.DataFrame]:
    """The frame of `read_file`, where labels may be missing, in pieces: a file of any size fits in memory.

    CSV, TSV, JSONL and Parquet come at most `size` rows at a time. What must be seen as a whole comes as one piece:
    JSON documents, class folders, questions and their choices, and texts with marked words.

    Raises:
        KftError: the file is missing or malformed; the pieces before the mistake have been given by then.
    """
    path, rows = Path(path), 0
    data = _as_it_ends(data, path)
    read = PIECES.get(data.format or format_of(path))
    if read is None or data.group is not None or data.spans or data.max_examples is not None:
        yield read_file(path, data, need_label=False)
        return
    _check_readable(path)
    wanted = partial(pick, where=path.name, data=data, label="optional")
    try:
        for piece in read(path, path.name, data, wanted, size):
            yield _rename_labels(finish(piece, path.name, data), data).with_columns(pl.col("id") + rows)
            rows += piece.height
        if not rows:
            raise KftError(f"{path.name}: holds no examples", "give a file with at least one row")
    except (KftError, UnicodeError, OSError, EOFError, zlib.error):
        read_file(path, data, need_label=False)  # tells where in the whole file the mistake is
        raise


def _as_it_ends(data: DataConfig, path: Path) -> DataConfig:
    """The settings for a file: format and delimiter were written for files with the config's own endings."""
    own = {_ending(file) for file in (data.train, data.validation, data.test) if file}
    if own and format_of(path) and _ending(path) not in own:
        return data.model_copy(update={"format": None, "delimiter": None})
    return data


def format_of(path: str | Path) -> str | None:
    """What a file's ending says that it holds (`.gz` of a text file aside); "folder" for a folder."""
    if Path(path).is_dir():
        return "arrow" if is_saved_dataset(Path(path)) else "folder"
    return ENDINGS.get(_ending(path))


def _ending(path: str | Path) -> str:
    return Path(Path(path).name.lower().removesuffix(".gz")).suffix


def _read_path(
    path: Path, name: str, data: DataConfig, label: LabelPolicy, format: str | None = None
) -> pl.DataFrame:
    _check_readable(path)
    format = format or data.format or format_of(path)
    if format is None:
        told = f"the ending {_ending(path)} does not say" if _ending(path) else "no ending says"
        raise KftError(
            f"{path.name}: {told} what the file holds", f"set `data.format` to one of {', '.join(FORMATS)}"
        )
    if format not in READERS:
        raise KftError(
            f"no format `{format}`{did_you_mean(format, FORMATS)}", f"formats: {', '.join(FORMATS)}"
        )
    if format == "folder" and not path.is_dir():
        raise KftError(
            f"{shown(path)}: is a file, not a class folder", "`data.format` says what a file holds"
        )
    if format == "folder" and is_saved_splits(path):
        within = sorted(entry.name for entry in path.iterdir() if is_saved_dataset(entry))
        raise KftError(f"{shown(path)}: holds several splits", f"give one of its folders: {listed(within)}")
    if path.is_dir() and format != "folder" and not (format == "arrow" and is_saved_dataset(path)):
        raise KftError(
            f"{shown(path)}: is a folder, not a {format} file",
            '`data.format = "folder"` reads a folder with one sub-folder of .txt files per class',
        )
    frame = READERS[format](path, name, data, partial(pick, where=name, data=data, label=label))
    return finish(frame, name, data)


def _check_readable(path: Path) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        folder = path.parent
        if not folder.is_dir():
            raise KftError(
                f"{shown(path)}: no such file", f"there is no folder {shown(folder)} either"
            ) from None
        siblings = sorted(entry.name for entry in folder.iterdir())
        raise KftError(
            f"{shown(path)}: no such file{did_you_mean(path.name, siblings)}",
            f"{folder.name} holds {listed(siblings) if siblings else 'nothing'}",
        ) from None
    except (OSError, ValueError) as error:
        raise KftError(
            f"{shown(path)}: cannot be read: {getattr(error, 'strerror', None) or error}",
            "check the path and its permissions",
        ) from None
    if not os.access(path, os.R_OK):
        raise KftError(f"{shown(path)}: cannot be read: permission denied", "check the file's permissions")


def _with_saved_splits(paths: dict[str, Path]) -> dict[str, Path]:
    """The paths, those of a folder of saved splits being that of the split."""
    found = {}
    if "train" in paths and is_saved_splits(paths["train"]):
        found = {split: _split_folder(paths["train"], split) for split in SPLITS}
    found |= {
        split: (_split_folder(path, split) or path) if is_saved_splits(path) else path
        for split, path in paths.items()
    }
    return {split: found[split] for split in SPLITS if found.get(split)}


def _split_folder(folder: Path, split: str) -> Path | None:
    return next((folder / name for name in SPLIT_FOLDERS[split] if (folder / name).is_dir()), None)


def _without_secret(test: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    label = test["label"].drop_nulls()
    if len(label) and (label == "-1").all() and not (train["label"] == "-1").any():
        return test.with_columns(label=pl.lit(None, pl.String))
    return test


def _display_names(paths: dict[str, Path]) -> dict[str, str]:
    """File names, with the folder before them where two splits have the same."""
    names = [path.name for path in paths.values()]
    return {
        split: path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}"
        for split, path in paths.items()
    }


def _rename_labels(frame: pl.DataFrame, data: DataConfig) -> pl.DataFrame:
    if not data.label_names:
        return frame
    return frame.with_columns(label_sets.renamed(frame["label"], data.label_names).alias("label"))


def _check_label_names(frames: dict[str, pl.DataFrame], names: dict[str, str]) -> None:
    there = {label for frame in frames.values() for label in frame["label"].drop_nulls().unique()}
    labels = sorted({name for label in there for name in label_sets.names_in(label) or [label]})
    problems = [
        f"`data.label_names`: no row has the label `{name}`{did_you_mean(name, labels)}"
        for name in names
        if name not in labels
    ]
    if problems:
        raise KftError("\n".join(problems), f"the labels are {listed(labels)}")


READERS: dict[str, Callable[[Path, str, DataConfig, Pick], pl.DataFrame]] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "json": read_json,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "folder": read_folder,
}
PIECES: dict[str, Callable[[Path, str, DataConfig, Pick, int], Iterator[pl.DataFrame]]] = {
    "csv": csv_pieces,
    "tsv": tsv_pieces,
    "jsonl": jsonl_pieces,
    "parquet": parquet_pieces,
}
