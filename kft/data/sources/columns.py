"""Which columns hold the text and the label, and the one spelling of their values."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import polars as pl

from kft.config import FRAME_COLUMNS, DataConfig
from kft.data.sources import annotated, answered, label_sets, marked, tagged
from kft.errors import KftError, closest
from kft.tasks.labels import spelled

# `needed`: a missing label column is a mistake. `expected`: it may be missing, but a similar name
# is a mistake (test files often come without labels). `optional`: it may be missing.
LabelPolicy = Literal["needed", "expected", "optional"]
Pick = Callable[..., dict[str, int]]  # `pick` that waits for the columns
OWN = "own:"  # before the names of a file's own columns
COMMA_NUMBER = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)?(,\d+)?$"
Columns = Sequence[str] | range  # names, or numbers where there is no header


class Wanted(DataConfig):
    """The settings of a file, and further columns of it that are kept.

    Attributes:
        also: column of the frame → (setting that asks for it, column of the file).
        lenient: whether a file may lack the columns of `also`.
        keep: whether all columns of the file are kept too, as they are, their names after `OWN`.
    """

    also: dict[str, tuple[str, str | int]] = {}
    lenient: bool = False
    keep: bool = False


def pick(
    columns: Columns, where: str, data: DataConfig, label: LabelPolicy, table: bool = False
) -> dict[str, int]:
    """Column of the frame (text, label, group, those of `data.spans` …) → its position in the file.

    Args:
        columns: all columns of the file.
        where: the file, for messages.
        data: names or numbers of the wanted columns.
        label: whether the label column may be missing.
        table: whether the file is CSV or TSV, whose header may be amiss.

    Raises:
        KftError: wanted columns are missing; names all of them.
    """
    if (
        label == "optional"
        and data.tokens is not None
        and data.tokens not in columns
        and data.text in columns
    ):
        data = data.model_copy(update={"tokens": None, "tags": None})  # texts, whose words are to be found
    numbered = isinstance(columns, range)
    positions, problems, twins = {}, [], []
    for role, setting, wanted in wanted_columns(data):
        near = None if numbered else closest(str(wanted), columns)
        if not numbered and wanted not in columns and isinstance(wanted, int):
            wanted = str(wanted)  # such as pandas' names of columns without a name
        if isinstance(wanted, int) == numbered and wanted in columns:
            positions[role] = columns.index(wanted)
            if columns.count(wanted) > 1:
                twins.append(f"{where}: has {columns.count(wanted)} columns `{wanted}` (`{setting}`)")
        elif role in may_lack(data):
            continue
        elif not _is_label(role) or label == "needed" or (label == "expected" and near):
            suggestion = f", did you mean `{near}`?" if near else ""
            problems.append(f"{where}: no column `{wanted}` (`{setting}`){suggestion}")
    if problems:
        raise KftError("\n".join(problems), _column_hint(columns, table))
    if twins:
        raise KftError("\n".join(twins), "rename or remove one of them")
    if getattr(data, "keep", False):
        positions |= {f"{OWN}{column}": position for position, column in enumerate(columns)}
    return positions


def wanted_columns(data: DataConfig) -> list[tuple[str, str, str | int]]:
    """(column of the frame, setting that asks for it, column of the file) of all columns."""
    roles = ("text", "text_pair", "label", "group")
    if data.question is not None:
        return _of_questions(data)
    if data.tokens is not None:
        roles = ("tokens", "tags", "group")
    elif data.entities is not None:
        roles = ("text", "entities", "group")
    elif data.labels is not None:
        roles = ("text", "text_pair", "group")
    wanted = [
        (role, f"data.{role}", getattr(data, role)) for role in roles if getattr(data, role) is not None
    ]
    wanted += [(f"{label_sets.PREFIX}{label}", "data.labels", label) for label in data.labels or ()]
    wanted += [(role, *column) for role, column in getattr(data, "also", {}).items()]
    return wanted + [(str(end), "data.spans", end) for end in dict.fromkeys(span_columns(data))]


def _of_questions(data: DataConfig) -> list[tuple[str, str, str | int]]:
    roles = {"text": "question", "text_pair": "context", "answers": "answers", "key": "key"}
    wanted = [(role, f"data.{key}", getattr(data, key)) for role, key in roles.items()]
    wanted = [column for column in wanted if column[2] is not None]
    return wanted + [(role, *column) for role, column in getattr(data, "also", {}).items()]


def may_lack(data: DataConfig) -> set[str]:
    """The columns of the frame that a file may lack: its rows' own ids, and those kept besides."""
    return {"key"} | (set(getattr(data, "also", {})) if getattr(data, "lenient", False) else set())


