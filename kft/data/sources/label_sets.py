"""Labels of rows that may have several, or none: from columns, or parted by a separator, to the
one spelling of a set.
"""

from typing import TYPE_CHECKING

import polars as pl

from kft.errors import KftError
from kft.tasks.labels import names_in, spelled

if TYPE_CHECKING:
    from kft.config import DataConfig

YES, NO = ("1", "1.0", "true"), ("0", "0.0", "false")  # of any case
MISSING = ("", "nan")
PREFIX = "label "  # of the columns of a frame that hold whether a row has a label


def renamed(labels: pl.Series, new: dict[str, str]) -> pl.Series:
    """The labels with other names, also inside of sets."""
    made = {}
    for label in labels.drop_nulls().unique():
        names = names_in(label)
        made[label] = new.get(label, label) if names is None else spelled(new.get(n, n) for n in names)
    return labels.replace(list(made), list(made.values())) if made else labels


def with_sets(frame: pl.DataFrame, name: str, data: "DataConfig") -> pl.DataFrame:
    """The frame with a column "label" of sets, from the columns of `data.labels`, or parted by
    `data.label_separator`.

    Raises:
        KftError: a cell of `data.labels` is neither 1 nor 0; names the row.
    """
    if data.labels is not None:
        columns = {str(label): f"{PREFIX}{label}" for label in data.labels}
        there = [column for column in columns.values() if column in frame.columns]
        sets = _of_columns(frame, columns, name) if there else [None] * frame.height
        return frame.drop(there).with_columns(pl.Series("label", sets, pl.String))
    if data.label_separator is not None and "label" in frame.columns:
        made = {label: _parted(label, data.label_separator) for label in frame["label"].drop_nulls().unique()}
        return frame.with_columns(pl.col("label").replace(list(made), list(made.values())))
    return frame


def _parted(label: str, separator: str) -> str:
    return label if names_in(label) is not None else spelled(label.split(separator))


def _of_columns(frame: pl.DataFrame, columns: dict[str, str], name: str) -> list[str | None]:
    """The sets of the rows; None where a cell is empty."""
    cells = {
        label: frame[column].fill_null("").str.strip_chars().str.to_lowercase()
        for label, column in columns.items()
    }
    for label, values in cells.items():
        strange = (~values.is_in([*YES, *NO, *MISSING])).arg_true()
        if len(strange):
            row = int(strange[0])
            raise KftError(
                f"{name}, row {row + 1}: `{label}` must be 1 or 0, got: {frame[columns[label]][row]!r}",
                "`data.labels` names columns of 1 (the row has the label) and 0",
            )
    rows = zip(*(values.to_list() for values in cells.values()), strict=True)
    return [
        None
        if set(MISSING) & set(row)
        else spelled(label for label, cell in zip(cells, row, strict=True) if cell in YES)
        for row in rows
    ]
