"""Words and tags, or texts and their entities → text, words and label, all mistakes at once."""

import json
from collections.abc import Callable
from typing import Any

import polars as pl

from kft.errors import KftError, first_rows, such
from kft.progress import note
from kft.tasks import words

LISTS = ("tokens", "tags", "entities", "answers")  # columns that come as JSON
Where = Callable[[int, int], str]  # (row, word) → where it stands


def with_words(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The frame with text, words and label, where it has a column of LISTS.

    Args:
        frame: "tokens" and "tags", or "text" and "entities", as JSON; of CoNLL files with "line".
        name: the file, for messages.

    Raises:
        KftError: a row holds something else; all at once.
    """
    if "tokens" in frame.columns:
        return _of_lists(frame, name).drop("tokens", "tags", "line", strict=False)
    if "entities" in frame.columns:
        return _of_entities(frame, name).drop("entities")
    return frame


def _of_lists(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    lines = frame["line"].to_list() if "line" in frame.columns else None

    def where(row: int, word: int = 0) -> str:
        return f"{name}, row {row + 1}" if lines is None else f"{name}, line {lines[row] + word}"

    tags = frame["tags"].to_list() if "tags" in frame.columns else [None] * len(frame)
    results, problems = [], []
    for row, (given, own) in enumerate(zip(frame["tokens"].to_list(), tags, strict=True)):
        try:
            results.append(_row(given, own))
        except ValueError as error:
            problems.append(f"{where(row)}: {error}")
    if problems:
        raise KftError(
            first_rows(problems),
            "`data.tokens` and `data.tags` name columns of lists of the same length, such as "
            '["Ann", "met", "Bo"] and ["B-PER", "O", "B-PER"]',
        )
    _note_missing([row_tags or [] for *_, row_tags in results], where, name)
    _note_misplaced([row_tags or [] for *_, row_tags in results], where, name)
    columns = {
        "text": [text for text, *_ in results],
        "words": [words.written_spans(spans) for _, spans, _ in results],
        "label": [None if own is None else words.written_tags(own) for *_, own in results],
    }
    return frame.with_columns(pl.Series(key, values, pl.String) for key, values in columns.items())


def _row(given: str | None, own: str | None) -> tuple[str, words.Spans, Any]:
    """(text, words, tags or None) of a row; a ValueError says what is wrong with it."""
    tokens = _list(given, "tokens")
    text, spans = words.joined([_string(token, "tokens") for token in tokens])
    if own is None:
        return text, spans, None
    tags = _list(own, "tags")
    if len(tags) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens and {len(tags)} tags")
    tags = [None if tag is None else _string(tag, "tags").strip() or None for tag in tags]
    if tags and not any(tags):
        return text, spans, None  # secret ones
    return text, spans, tags


def _list(value: str | None, key: str) -> list[Any]:
    try:
        content = json.loads(value or "null")
    except ValueError:
        content = value
    if not isinstance(content, list):
        raise ValueError(f"`{key}` must be a list, got: {str(value)[:60]}")
    return content


def _string(value: Any, key: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"`{key}` must hold strings, got: {json.dumps(value, ensure_ascii=False)[:60]}")


def _note_missing(rows: list[words.Tags], where: Where, name: str) -> None:
    """Says where the first word stands that has no tag, and how many there are."""
    places = [(row, word) for row, tags in enumerate(rows) for word, tag in enumerate(tags) if tag is None]
    if places:
        count = such(len(places), "words", name)
        row, word = places[0]
        note(f"{where(row, word)}: word {word + 1} has no tag{count}; it is neither trained on nor scored")


def _note_misplaced(rows: list[words.Tags], where: Where, name: str) -> None:
    """Says where the first tag stands that cannot follow the one before, and how many there are."""
    scheme = words.scheme_of(rows)
    places = [(row, word) for row, tags in enumerate(rows) for word in words.misplaced(tags, scheme)]
    if not places:
        return
    row, word = places[0]
    tags = rows[row]
    before = f"after {tags[word - 1]}" if word else "at the beginning"
    if word == len(tags):
        message = f"the sentence ends inside an entity, after {tags[-1]}"
        word -= 1
    else:
        message = f"{tags[word]} cannot stand {before}"
    note(
        f"{where(row, word)}: {message} in {scheme} ({len(places):,} such place{'s' if len(places) > 1 else ''} in {name}); "
        "they are kept, and read as conlleval does"
    )


def _of_entities(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    labels, problems, unclear = [], [], []
    rows = zip(frame["text"].to_list(), frame["entities"].to_list(), strict=True)
    for row, (text, given) in enumerate(rows):
        try:
            labels.append(_label(text or "", given, unclear, f"{name}, row {row + 1}"))
        except ValueError as error:
            problems.append(f"{name}, row {row + 1}: {error}")
    if problems:
        raise KftError(
            first_rows(problems),
            'entities are a list such as [{"start": 0, "end": 3, "label": "PER"}]; offsets count Unicode characters from 0, '
            "not bytes; the end is the first character after the entity",
        )
    if unclear:
        note(
            f"{unclear[0]}{such(len(unclear), 'entities', name)}; the words they touch are neither trained on nor scored"
        )
    return frame.with_columns(pl.Series("label", labels, pl.String))


def _label(text: str, given: str | None, unclear: list[str], where: str) -> str | None:
    """The tags of a text; a ValueError says what is wrong with its entities."""
    if given is None:
        return None
    try:
        entities = words.entities_in(json.loads(given))
    except json.JSONDecodeError:
        raise ValueError(f"entities must be a list, got: {given[:60]}") from None
    for entity in entities:
        if not 0 <= entity.start < entity.end <= len(text):
            why = (
                "holds no character"
                if entity.start >= entity.end
                else f"does not stand in {len(text)} characters"
            )
            raise ValueError(f"the entity {entity.words()} {why}")
    tags, problems = words.tags_of_entities(words.split(text), entities)
    unclear += [f"{where}: the entity {entity.words()} {what}" for what, entity in problems]
    return words.written_tags(tags)
