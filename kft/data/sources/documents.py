"""JSON and JSONL."""

import contextlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from kft.config import DataConfig
from kft.data.sources import annotated, squad
from kft.data.sources.columns import OWN, Pick, kind, strings, wanted_columns
from kft.data.sources.tagged import LISTS
from kft.data.sources.texts import line, of_json, open_text, read_text
from kft.errors import KftError

JSON_HINT = (
    "JSON is UTF-8 whatever `data.encoding` says: convert the file, for example iconv -f cp1252 -t utf-8"
)
Row = dict[str, Any]


def read_json(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The picked columns of one document, or of one object a line as in many .json files."""
    text = read_text(path, name, of_json(path, data), hint=JSON_HINT)
    try:
        rows = _document_rows(json.loads(text), name)
    except json.JSONDecodeError as error:
        if not _is_json_lines(text, error):
            if (count := _count_objects(text)) > 1:
                raise KftError(
                    f"{name}: holds {count} JSON objects one after the other, neither one document nor one a line",
                    f"put brackets around and commas between them, or one in each line: jq -c . {name}",
                ) from None
            hint = _json_hint(text, 'one object a line is JSONL: `data.format = "jsonl"`')
            raise KftError(f"{name}, line {error.lineno}: not valid JSON: {_message(error)}", hint) from None
        rows = list(islice(_json_lines(io.StringIO(text, newline="\n"), name), data.max_examples))
    except (ValueError, RecursionError) as error:
        raise KftError(
            f"{name}: JSON that cannot be read: {error}",
            "write numbers with fewer digits and lists with fewer levels",
        ) from None
    return _objects(rows, name, data, pick)


def read_squad(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The questions of a SQuAD document; `read_json` reads it too, and does not insist on one."""
    text = read_text(path, name, of_json(path, data), hint=JSON_HINT)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KftError(f"{name}: not valid JSON: {error}", squad.HINT) from None
    if not squad.is_document(document):
        raise KftError(f"{name}: is no SQuAD document", squad.HINT)
    return _objects(document["data"], name, data, pick)


def read_jsonl(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The picked columns; blank lines are no rows, and a field that an object lacks is null."""
    lines = io.StringIO(read_text(path, name, of_json(path, data), _place, JSON_HINT), newline="\n")
    return _objects(list(islice(_json_lines(lines, name), data.max_examples)), name, data, pick)


def jsonl_pieces(path: Path, name: str, data: DataConfig, pick: Pick, size: int) -> Iterator[pl.DataFrame]:
    """`read_jsonl`, `size` rows at a time; the first rows must hold every field that is read."""
    known: dict[str, None] = {}
    with open_text(path, name, of_json(path, data), newline="\n") as lines:
        rows = _json_lines(lines, name)
        while piece := list(islice(rows, size)):
            known |= dict.fromkeys(key for row in piece for key in row)
            yield _objects([dict.fromkeys(known) | row for row in piece], name, data, pick)


def _is_json_lines(text: str, error: json.JSONDecodeError) -> bool:
    if error.msg != "Extra data":
        return False
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(text.lstrip().split("\n", 1)[0]), dict)
    return False


def _json_lines(lines: Iterable[str], name: str) -> Iterator[Row]:
    count = 0
    for number, ended in enumerate(lines, 1):
        content = ended.removesuffix("\n")
        if not content.strip():
            continue
        count += 1
        where = f"{name}, row {count} (line {number})"
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise KftError(f"{where}: not valid JSON: {_message(error)}", _line_hint(content)) from None
        except (ValueError, RecursionError) as error:
            raise KftError(
                f"{where}: JSON that cannot be read: {error}",
                "write numbers with fewer digits and lists with fewer levels",
            ) from None
        if not isinstance(row, dict):
            raise KftError(
                f"{where}: must be a JSON object, got {kind(row)}", 'such as {"text": "…", "label": "…"}'
            )
        yield row


def _count_objects(text: str) -> int:
    """How many JSON objects follow each other with only space between; 0 for anything else."""
    decoder, place, count = json.JSONDecoder(), 0, 0
    try:
        while place < len(text):
            value, place = decoder.raw_decode(text, place)
            if not isinstance(value, dict):
                return 0
            count += 1
            place += len(text[place:]) - len(text[place:].lstrip())
    except (ValueError, RecursionError):
        return 0
    return count


def _line_hint(content: str) -> str:
    """What is wrong with a line of JSONL that is no JSON."""
    content = content.strip()
    if content.endswith(",") and _is_object(content[:-1]):
        return 'the line ends with a comma: remove it; with brackets around all lines it is `data.format = "json"`'
    if _count_objects(content) > 1:
        return "the line holds several objects: write one a line"
    if content in ("{", "["):
        over_lines = "objects over several lines are made one a line with jq -c . FILE"
        return f'set `data.format = "json"` for one document over many lines; {over_lines}'
    return _json_hint(content, "JSONL holds one object a line")


def _json_hint(text: str, other: str) -> str:
    start = re.match(r"[\s\[]*{\s*(')?", text)
    if start and start[1]:
        return "JSON has double quotes; Python's json.dumps writes them"
    return other


def _is_object(content: str) -> bool:
    with contextlib.suppress(ValueError, RecursionError):
        return isinstance(json.loads(content), dict)
    return False


def _message(error: json.JSONDecodeError) -> str:
    return f"{error.msg} (column {error.colno})"


def _place(before: str) -> str:
    # The mark makes sure that the row of the mistake is read.
    row = sum(1 for content in (before + "?").split("\n") if content.strip())
    return f"row {row} ({line(before)})"


def _document_rows(document: Any, name: str) -> list[Row]:
    """The rows of an array of objects, an object of columns (arrays or as pandas writes), or one.

    An object with one array of objects among other fields, such as {"version": "1", "data": [{…},
    …]}, has its rows there.
    """
    if isinstance(document, list):
        for number, row in enumerate(document, 1):
            if not isinstance(row, dict):
                raise KftError(
                    f"{name}, row {number}: must be a JSON object, got {kind(row)}",
                    'such as [{"text": "…", "label": "…"}, …]',
                )
        return document
    if not isinstance(document, dict):
        raise KftError(
            f"{name}: must be an array of objects or an object of columns, got {kind(document)}",
            'such as [{"text": "…", "label": "…"}, …]',
        )
    columns = list(document.values())
    arrays = [column for column in columns if isinstance(column, list)]
    if len(arrays) == 1 and arrays[0] and all(isinstance(row, dict) for row in arrays[0]):
        return arrays[0]
    if columns and all(isinstance(column, dict) for column in columns):
        if len({tuple(column) for column in columns}) > 1:
            raise KftError(f"{name}: the columns have different row names", "write an array of objects")
        columns = [list(column.values()) for column in columns]
    if not all(isinstance(column, list) for column in columns):
        return [document]
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"`{key}` {len(column)}" for key, column in zip(document, columns, strict=True))
        raise KftError(f"{name}: the columns are not equally long: {lengths}", "write an array of objects")
    return [dict(zip(document, row, strict=True)) for row in zip(*columns, strict=True)]


def _objects(rows: list[Row], name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    rows = squad.unfolded(rows, name)[: data.max_examples]
    rows = annotated.unfolded(rows)
    if not rows:
        raise KftError(f"{name}: holds no examples", "give a file with at least one object")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    columns += _nested(rows, columns, data)
    positions = pick(columns)
    return pl.DataFrame({role: _column(rows, columns[i], name, role) for role, i in positions.items()})


def _column(rows: list[Row], field: str, name: str, role: str) -> pl.Series:
    """The values of a field; of a column that is only kept, lists and objects as JSON."""
    values = [_field(row, field) for row in rows]
    if role.startswith(OWN) or role in LISTS:
        values = [json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for v in values]
    return strings(values, name, field, lists=role == "label")


def _nested(rows: list[Row], columns: list[str], data: DataConfig) -> list[str]:
    """The dotted names of fields inside fields: those of the config, those of the first row."""
    wanted = [str(column) for *_, column in wanted_columns(data) if "." in str(column)]
    present = [name for name in wanted if any(_field(row, name) is not None for row in rows)]
    return [name for name in dict.fromkeys([*present, *_dotted(rows[0])]) if name not in columns]


def _dotted(value: Any, before: str = "") -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            yield from _dotted(inner, f"{before}{key}.")
        elif before:
            yield f"{before}{key}"


def _field(row: Row, name: str) -> Any:
    """A field, or one inside of fields (`data.text`, `annotations.0.label`); else None."""
    if name in row or "." not in name:
        return row.get(name)
    value: Any = row
    for part in name.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value