def _is_label(role: str) -> bool:
    return role in ("label", "tags", "entities", "answers") or role.startswith(label_sets.PREFIX)


def span_columns(data: DataConfig) -> list[str | int]:
    """The columns of the marked words' ends, as the config names them."""
    return [end for _, *ends in data.spans or [] for end in ends]


def _column_hint(columns: Columns, table: bool) -> str:
    if isinstance(columns, range):
        return f"`data.header = false`: the columns are numbers from 0 to {len(columns) - 1}"
    hint = f"the columns are {listed(columns)}"
    if not table:
        return hint
    other = next((mark for mark in "\t;,|" if mark in columns[0]), None) if len(columns) == 1 else None
    if other:
        return f"{hint}; to split it, set `data.delimiter = {json.dumps(other)}`"
    return f"{hint}; if the first row is an example, set `data.header = false` and number the columns from 0"


def finish(frame: pl.DataFrame, name: str, data: DataConfig) -> pl.DataFrame:
    """All columns in their order, with ids; at most `data.max_examples` rows.

    Raises:
        KftError: there are no rows, a row stands in no group, or its marked words do not stand in
        its text.
    """
    if frame.height == 0:
        raise KftError(f"{name}: holds no examples", "give a file with at least one row")
    _check_columns(frame, name, data)
    frame = answered.with_golds(tagged.with_words(frame, name), name)
    frame = label_sets.with_sets(_of_choices(frame), name, data)
    label = pl.col("label").str.strip_chars() if "label" in frame.columns else pl.lit(None, pl.String)
    if data.decimal == ",":
        label = pl.when(label.str.contains(COMMA_NUMBER)).then(_with_point(label)).otherwise(label)
    frame = frame.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("id"),
        pl.when(label != "").then(label).alias("label"),
        pl.col("origin") if "origin" in frame.columns else pl.lit(name).alias("origin"),
    )
    order = (*FRAME_COLUMNS, *dict.fromkeys(map(str, span_columns(data))))
    kept = [column for column in frame.columns if column.startswith(OWN)]
    present = [column for column in order if column in frame.columns]
    frame = _first(frame.select(*present, *kept), data.max_examples)
    return marked.with_offsets(frame, name, data.spans)


