"""Parquet and Arrow files, folders that `datasets` saves, and the labels that schemas name."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import ipc, parquet

from kft.config import DataConfig
from kft.data.sources.columns import OWN, Pick, typed_strings
from kft.data.sources.tagged import LISTS
from kft.errors import KftError

# What `datasets` writes beside its Arrow files, and in the folder of several splits.
INFO, STATE, SPLITS_FILE = "dataset_info.json", "state.json", "dataset_dict.json"
NO_LABEL = -1  # how `datasets` writes a label that is kept secret
Names = dict[str, list[str]]  # column → names of its values, from 0


def read_parquet(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The picked columns."""
    with _mistakes(path, name, "Parquet"), parquet.ParquetFile(path) as file:
        # Polars' own reader aborts the process on some damaged files.
        columns = file.schema_arrow.names
        positions = pick(columns)
        table = file.read(list(dict.fromkeys(columns[position] for position in positions.values())))
        names = _named(class_names(file.schema_arrow), data.label_names)
        return _table_frame(table.slice(0, data.max_examples), positions, columns, name, names)


def parquet_pieces(path: Path, name: str, data: DataConfig, pick: Pick, size: int) -> Iterator[pl.DataFrame]:
    """`read_parquet`, at most `size` rows at a time."""
    with _mistakes(path, name, "Parquet"), parquet.ParquetFile(path) as file:
        columns = file.schema_arrow.names
        positions = pick(columns)
        names = _named(class_names(file.schema_arrow), data.label_names)
        for batch in file.iter_batches(
            size, columns=list(dict.fromkeys(columns[position] for position in positions.values()))
        ):
            yield _table_frame(pa.Table.from_batches([batch]), positions, columns, name, names)


