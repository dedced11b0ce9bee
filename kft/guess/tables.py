"""A file, folder or data set of TFDS → its first rows, all columns, and how to read it."""

import contextlib
import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kft.config import DataConfig
from kft.data import sources
from kft.data.sources import annotated, conll, squad, workbooks
from kft.errors import KftError

MOST_ROWS = 20_000
MOST_BYTES = 2**26
DELIMITERS = ("\t", ",", ";", "|")
LONG_NAME = 40  # characters; what is longer is an example, not the name of a column
TABLE_ENDINGS = (*sources.ENDINGS, ".txt", ".gz")


@dataclass(frozen=True)
class Table:
    """The beginning of a table.

    Attributes:
        columns: names, or numbers where there is no header.
        rows: their values: strings in CSV and TSV, else of any type.
        settings: of `[data]`, that the file needs to be read: format, delimiter, header, encoding.
        reasons: setting → why.
        whole: whether these are all rows.
    """

    columns: list[str] | range
    rows: list[list[Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    whole: bool = True

    def column(self, name: str | int) -> list[Any]:
        position = self.columns.index(name)
        return [row[position] for row in self.rows]


def read_table(path: Path) -> Table:
    """The beginning of a data file.

    Raises:
        KftError: it holds nothing that could be trained on.
    """
    ending = sources.format_of(path)
    if ending == "parquet":
        return _parquet(path)
    if ending == "excel":
        return _workbook(path)
    if ending == "conll":
        return _conll(path)
    text, settings, reasons, whole = _text(path)
    start = text.lstrip()[:1]
    if ending in ("json", "jsonl") or (ending is None and start in ("{", "[")):
        if ending is None:
            settings["format"] = "jsonl" if start == "{" else "json"
            reasons["format"] = f"it begins with {start}"
        columns, rows = _objects(path.name, text, whole)
    else:
        columns, rows = _cells(path, text, ending, settings, reasons)
    if not rows:
        raise KftError(f"{path.name}: holds no examples", "give a file with at least one row")
    return Table(columns, rows[:MOST_ROWS], settings, reasons, whole and len(rows) <= MOST_ROWS)


def from_objects(objects: Iterable[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of objects; a field that one lacks is None."""
    objects = list(objects)
    columns = list(dict.fromkeys(key for row in objects for key in row))
    return columns, [[row.get(column) for column in columns] for row in objects]


def _text(path: Path) -> tuple[str, dict[str, Any], dict[str, str], bool]:
    """The beginning of a file in whole lines, and its encoding where that is not UTF-8."""
    import gzip  # only here

    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        raw = file.read(MOST_BYTES)
        whole = not file.read(1)
    if not raw.strip():
        raise KftError(f"{path.name}: is empty", "write the file again")
    if not whole:
        raw = raw[: raw.rfind(b"\n") + 1]
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16"), {"encoding": "utf-16"}, {"encoding": "its first two bytes"}, whole
    with contextlib.suppress(UnicodeDecodeError):
        return raw.decode("utf-8-sig"), {}, {}, whole
    sources.read_file(path, DataConfig(train=str(path), max_examples=1)) if b"\0" in raw[:4096] else None
    why = "it is not UTF-8, and this decodes any bytes: look whether accents are right"
    return raw.decode("cp1252", "replace"), {"encoding": "cp1252"}, {"encoding": why}, whole


def _objects(name: str, text: str, whole: bool) -> tuple[list[str], list[list[Any]]]:
    try:
        document = json.loads(text)
    except ValueError:
        document = []
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                document.append(json.loads(line))
            except ValueError as error:
                raise KftError(
                    f"{name}, line {number}: not valid JSON: {error}", "one object a line, or one document"
                ) from None
    if isinstance(document, dict) and squad.is_document(document):
        document = document["data"]
    if isinstance(document, dict):
        columns = list(document.values())
        if not all(isinstance(column, list) for column in columns):
            raise KftError(
                f"{name}: is one JSON object with {', '.join(map(str, document))}, not a table",
                'write an array of objects, such as [{"text": "…", "label": "…"}, …]',
            )
        document = [dict(zip(document, row, strict=False)) for row in zip(*columns, strict=False)]
    if not all(isinstance(row, dict) for row in document):
        raise KftError(
            f"{name}: must hold JSON objects", 'such as {"text": "…", "label": "…"}, one for each example'
        )
    return from_objects(annotated.unfolded(squad.unfolded(document, name)))


def _cells(
    path: Path, text: str, ending: str | None, settings: dict[str, Any], reasons: dict[str, str]
) -> tuple[list[str] | range, list[list[str]]]:
    """Rows of a CSV or TSV file, by the dialect with most rows of one number of cells above 1."""
    own = {"csv": ",", "tsv": "\t"}.get(ending)
    tried = []
    for mark in sorted(DELIMITERS, key=lambda mark: mark != own):
        for quoted in (False, True) if mark == "\t" else (True,):
            rows = [cells for cells in _rows(text, mark, quoted) if cells not in ([], [""])]
            width, count = Counter(map(len, rows)).most_common(1)[0]
            tried.append((width > 1, count / len(rows), mark, quoted, width, rows))
    _, share, mark, quoted, width, rows = max(tried, key=lambda kept: kept[:2])  # the first of equals
    if width == 1:
        raise KftError(
            f"{path.name}: has one column, and a label is needed beside the text",
            "columns are parted by commas, tabs, semicolons or bars",
        )
    format = "csv" if quoted else "tsv"
    if format != ending:
        settings["format"] = format
        reasons["format"] = "tabs part the columns" if mark == "\t" else "it is a table, and quotes count"
    if mark != {"csv": ",", "tsv": "\t"}[format]:
        settings["delimiter"] = mark
        reasons["delimiter"] = f"it parts each row into {width} columns"
    rows = [row for row in rows if len(row) == width]
    if _is_header(rows):
        return rows[0], rows[1:]
    settings["header"] = False
    reasons["header"] = "the first row looks like the others, so columns are numbered from 0"
    return range(width), rows


def _rows(text: str, mark: str, quoted: bool) -> list[list[str]]:
    if not quoted:
        lines = itertools.islice(text.split("\n"), MOST_ROWS + 1)
        return [line.removesuffix("\r").split(mark) for line in lines]
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    with contextlib.suppress(csv.Error):
        return list(itertools.islice(reader, MOST_ROWS + 1))
    return [[text]]


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: short, all different, unlike the values below it."""
    first, others = rows[0], rows[1:]
    names = [cell.strip() for cell in first]
    if not others or len(set(names)) < len(names) or any(len(name) > LONG_NAME for name in names):
        return False
    for position, name in enumerate(names):
        below = [row[position].strip() for row in others]
        numeric = sum(map(is_number, below)) > 0.9 * len(below)
        if is_number(name):
            return False
        if numeric:
            return True
        if name in below:
            return False
    return True


def is_number(value: Any) -> bool:
    """Whether a value is a number or spells one."""
    if isinstance(value, bool) or value is None:
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str) or "_" not in value


def _workbook(path: Path) -> Table:
    """The first sheet of a workbook; where there are others, the setting that names it."""
    columns, rows, sheets = workbooks.cells(path, path.name, DataConfig(header=False))
    settings, reasons = {}, {}
    if len(sheets) > 1:
        settings["sheet"] = sheets[0]
        reasons["sheet"] = f"the first of {len(sheets)} sheets: {', '.join(sheets)}"
    filled = [[cell or "" for cell in row] for row in rows]
    if _is_header(filled):
        columns, rows, _ = workbooks.cells(path, path.name, DataConfig())
    else:
        settings["header"] = False
        reasons["header"] = "the first row looks like the others, so columns are numbered from 0"
    return Table(columns, rows[:MOST_ROWS], settings, reasons, len(rows) <= MOST_ROWS)


def _conll(path: Path) -> Table:
    """The sentences of a CoNLL file, their words in the first column and their tags in the last."""
    data = DataConfig(train=str(path), max_examples=MOST_ROWS + 1)
    frame = conll.read_conll(path, path.name, data, ())
    if frame["tags"].is_null().all():
        raise KftError(
            f"{path.name}: has one column, and a tag is needed beside each word",
            "a word and its tag stand in each line",
        )
    rows = [[json.loads(tokens), json.loads(tags)] for tokens, tags, _ in frame.iter_rows()]
    return Table(["tokens", "tags"], rows[:MOST_ROWS], whole=len(rows) <= MOST_ROWS)


def _parquet(path: Path) -> Table:
    from pyarrow import parquet  # only here

    try:
        with parquet.ParquetFile(path) as file:
            batch = next(file.iter_batches(MOST_ROWS), None)
            rows = batch.to_pylist() if batch is not None else []
            whole = file.metadata.num_rows <= MOST_ROWS
    except Exception as error:  # pyarrow's errors are as various as what is damaged
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise KftError(f"{path.name}: cannot be read as Parquet: {reason}", "write the file again") from None
    if not rows:
        raise KftError(f"{path.name}: holds no examples", "give a file with at least one row")
    return Table(*from_objects(rows), whole=whole)