def _of_choices(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, its labels that are several choices of an annotation program as sets."""
    if "label" not in frame.columns or not frame["label"].str.starts_with("{").any():
        return frame
    labels = frame["label"].drop_nulls().unique().to_list()
    return frame.with_columns(pl.col("label").replace(labels, list(map(annotated.spelled, labels))))


def _with_point(label: pl.Expr) -> pl.Expr:
    return label.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)


def _check_columns(frame: pl.DataFrame, name: str, data: DataConfig) -> None:
    """Raises KftError: a class folder or built-in source lacks columns that are asked for."""
    missing = [
        (column, setting) for column, setting, _ in wanted_columns(data)[1:] if column not in frame.columns
    ]
    lacking = [
        setting for column, setting in missing if not _is_label(column) and column not in may_lack(data)
    ]
    if "text" in frame.columns and data.tokens is not None:
        lacking = []  # texts in place of words
    lacking = [
        setting
        for setting in dict.fromkeys(lacking)
        if setting not in ("data.text_pair", "data.label", "data.labels")
    ]
    if lacking:
        settings = ", ".join(f"`{setting}`" for setting in lacking)
        raise KftError(f"{name}: has no columns for {settings}", "give a CSV, JSONL or Parquet file")
    if data.group is not None and (empty := (frame["group"].fill_null("") == "").arg_true()).len():
        raise KftError(
            f"{name}, row {empty[0] + 1}: `{data.group}` is empty, so it belongs to no question",
            "`data.group` names the column that the rows of one question share",
        )


def _first(frame: pl.DataFrame, count: int | None) -> pl.DataFrame:
    """The first rows; of class folders, sorted by class, the first of every class in turn.

    Of questions only whole ones: the last may have been cut, so it is left out.
    """
    if count is not None and frame.height >= count and "group" in frame.columns:
        frame = frame.head(count)
        whole = frame.filter(pl.col("group") != pl.col("group").last())
        return frame if whole.is_empty() else whole
    if count is None or frame.height <= count:
        return frame
    if frame["origin"].n_unique() == 1:
        return frame.head(count)
    turn = pl.int_range(pl.len()).over("label")
    return frame.sort(turn, "id").head(count).sort("id")


def as_string(value: Any) -> str | None:
    """The one spelling of a value; None and the float NaN are None.

    3 and 3.0 are "3", True is "true", 0.25 is "0.25".

    Raises:
        TypeError: it is a list, an object, or anything else that no text or label can be.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        # Beyond 2 ** 53 a float is no longer exact to the unit, and digits would be made up.
        whole = value.is_integer() and abs(value) <= 2**53
        return None if math.isnan(value) else str(int(value)) if whole else repr(value)
    if isinstance(value, Decimal):
        return None if value.is_nan() else _plain(value)
    raise TypeError(type(value).__name__)


def _plain(value: Decimal) -> str:
    """All digits of a decimal number, less the zeros at its end: 3.00 is "3"."""
    digits = f"{value:f}" if value else "0"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def strings(values: list[Any], name: str, title: str = "", lists: bool = False) -> pl.Series:
    """A column's values in their one spelling; with `lists` a list of names is a set of labels.

    Raises:
        KftError: the first row whose value is no string, number or boolean.
    """
    if not set(map(type, values)) <= {str, type(None)}:
        values = [_as_string(value, name, title, row, lists) for row, value in enumerate(values, 1)]
    try:
        return pl.Series(values, dtype=pl.String)
    except UnicodeEncodeError:
        row = next(row for row, value in enumerate(values, 1) if value and not _is_unicode(value))
        raise KftError(
            f"{name}, row {row}: `{title}` holds half a character (a lone surrogate)",
            "write the text again with an encoder that checks it, or remove the row",
        ) from None


def _as_string(value: Any, name: str, title: str, row: int, lists: bool) -> str | None:
    try:
        if lists and (names := value if isinstance(value, list) else annotated.choices(value)) is not None:
            return spelled(as_string(item) or "" for item in names)
        return as_string(value)
    except TypeError:
        raise KftError(
            f"{name}, row {row}: `{title}` must be a string, number or boolean, got {kind(value)}",
            "`data.text`, `data.text_pair` and `data.label` name the columns",
        ) from None


def _is_unicode(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def typed_strings(column: pl.Series, name: str, title: str, lists: bool = False) -> pl.Series:
    """`strings` for a column that has a type."""
    dtype = column.dtype
    if dtype.is_float() and dtype != pl.Float64:
        column = column.cast(pl.String).cast(pl.Float64)  # 0.1 stays 0.1, not 0.10000000149011612
    if column.dtype == pl.Float64 or dtype.is_decimal() or dtype.is_nested() or dtype == pl.Object:
        return strings(column.to_list(), name, title, lists).alias(column.name)
    return column.cast(pl.String)


def array_strings(values: np.ndarray, name: str, title: str) -> pl.Series:
    """`strings` for a NumPy array; bytes are UTF-8."""
    if values.dtype != object:
        return typed_strings(pl.Series(values), name, title)
    texts = []
    for row, value in enumerate(values.tolist(), 1):
        try:
            texts.append(value.decode("utf-8") if isinstance(value, bytes) else value)
        except UnicodeDecodeError as error:
            raise KftError(
                f"{name}, row {row}: `{title}` is not UTF-8 text (byte 0x{value[error.start]:02x})",
                "write the data set again with UTF-8 text",
            ) from None
    return strings(texts, name, title)


def listed(names: Iterable[Any], most: int = 20) -> str:
    """Names for a message, long ones and long lists cut."""
    cut = [name if len(name) <= 40 else name[:39] + "…" for name in map(str, names)]
    rest = f" and {len(cut) - most} more" if len(cut) > most else ""
    return ", ".join(f"`{name}`" for name in cut[:most]) + rest


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    words = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return words.get(
        type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
    )
