"""Labels of rows that have several or none, from columns or parted, in their one spelling."""

from typing import TYPE_CHECKING

import polars as pl

from kft.errors import KftError
from kft.tasks import words
from kft.tasks.labels import names_in, spelled

if TYPE_CHECKING:
    from kft.config import DataConfig

YES, NO = ("1", "1.0", "true"), ("0", "0.0", "false")  # of any case
MISSING = ("", "nan")
PREFIX = "label "  # of the columns of a frame that hold whether a row has a label


def renamed(labels: pl.Series, new: dict[str, str]) -> pl.Series:
    """The labels with other names, also inside of sets."""
    spellings = {}
    for label in labels.drop_nulls().unique():
        if (tags := words.tags_in(label)) is not None:
            spellings[label] = words.written_tags(tag and _renamed_tag(tag, new) for tag in tags)
            continue
        names = names_in(label)
        spellings[label] = new.get(label, label) if names is None else spelled(new.get(n, n) for n in names)
    return labels.replace(list(spellings), list(spellings.values())) if spellings else labels


def _renamed_tag(tag: str, new: dict[str, str]) -> str:
    """A tag with another name for itself or for its type."""
    prefix, kind = words.parts(tag)
    if tag in new or not prefix or kind not in new:
        return new.get(tag, tag)
    return f"{prefix}-{new[kind]}"


def with_sets(frame: pl.DataFrame, name: str, data: "DataConfig") -> pl.DataFrame:
    """The frame with a column "label" of sets, by `data.labels` or `data.label_separator`.

    Raises:
        KftError: a cell of `data.labels` is neither 1 nor 0; names the row.
    """
    if data.labels is not None:
        columns = {str(label): f"{PREFIX}{label}" for label in data.labels}
        present = [column for column in columns.values() if column in frame.columns]
        sets = _of_columns(frame, columns, name) if present else [None] * frame.height
        return frame.drop(present).with_columns(pl.Series("label", sets, pl.String))
    if data.label_separator is not None and "label" in frame.columns:
        spellings = {
            label: _parted(label, data.label_separator) for label in frame["label"].drop_nulls().unique()
        }
        return frame.with_columns(pl.col("label").replace(list(spellings), list(spellings.values())))
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
