"""A name, path or address → polars frames of examples, whatever the format.

Every frame has the columns `id` (Int64, row number in its file from 0; of several files they count
on), `key` (only with `data.key`: the row's own id), `text`, `text_pair` (only of pairs), `words`
(only where the file parts the words itself), `label` (String, null where there is none), `group`
(String, only with `data.group`), `origin` (String: the file as messages name it; of class folders
"class/name.txt") and, under their own names, the Int64 columns of `data.spans`. Other values are
strings: CSV and TSV as they stand, others in one spelling (`columns.as_string`). Text is kept as it
is, labels are stripped; words, tags and right answers are written as `kft.tasks` says.
Messages count data rows from 1.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from kft.config import FORMATS, DataConfig, SplitConfig
from kft.config.reading import display_path
from kft.data.sources import label_sets
from kft.data.sources.addresses import is_address
from kft.data.sources.arrow import is_saved_dataset, is_saved_splits, parquet_pieces, read_arrow, read_parquet
from kft.data.sources.binary import refuse_binary
from kft.data.sources.columns import OWN, LabelPolicy, Pick, Wanted, finish, listed, pick
from kft.data.sources.compressed import DAMAGES
from kft.data.sources.conll import read_conll
from kft.data.sources.documents import jsonl_pieces, read_json, read_jsonl, read_squad
from kft.data.sources.files import (
    ENDINGS,
    SPLITS,
    check_readable,
    display_names,
    ending,
    expanded,
    format_of,
    of_splits,
)
from kft.data.sources.folders import read_folder
from kft.data.sources.marked import marked_texts
from kft.data.sources.named import benchmark_splits as benchmark_splits
from kft.data.sources.named import first_rows as first_rows
from kft.data.sources.named import read_benchmark as read_benchmark
from kft.data.sources.named import read_named
from kft.data.sources.tables import csv_pieces, read_csv, read_tsv, tsv_pieces
from kft.data.sources.texts import check_encoding, read_start
from kft.data.sources.workbooks import read_excel
from kft.errors import KftError, did_you_mean
from kft.tasks.labels import names_in

__all__ = [
    "ENDINGS",
    "OWN",
    "READERS",
    "SPLITS",
    "Wanted",
    "check_encoding",
    "expanded",
    "format_of",
    "is_address",
    "marked_texts",
    "read",
    "read_file",
    "read_pieces",
]

NONE: Mapping[str, Any] = MappingProxyType({})


def read(data: DataConfig, split: SplitConfig | None = None) -> dict[str, pl.DataFrame]:
    """The frames of train, validation and test, as far as `data` names them, in that order.

    Train has the columns by which `split` cuts it as `split_group` and `split_time`; so have the
    others where their files have them.

    A test file without a label column has null labels, and so has one whose labels are all -1 where
    train has no such label: that is how secret labels are written. Of a folder of saved splits,
    `data.train` takes all that no setting names.

    Raises:
        KftError: a file or data set is missing or malformed, or `data.label_names` names a label
        that no row has.
    """
    cut_by = _cut_columns(split)
    if data.source is not None:
        frames = read_named(_wanted(data, cut_by))
    else:
        files = of_splits(data)
        names = display_names(files)
        frames = {
            part: _read_files(
                paths,
                names,
                _wanted(data, cut_by, part != "train"),
                "expected" if part == "test" else "needed",
            )
            for part, paths in files.items()
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


def _wanted(data: DataConfig, also: dict[str, tuple[str, str | int]], lenient: bool = False) -> DataConfig:
    return Wanted(**data.model_dump(), also=also, lenient=lenient) if also else data


def read_file(
    path: str | Path, data: DataConfig, need_label: bool = True, settings: Mapping[str, Any] = NONE
) -> pl.DataFrame:
    """The frame of one file or class folder with the columns that `data` names.

    `data.format` and `data.delimiter` were written for the files that `data` names: a file with
    another known ending is read by its own ending.

    Args:
        path: the file or folder.
        data: columns, header, delimiter, encoding, label names.
        need_label: whether a file without the label column is a mistake; else its labels are null.
        settings: fields of `data` that are set for this file, above all else.

    Raises:
        KftError: the file is missing or malformed.
    """
    policy = "needed" if need_label else "optional"
    files = expanded(path)
    frame = _read_files(files, display_names({"": files}), data, policy, settings)
    return _rename_labels(frame, data.model_copy(update=dict(settings)))


def _read_files(
    paths: list[Path],
    names: dict[Path, str],
    data: DataConfig,
    label: LabelPolicy,
    settings: Mapping[str, Any] = NONE,
) -> pl.DataFrame:
    """The frames of several files as one; ids count on from file to file."""
    frames, rows = [], 0
    for path in paths:
        check_readable(path)
        frame = _read_path(path, names[path], _of_file(data, path, settings), label)
        frames.append(frame.with_columns(pl.col("id") + rows))
        rows += frame.height
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal")


def read_pieces(
    path: str | Path, data: DataConfig, size: int, settings: Mapping[str, Any] = NONE
) -> Iterator[pl.DataFrame]:
    """The frame of `read_file`, without labels too, in pieces: a file of any size fits in memory.

    CSV, TSV, JSONL and Parquet come at most `size` rows at a time. What must be seen as a whole
    comes as one piece: JSON documents, class folders, questions and their choices, and texts with
    marked words.

    Raises:
        KftError: the file is missing or malformed; the pieces before the mistake have been given by
        then.
    """
    files = expanded(path) if is_address(path) else [Path(path)]
    if len(files) > 1:
        yield read_file(path, data, need_label=False, settings=settings)
        return
    path, rows = files[0], 0
    name = display_names({"": files})[path]
    own = _of_file(data, path, settings)
    read = PIECES.get(own.format or format_of(path))
    if path.is_dir() or read is None or own.group is not None or own.spans or own.max_examples is not None:
        yield read_file(path, data, need_label=False, settings=settings)
        return
    check_readable(path)
    wanted = partial(pick, where=name, data=own, label="optional")
    try:
        for piece in read(path, name, own, wanted, size):
            yield _rename_labels(finish(piece, name, own), own).with_columns(pl.col("id") + rows)
            rows += piece.height
        if not rows:
            raise KftError(f"{name}: holds no examples", "give a file with at least one row")
    except (KftError, UnicodeError, OSError, *DAMAGES):
        # Tells where in the whole file the mistake is.
        read_file(path, data, need_label=False, settings=settings)
        raise


def _of_file(data: DataConfig, path: Path, settings: Mapping[str, Any] = NONE) -> DataConfig:
    """The settings of one file: those for the training file hold as far as this one is alike.

    A file with another known ending is read as that says; a delimiter is that of files of one
    format.
    """
    named = data.train or data.validation or data.test or ""
    first, own = named if isinstance(named, str) else named[0], format_of(path)
    if first and own and ending(path) != ending(first):
        alike = own == (data.format or format_of(first))
        data = data.model_copy(update={"format": None, "delimiter": data.delimiter if alike else None})
    return data.model_copy(update=dict(settings))


def _read_path(path: Path, name: str, data: DataConfig, label: LabelPolicy) -> pl.DataFrame:
    format = data.format or format_of(path)
    if format is None:
        refuse_binary(read_start(path), name)
        reason = f"the ending {ending(path)} does not say" if ending(path) else "no ending says"
        raise KftError(
            f"{name}: {reason} what the file holds", f"set `data.format` to one of {', '.join(FORMATS)}"
        )
    if format not in READERS:
        raise KftError(
            f"no format `{format}`{did_you_mean(format, FORMATS)}", f"formats: {', '.join(FORMATS)}"
        )
    if format == "folder" and not path.is_dir():
        raise KftError(
            f"{display_path(path)}: is a file, not a class folder", "`data.format` says what a file holds"
        )
    if format == "folder" and is_saved_splits(path):
        within = sorted(entry.name for entry in path.iterdir() if is_saved_dataset(entry))
        raise KftError(
            f"{display_path(path)}: holds several splits", f"give one of its folders: {listed(within)}"
        )
    if format == "arrow" and path.is_dir() and not is_saved_dataset(path):
        raise KftError(
            f"{display_path(path)}: holds Arrow files and no dataset_info.json, so it was not saved whole",
            "save the data set again, or give one of the files",
        )
    if path.is_dir() and format not in ("folder", "arrow"):
        raise KftError(
            f"{display_path(path)}: is a folder, not a {format} file",
            '`data.format = "folder"` reads a folder with one sub-folder of .txt files per class',
        )
    frame = READERS[format](path, name, data, partial(pick, where=name, data=data, label=label))
    return finish(frame, name, data)


def _without_secret(test: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    label = test["label"].drop_nulls()
    if len(label) and (label == "-1").all() and not (train["label"] == "-1").any():
        return test.with_columns(label=pl.lit(None, pl.String))
    return test


def _rename_labels(frame: pl.DataFrame, data: DataConfig) -> pl.DataFrame:
    if not data.label_names:
        return frame
    return frame.with_columns(label_sets.renamed(frame["label"], data.label_names).alias("label"))


def _check_label_names(frames: dict[str, pl.DataFrame], names: dict[str, str]) -> None:
    values = {label for frame in frames.values() for label in frame["label"].drop_nulls().unique()}
    sets = {label: names_in(label) for label in values}
    labels = sorted({name for label in values for name in ([label] if sets[label] is None else sets[label])})
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
    "excel": read_excel,
    "folder": read_folder,
    "conll": read_conll,
    "squad": read_squad,
}
PIECES: dict[str, Callable[[Path, str, DataConfig, Pick, int], Iterator[pl.DataFrame]]] = {
    "csv": csv_pieces,
    "tsv": tsv_pieces,
    "jsonl": jsonl_pieces,
    "parquet": parquet_pieces,
}
