"""Answers as a table: the columns of the input and, after them, what was predicted."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import polars as pl

from kft.data.sources import OWN

SEPARATORS = {"csv": ",", "tsv": "\t"}
FORMATS = ("jsonl", *SEPARATORS, "parquet")
Answered = tuple[pl.DataFrame, list[dict[str, Any]]]  # rows of the input, and what is predicted for each


def format_of(output: str | Path | None, more: Iterable[str] = ()) -> str:
    """The format that a file's ending asks for, of FORMATS or `more`; else lines of JSON."""
    ending = Path(output).suffix.lower().removeprefix(".") if output is not None else ""
    return ending if ending in (*FORMATS, *more) else "jsonl"


def write_text(answered: Iterable[Answered], stream: IO[str], format: str) -> int:
    """Writes CSV or TSV, one part after the other; returns the number of rows."""
    count, names = 0, None
    for rows, answers in answered:
        table = joined(rows, answers)
        names = names or table.columns
        table = table.select(column for column in names if column in table.columns)
        nested = [name for name, kind in table.schema.items() if kind.is_nested()]
        table = table.with_columns(
            pl.Series(name, [_text(value) for value in table[name].to_list()], pl.String) for name in nested
        )
        stream.write(table.write_csv(include_header=count == 0, separator=SEPARATORS[format]))
        count += table.height
    stream.flush()
    return count


def write_parquet(answered: Iterable[Answered], path: Path) -> int:
    """Writes Parquet, in which numbers of the input stay numbers; returns the number of rows."""
    table = pl.concat([joined(rows, answers) for rows, answers in answered], how="diagonal_relaxed")
    table.write_parquet(path)
    return table.height


def joined(rows: pl.DataFrame, answers: list[dict[str, Any]]) -> pl.DataFrame:
    """The input's own columns, of texts alone the texts, and a column for each answer's field."""
    own = [column for column in rows.columns if column.startswith(OWN)]
    texts = [column for column in ("text", "text_pair") if column in rows.columns]
    kept = rows.select(pl.col(column).alias(column.removeprefix(OWN)) for column in own or texts)
    predicted = pl.DataFrame([dict(_flat(answer)) for answer in answers], infer_schema_length=None)
    return kept.with_columns(predicted)


def _flat(answer: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of an answer by themselves: "predicted_label", "probability_positive" …"""
    for field, value in answer.items():
        if isinstance(value, dict):
            kind = {"probabilities": "probability"}.get(field, field)
            yield from ((f"{kind}_{name}", part) for name, part in value.items())
        else:
            yield f"predicted_{field}", _text(value) if isinstance(value, list) else value


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)
