"""The answers to questions as files write them → labels; those that are not there are told."""

import json

import polars as pl

from kft.errors import KftError, clipped, first_rows, such
from kft.progress import note
from kft.tasks.golds import Gold, golds_of, written

HINT = (
    'answers are a list such as [{"text": "Paris", "answer_start": 3}], [] where there is none; `answer_start` counts '
    "Unicode characters of the context from 0, not bytes"
)


def with_golds(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The frame with a label in place of its column "answers", if it has one.

    An answer without a place has that of its only occurrence. The place of one that the context
    does not have there is forgotten, and told: its words are scored, and it is not trained on.

    Args:
        frame: "text", the question, "text_pair", the context, and "answers", as JSON.
        name: the file, for messages.

    Raises:
        KftError: a row holds something else; all at once.
    """
    if "answers" not in frame.columns:
        return frame
    keys = frame["key"].to_list() if "key" in frame.columns else [None] * len(frame)
    labels, problems, lost = [], [], []
    rows = zip(frame["text_pair"].to_list(), frame["answers"].to_list(), keys, strict=True)
    for row, (context, given, key) in enumerate(rows):
        where = f"{name}, row {row + 1}" if key is None else f"{name}, question {key}"
        try:
            labels.append(_label(context or "", given, lost, where))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise KftError(first_rows(problems), HINT)
    if lost:
        note(f"{lost[0]}{such(len(lost), 'answers', name)}; they are not trained on")
    return frame.with_columns(pl.Series("label", labels, pl.String)).drop("answers")


def _label(context: str, given: str | None, lost: list[str], where: str) -> str | None:
    if given is None:
        return None
    try:
        value = json.loads(given)
    except ValueError:
        value = given  # plain words
    if isinstance(value, int | float | bool):
        value = given
    golds = [_placed(gold, context) for gold in golds_of(value)]
    for gold in golds:
        if not gold.stands_in(context):
            lost.append(f"{where}: {_missing(gold, context)}")
    return written(gold if gold.stands_in(context) else Gold(gold.text) for gold in golds)


def _placed(gold: Gold, context: str) -> Gold:
    only = gold.start is None and context.count(gold.text) == 1
    return Gold(gold.text, context.index(gold.text)) if only else gold


def _missing(gold: Gold, context: str) -> str:
    words = json.dumps(clipped(gold.text), ensure_ascii=False)
    if gold.start is None:
        return f"the answer {words} stands {context.count(gold.text)} times in the context, and no `answer_start` says where"
    inside = 0 <= gold.start < len(context)
    instead = json.dumps(clipped(context[gold.start : gold.end]), ensure_ascii=False) if inside else "nothing"
    return f"the answer {words} does not stand at character {gold.start} of the context, {instead} does"
