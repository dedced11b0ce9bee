"""CSV (RFC 4180) and TSV (no quoting)."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

import polars as pl

from kft.config import DataConfig
from kft.data.sources.columns import Columns, Pick, strings
from kft.data.sources.texts import line, open_text, read_text
from kft.errors import KftError

QUOTE_HINT = (
    'inside quotes a quote is doubled (""), or set `data.escape` to the sign before it; `data.format = "tsv"` reads quotes as '
    "ordinary text"
)
SEPARATOR = re.compile(r"sep=([^\"\r\n])[\r\n]*", re.IGNORECASE)  # the first line that Excel writes and reads
Rows = Iterator[tuple[int, list[str]]]  # (line where the row begins, its cells)


class _Broken(Exception):
    """A row that is not CSV: (line where it begins, what is wrong)."""


def read_csv(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The picked columns; quoted cells may hold delimiters, doubled quotes and line ends."""
    delimiter = _delimiter(data, ",", '"\r\n')
    place = partial(_place, partial(_csv_rows, delimiter=delimiter, data=data, strict=False), data.header, "")
    lines = io.StringIO(read_text(path, name, data, place), newline="")
    return next(_frames(_csv_rows(lines, delimiter, data), name, data, pick))


def csv_pieces(path: Path, name: str, data: DataConfig, pick: Pick, size: int) -> Iterator[pl.DataFrame]:
    """`read_csv`, `size` rows at a time."""
    delimiter = _delimiter(data, ",", '"\r\n')
    with open_text(path, name, data, newline="") as lines:
        yield from _frames(_csv_rows(lines, delimiter, data), name, data, pick, size)


def read_tsv(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The picked columns; a quote is a character like any other, and a line is a row."""
    delimiter = _delimiter(data, "\t", "\r\n")
    place = partial(_place, partial(_tsv_rows, delimiter=delimiter), data.header, "\n")
    lines = io.StringIO(read_text(path, name, data, place), newline="\n")
    return next(_frames(_tsv_rows(lines, delimiter), name, data, pick))


def tsv_pieces(path: Path, name: str, data: DataConfig, pick: Pick, size: int) -> Iterator[pl.DataFrame]:
    """`read_tsv`, `size` rows at a time."""
    delimiter = _delimiter(data, "\t", "\r\n")
    with open_text(path, name, data, newline="\n") as lines:
        yield from _frames(_tsv_rows(lines, delimiter), name, data, pick, size)


def _delimiter(data: DataConfig, default: str, forbidden: str) -> str:
    delimiter = data.delimiter or default
    if delimiter in forbidden:
        raise KftError(
            f"`data.delimiter` cannot be {json.dumps(delimiter)}", 'take for example ";", "|" or "\\t"'
        )
    return delimiter


# Python's readers and not polars': polars fills short rows with nulls, and takes a quote inside an
# unquoted cell for the beginning of a quoted one when it looks for line ends.


def _csv_rows(lines: Iterable[str], delimiter: str, data: DataConfig, strict: bool = True) -> Rows:
    csv.field_size_limit(2**31 - 1)
    lines = iter(lines)
    first = list(islice(lines, 1))
    named = SEPARATOR.fullmatch(first[0]) if first else None
    before = 0 if named is None else 1  # lines that are no rows
    if named is not None:
        first, delimiter = [], data.delimiter or named[1]
    reader = csv.reader(chain(first, lines), delimiter=delimiter, escapechar=data.escape, strict=strict)
    start = 1 + before
    try:
        for cells in reader:
            yield start, cells or [""]
            start = reader.line_num + before + 1
    except csv.Error as error:
        open_quote = "unexpected end" in str(error)
        raise _Broken(
            start, "a quote is opened and never closed" if open_quote else "text follows a closing quote"
        ) from None


def _tsv_rows(lines: Iterable[str], delimiter: str) -> Rows:
    for start, content in enumerate(lines, 1):
        yield start, content.removesuffix("\n").removesuffix("\r").split(delimiter)


def _frames(
    rows: Rows, name: str, data: DataConfig, pick: Pick, size: int | None = None
) -> Iterator[pl.DataFrame]:
    """The picked columns, `size` rows at a time or all.

    A blank line is no row, except where there is but one column.
    """
    columns: Columns | None = None
    positions: dict[str, int] = {}
    values: dict[str, list[str]] = {}
    number = 0
    try:
        for start, cells in rows:
            if _is_blank(cells) and (columns is None or len(columns) > 1):
                continue
            if columns is None:
                columns = cells if data.header else range(len(cells))
                positions = pick(columns, table=True)
                _check_twins(cells if data.header else [], positions, name)
                values = {role: [] for role in positions}
                if data.header:
                    continue
            number += 1
            if len(cells) != len(columns):
                expected = f"{len(columns)} column{'s' if len(columns) > 1 else ''}"
                raise KftError(
                    f"{name}, row {number} (line {start}): expected {expected}, got {len(cells)}",
                    "quote texts that hold the delimiter, or set `data.delimiter` or `data.format`",
                )
            for role, position in positions.items():
                values[role].append(cells[position])
            if number == data.max_examples:
                break
            if size and number % size == 0:
                yield _frame(values, name)
                values = {role: [] for role in positions}
    except _Broken as error:
        start, problem = error.args
        where = "header" if columns is None and data.header else f"row {number + 1}"
        raise KftError(f"{name}, {where} (line {start}): {problem}", QUOTE_HINT) from None
    if number == 0:
        raise KftError(
            f"{name}: holds column names and no rows",
            "if its first row is an example, set `data.header = false`",
        )
    if size is None or number % size:
        yield _frame(values, name)


def _is_blank(cells: list[str]) -> bool:
    return len(cells) == 1 and not cells[0].strip()


def _frame(values: dict[str, list[str]], name: str) -> pl.DataFrame:
    return pl.DataFrame({role: strings(column, name) for role, column in values.items()})


def _check_twins(header: list[str], positions: dict[str, int], name: str) -> None:
    """Raises KftError: a column that is read occurs twice; others may."""
    twice = [
        header[position] for position in positions.values() if header and header.count(header[position]) > 1
    ]
    if twice:
        raise KftError(
            f"{name}: the header has more than one column `{twice[0]}`",
            "rename or remove one; if the first row is an example, set `data.header = false`",
        )


def _place(rows_of: Callable[[Iterable[str]], Rows], header: bool, newline: str, before: str) -> str:
    # The mark makes sure that the row of the mistake is read, even if it is the first of its
    # characters.
    row = (
        sum(not _is_blank(cells) for _, cells in rows_of(io.StringIO(before + "?", newline=newline))) - header
    )
    return f"row {row} ({line(before)})" if row else f"header ({line(before)})"
