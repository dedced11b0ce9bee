"""Excel workbooks (.xlsx, .xlsm): the cells of a sheet, by the type that each of them has."""

import datetime
import importlib.util
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from kft.config import DataConfig
from kft.data.sources import compressed
from kft.data.sources.columns import Columns, Pick, as_string, listed, strings
from kft.errors import KftError, did_you_mean

ERROR = "e"  # the type of a cell such as #N/A
Cells = list[str | None]


def read_excel(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The picked columns of `data.sheet`, else of the first sheet."""
    columns, rows, _ = cells(path, name, data)
    positions = pick(columns, table=True)
    if not rows:
        raise KftError(
            f"{name}: holds column names and no rows",
            "if its first row is an example, set `data.header = false`",
        )
    return pl.DataFrame(
        {role: strings([row[i] for row in rows], name, str(columns[i])) for role, i in positions.items()}
    )


def cells(path: Path, name: str, data: DataConfig) -> tuple[Columns, list[Cells], list[str]]:
    """The columns of a sheet, its rows in one spelling, and the names of all sheets.

    Formulas count by the value that was saved with them. Empty cells and errors such as #N/A are
    missing, rows without any value are no rows, and a column without a name has its letter.

    Raises:
        KftError: openpyxl is not installed, the file is no workbook, or has no such sheet.
    """
    if importlib.util.find_spec("openpyxl") is None:
        raise KftError(f"{name}: reading Excel files needs the package openpyxl", "pip install 'kft[excel]'")
    import openpyxl  # an extra

    with warnings.catch_warnings(), compressed.open_bytes(path) as file:
        warnings.simplefilter("ignore")  # of colours and lists to choose from, which are no values
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        except Exception as error:  # as various as what is damaged
            raise _unreadable(name, error) from None
        sheet = _sheet(book, name, data.sheet)
        sheet.reset_dimensions()  # some programs write wrong ones
        most = None if data.max_examples is None else data.max_examples + data.header
        try:
            rows = [row for row in map(_spelled, sheet.iter_rows()) if any(c is not None for c in row)]
        except Exception as error:
            raise _unreadable(name, error) from None
        rows = list(islice(rows, most))
    width = max(map(len, rows), default=0)
    rows = [row + [None] * (width - len(row)) for row in rows]
    if not rows:
        raise KftError(f"{name}: the sheet `{sheet.title}` is empty", _sheets_hint(book.sheetnames))
    if not data.header:
        return range(width), rows, book.sheetnames
    letters = map(openpyxl.utils.get_column_letter, range(1, width + 1))
    columns = [letter if cell is None else cell for cell, letter in zip(rows[0], letters, strict=True)]
    return columns, rows[1:], book.sheetnames


def _sheet(book: Any, name: str, wanted: str | None) -> Any:
    titles = [sheet.title for sheet in book.worksheets]
    if not titles:
        raise KftError(f"{name}: has no sheet of cells", "save the table as a sheet, or as CSV UTF-8")
    if wanted is None:
        return book.worksheets[0]
    if wanted not in titles:
        raise KftError(
            f"{name}: no sheet `{wanted}` (`data.sheet`){did_you_mean(wanted, titles)}", _sheets_hint(titles)
        )
    return book[wanted]


def _sheets_hint(titles: list[str]) -> str:
    return f"`data.sheet` names the sheet; there are {listed(titles)}"


def _spelled(row: tuple) -> Cells:
    return [None if cell.data_type == ERROR else _value(cell.value) for cell in row]


def _value(value: Any) -> str | None:
    """A cell in the one spelling of values; a date without a time of day is the day alone."""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return str(value)
    text = as_string(value)
    return text or None


def _unreadable(name: str, error: Exception) -> KftError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return KftError(
        f"{name}: cannot be read as an Excel workbook: {reason}",
        "save it again in Excel as .xlsx, or as CSV UTF-8",
    )
