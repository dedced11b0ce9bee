"""CoNLL files: a word a line, its tag in another column, a blank line after each sentence."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from kft.config import DataConfig
from kft.data.sources.columns import Pick
from kft.data.sources.texts import read_text
from kft.errors import KftError

DOCUMENT = "-DOCSTART-"
SPACES = re.compile(r"[ \t]+")
Sentence = list[tuple[int, list[str]]]  # (line, columns) of each word


def read_conll(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """The sentences: "tokens" and "tags" as JSON lists, and the "line" of the first word.

    Tags are null in a file of one column.

    Columns are parted by `data.delimiter`, else by tabs where the first word's line has one, else
    by spaces. Lines that begin with -DOCSTART- end a document and are no words; lines that begin
    with # between sentences are comments, unless they have as many columns as the words, and a tag
    that words have.

    Raises:
        KftError: a line has another number of columns, or there is no such column.
    """
    lines = read_text(path, name, data).replace("\r\n", "\n").split("\n")
    separator = data.delimiter or ("\t" if any(map(_is_tabbed, lines)) else None)
    rows = [(number, _columns(line, separator)) for number, line in enumerate(lines, 1)]
    width = next((len(columns) for _, columns in rows if columns and columns[0][:1] != "#"), 0)
    width = width or max((len(columns) for _, columns in rows), default=0)
    if width == 1 and separator is None:
        _refuse_joined([columns[0] for _, columns in rows if columns], name)
    token, tag = _places(data, width, name)
    tags = {columns[tag] for _, columns in rows if len(columns) == width and columns[0][:1] != "#"}
    sentences = []
    for sentence in _sentences(rows, width, tag, tags):
        for number, columns in sentence:
            if len(columns) != width:
                message = f"expected {width} column{'s' if width > 1 else ''}, got {len(columns)}"
                raise KftError(
                    f"{name}, line {number}: {message}",
                    "a word and its tag stand in each line; `data.delimiter` parts the columns, such as \\t",
                )
        sentences.append(sentence)
        if len(sentences) == data.max_examples:
            break
    if not sentences:
        raise KftError(f"{name}: holds no words", "a CoNLL file has a word and its tag in each line")
    return pl.DataFrame(
        {
            "tokens": [_json([columns[token] for _, columns in sentence]) for sentence in sentences],
            "tags": [
                None if tag == token else _json([columns[tag] for _, columns in sentence])
                for sentence in sentences
            ],
            "line": [sentence[0][0] for sentence in sentences],
        },
        schema={"tokens": pl.String, "tags": pl.String, "line": pl.Int64},
    )


def _refuse_joined(values: list[str], name: str) -> None:
    """Raises KftError: every line has the same mark inside, which parts columns."""
    for mark in ",;|":
        if all(mark in value.strip(mark) for value in values):
            raise KftError(
                f"{name}: has one column, such as {values[0][:60]!r}",
                f'set `data.delimiter = "{mark}"` if that parts the word and its tag',
            )


def _is_tabbed(line: str) -> bool:
    return "\t" in line.strip() and not line.startswith(("#", DOCUMENT))


def _columns(line: str, separator: str | None) -> list[str]:
    """The columns of a line; none of a blank one."""
    if not line.strip():
        return []
    if separator is None:
        return SPACES.split(line.strip(" \t\r"))
    return [column.strip(" \r") for column in line.rstrip("\r").split(separator)]


def _places(data: DataConfig, width: int, name: str) -> tuple[int, int]:
    """The columns of the words and of the tags."""
    places = []
    for key, default in (("tokens", 0), ("tags", -1)):
        column = getattr(data, key)
        if isinstance(column, str) and column != key:  # the task's own names are no choice of the user's
            raise KftError(
                f"{name}: `data.{key}` is {column!r}, and a CoNLL file's columns have numbers",
                "count from 0; -1 is the last one",
            )
        place = column if isinstance(column, int) else default
        if not -width <= place < width:
            raise KftError(
                f"{name}: there is no column {place} (`data.{key}`), a line has {width}",
                "count from 0; -1 is the last one",
            )
        places.append(place % width)
    return places[0], places[1]


def _sentences(rows: list[tuple[int, list[str]]], width: int, tag: int, tags: set[str]) -> Iterator[Sentence]:
    sentence: Sentence = []
    for number, columns in rows:
        document = bool(columns) and columns[0].startswith(DOCUMENT)
        if not columns or document:
            if sentence:
                yield sentence
            sentence = []
            continue
        comment = columns[0].startswith("#") and (len(columns) != width or columns[tag] not in tags)
        if sentence or not comment:
            sentence.append((number, columns))
    if sentence:
        yield sentence


def _json(values: list[str]) -> str:
    return json.dumps(values, ensure_ascii=False)