def read_arrow(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The picked columns of an Arrow file, or of all files of a saved folder in their order."""
    frames = []
    info_names = _info_names(path, name)
    for file in _arrow_files(path, name):
        with _mistakes(file, name, "Arrow"), pa.memory_map(str(file)) as source:
            table = _read_ipc(source)
            columns = table.column_names
            positions = pick(columns)
            names = _named(info_names | class_names(table.schema), data.label_names)
            frames.append(
                _table_frame(
                    table.select(list(dict.fromkeys(positions.values()))), positions, columns, name, names
                )
            )
    return pl.concat(frames).head(data.max_examples) if data.max_examples else pl.concat(frames)


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder is one that `Dataset.save_to_disk` wrote."""
    return (path / INFO).is_file() and any(path.glob("*.arrow"))


def is_saved_splits(path: Path) -> bool:
    """Whether a folder is one that `DatasetDict.save_to_disk` wrote: a folder for each split."""
    return os.path.isfile(path / SPLITS_FILE)  # noqa: PTH113 (Path's raises for a name that is too long)


def class_names(schema: pa.Schema) -> Names:
    """The names of the classes that `datasets` keeps in the schema of its files (`ClassLabel`)."""
    written = (schema.metadata or {}).get(b"huggingface")
    with contextlib.suppress(ValueError, AttributeError):
        return _features_names((json.loads(written or "{}").get("info") or {}).get("features"))
    return {}


def _features_names(features: Any) -> Names:
    result = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        feature = _inner(feature)
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            names = list(names.values()) if isinstance(names, dict) else names
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                result[column] = names
    return result


def _inner(feature: Any) -> Any:
    """What a list holds, in the three ways that `datasets` has written lists."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    if isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        return feature.get("feature")
    return feature


def _named(names: Names, label_names: dict[str, str]) -> Names:
    """The names, without those of columns whose numbers the user has named: numbers stay."""
    return {
        column: [str(number) for number in range(len(known))]
        if any(str(number) in label_names and str(number) not in known for number in range(len(known)))
        else known
        for column, known in names.items()
    }


def _info_names(path: Path, name: str) -> Names:
    if not path.is_dir():
        return {}
    return _features_names(_read_json(path / INFO, name).get("features"))


def _arrow_files(path: Path, name: str) -> list[Path]:
    """The files that a folder's state names, since older ones may lie beside them."""
    if not path.is_dir():
        return [path]
    state = _read_json(path / STATE, name) if (path / STATE).is_file() else {}
    with contextlib.suppress(TypeError, KeyError):
        if listed := [path / file["filename"] for file in state["_data_files"]]:
            return listed
    return sorted(path.glob("*.arrow"))


def _read_json(file: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise KftError(f"{name}: {file.name} cannot be read: {error}", "save the data set again") from None
    return content if isinstance(content, dict) else {}


def _read_ipc(source: pa.NativeFile) -> pa.Table:
    try:
        return ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return ipc.open_file(source).read_all()


def _table_frame(
    table: pa.Table, positions: dict[str, int], columns: list[str], name: str, names: Names
) -> pl.DataFrame:
    table = table.replace_schema_metadata(None)
    for i in dict.fromkeys(positions.values()):
        table = _with_text(table, columns[i], name)
    table.validate(full=True)
    frame = pl.from_arrow(table)
    return pl.DataFrame(
        {
            role: frame[columns[i]]
            if role.startswith(OWN)
            else _as_json(frame[columns[i]], names.get(columns[i]))
            if role in LISTS
            else _listed(frame[columns[i]], name, columns[i], names.get(columns[i]), role == "label")
            for role, i in positions.items()
        }
    )


def _with_text(table: pa.Table, title: str, name: str) -> pa.Table:
    """The table with bytes as text; polars takes strings that are not UTF-8 as they come.

    Raises:
        KftError: they are no UTF-8; names the row.
    """
    place, kind = table.column_names.index(title), table.schema.field(title).type
    if not any(of(kind) for of in (pa.types.is_binary, pa.types.is_large_binary)):
        if not any(of(kind) for of in (pa.types.is_string, pa.types.is_large_string)):
            return table
        try:
            table.column(place).validate(full=True)
        except pa.ArrowInvalid:
            pass
        else:
            return table
    texts = []
    for row, value in enumerate(table.column(place).cast(pa.large_binary()).to_pylist(), 1):
        try:
            texts.append(None if value is None else value.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise KftError(
                f"{name}, row {row}: `{title}` is not UTF-8 text (byte 0x{value[error.start]:02x})",
                "write the column again as UTF-8 text",
            ) from None
    return table.set_column(place, title, pa.array(texts, pa.large_string()))


def _as_json(column: pl.Series, names: list[str] | None) -> pl.Series:
    """Lists as JSON; numbers of classes in them as their names, and -1 and -100 as none."""
    if column.dtype == pl.String:
        return column
    known = dict(enumerate(names or ()))
    rows = [
        [known.get(item) if names and isinstance(item, int) else item for item in row]
        if isinstance(row, list)
        else row
        for row in column.to_list()
    ]
    texts = [None if row is None else json.dumps(row, ensure_ascii=False) for row in rows]
    return pl.Series(column.name, texts, pl.String)


def _listed(column: pl.Series, name: str, title: str, names: list[str] | None, label: bool) -> pl.Series:
    """A column's strings; a label may be a list of one."""
    if label and column.dtype == pl.List:
        return typed_strings(column, name, title, lists=True)
    return _by_name(column, name, title, names)


def _by_name(column: pl.Series, name: str, title: str, names: list[str] | None) -> pl.Series:
    """A column's strings; numbers of classes as their names, and -1 as no label."""
    if names is None or not column.dtype.is_integer():
        return typed_strings(column, name, title)
    strange = column.drop_nulls().filter(~column.drop_nulls().is_between(NO_LABEL, len(names) - 1))
    if len(strange):
        raise KftError(
            f"{name}: `{title}` holds the class {strange[0]}, and the file's schema names {len(names)} classes",
            "write the data set again with the names of all its classes",
        )
    return column.replace_strict(dict(enumerate(names)), default=None, return_dtype=pl.String)


@contextlib.contextmanager
def _mistakes(path: Path, name: str, format: str) -> Iterator[None]:
    if path.is_file() and path.stat().st_size == 0:
        raise KftError(f"{name}: is empty", "write the file again, it may have been cut while it was copied")
    try:
        yield
    except KftError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # a panic is no Exception
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise KftError(
            f"{name}: cannot be read as {format}: {reason}", "copy or write the file again"
        ) from None
