"""Texts of Python programs → frames; what is no list of texts is refused at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any

import polars as pl

from kft.errors import KftError

LIST_HINT = "give a list of texts, or a polars frame with the run's columns"


def frames(texts: Any, paired: bool, size: int) -> Iterator[pl.DataFrame]:
    """Frames of `text`, of pairs also `text_pair`, with at most `size` rows.

    Args:
        texts: lists, tuples, iterators, NumPy arrays and columns of pandas, polars and pyarrow; of
            strings, or of pairs of strings.
        paired: whether the run reads pairs.
        size: rows of a frame at most.

    Raises:
        KftError: it is one text, a mapping, a table, has no order, or holds something else than
        texts.
    """
    _check_listed(texts)
    names = ["text", "text_pair"] if paired else ["text"]
    iterator, done = _iterator(texts), 0
    while chunk := [_plain(value) for value in islice(iterator, size)]:
        check = _check_pair if paired else _check_text
        for number, value in enumerate(chunk, done + 1):
            check(value, number)
        columns = zip(*chunk, strict=True) if paired else [chunk]
        done += len(chunk)
        yield pl.DataFrame(
            {name: list(map(str, column)) for name, column in zip(names, columns, strict=True)},
            schema=dict.fromkeys(names, pl.String),
        )


def _check_listed(texts: Any) -> None:
    if isinstance(texts, str | bytes | bytearray):
        kind = "one text" if isinstance(texts, str) else "bytes"
        raise KftError(
            f"the texts must be a list, got {kind}: {texts[:60]!r}", "give [text] for a single one"
        )
    if isinstance(texts, Mapping):
        raise KftError("the texts must be a list, got a mapping", "give list(texts.values())")
    if isinstance(texts, Set):
        raise KftError("the texts must be a list, got a set, which has no order", "give sorted(texts)")
    if hasattr(texts, "columns"):
        raise KftError(
            f"the texts must be a list or a polars frame, got {_kind(texts)}",
            "give one of its columns, or polars.from_pandas(frame), or frame.collect() of a lazy one",
        )
    if not isinstance(texts, Iterable):
        raise KftError(f"the texts must be a list, got {_kind(texts)}: {texts!r}"[:200], LIST_HINT)


def _iterator(texts: Any) -> Iterator[Any]:
    try:
        return iter(texts)
    except TypeError:  # such as NumPy's arrays without a dimension
        raise KftError(f"the texts must be a list, got {_kind(texts)}: {texts!r}"[:200], LIST_HINT) from None


def check_columns(frame: pl.DataFrame, names: Sequence[str]) -> None:
    """Raises KftError: columns of a frame hold lists, bytes or objects in place of texts."""
    for name in names:
        kind = frame.schema[name]
        if kind.is_nested() or kind in (pl.Binary, pl.Object):
            raise KftError(f"the frame's column `{name}` holds {kind}, not texts", "give a column of strings")


def _plain(value: Any) -> Any:
    """A value of pyarrow or NumPy as Python's own."""
    if hasattr(value, "as_py"):
        return value.as_py()
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, str) else value


def _check_text(value: Any, number: int) -> None:
    if not isinstance(value, str):
        raise KftError(
            f"the run reads single texts, text {number} is {_kind(value)}: {str(value)[:60]!r}",
            "give strings",
        )
    _check_characters(value, f"text {number}")


def _check_characters(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise KftError(
            f"{what} holds half a character (a lone surrogate) at {error.start}",
            'decode it again, for example with errors="replace"',
        ) from None


def _check_pair(value: Any, number: int) -> None:
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not listed or len(value) != 2 or not all(isinstance(part, str) for part in value):
        raise KftError(
            f"the run reads pairs of texts, pair {number} is {_kind(value)}: {str(value)[:60]!r}",
            "give (text, text_pair) tuples of two strings",
        )
    for part in value:
        _check_characters(part, f"pair {number}")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
