"""The right answers of rows: which rows may be, what is learned of them, what a split holds."""

from typing import Any

import numpy as np
import polars as pl

from kft.errors import KftError
from kft.metrics.answers import right_ones
from kft.tasks import labels as checks
from kft.tasks.golds import Gold, golds_in, located
from kft.tasks.objects import listed
from kft.tasks.record import Learned

NEEDS = '`data.question`, `data.context` and `data.answers` name the columns; `data.format = "squad"` reads SQuAD documents'
LEFT_OUT = "answer_not_in_context"
NONE = "no answer"  # in words


def rows_of(labels: pl.Series) -> list[list[Gold]]:
    return [golds_in(label) or [] for label in labels]


def check(frames: dict[str, pl.DataFrame], source: str) -> None:
    for frame in frames.values():
        _check_written(frame)
    if not any(rows_of(frames["train"]["label"])):
        raise KftError(f"{source}: no question has an answer, so there is nothing to learn", NEEDS)


def _check_written(frame: pl.DataFrame) -> None:
    """Raises KftError: a row has a label that is no answers."""
    wrong = [golds_in(label) is None for label in frame["label"]]
    if any(wrong):
        rows = frame.filter(pl.Series(wrong))
        raise KftError(
            f"{checks.where(frame, rows)}: must hold answers, got the label {str(rows['label'][0])[:40]!r}",
            NEEDS,
        )


def check_each(frame: pl.DataFrame, learned: Learned) -> None:
    missing = frame.filter(pl.col("label").is_null()).select("id", "origin", _name=pl.lit(None, pl.String))
    checks.refuse(frame, missing, str, "give a file with answers")
    _check_written(frame)


def lost(labels: pl.Series) -> pl.Series:
    """Whether a question has answers, none of which stands in its context, bool [N]."""
    rows = (golds_in(label) for label in labels)
    return pl.Series([bool(golds) and not located(golds) for golds in rows], dtype=pl.Boolean)


def describe(frame: pl.DataFrame) -> dict[str, Any]:
    rows = rows_of(frame["label"])
    return {
        "answers": {
            "count": sum(map(len, rows)),
            "without": sum(not golds for golds in rows),
            "not_in_context": sum(gold.start is None for golds in rows for gold in golds),
            "contexts": frame["text_pair"].n_unique(),
        }
    }


def lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    n = described["answers"]
    amiss = f", {n['not_in_context']:,} not where the file says" if n["not_in_context"] else ""
    return [
        (
            "answers",
            f"{n['count']:,}{amiss}; {n['without']:,} questions without one; {n['contexts']:,} contexts",
        )
    ]


def learn(train: pl.DataFrame, known: list[str] | None = None, settings: Any = None) -> Learned:
    """Whether questions may have no answer, and how long answers are at most."""
    without = not all(rows_of(train["label"]))
    return Learned(
        none_above=0.0 if without else None, longest=getattr(settings, "max_answer_tokens", None) or 30
    )


def truths(labels: pl.Series, learned: Learned) -> np.ndarray:
    """The words of the right answers of each row, [N] tuples; none where there is no answer."""
    return listed([tuple(gold.text for gold in golds) for golds in rows_of(labels)])


def said(label: str | None) -> str:
    """The right answers of a row in a few words."""
    golds = right_ones([gold.text for gold in golds_in(label) or []])
    return " | ".join(dict.fromkeys(golds)) or NONE
