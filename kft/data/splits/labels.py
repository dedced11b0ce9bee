"""Labels of each kind of problem: what they tell of a split, and the mistakes in them."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import polars as pl

from kft.errors import KftError, closest

Kind = Literal["classification", "regression", "choice"]
RIGHT, WRONG = ("1", "true"), ("0", "false")  # labels of a question's choices
SCORE = pl.col("label").cast(pl.Float64, strict=False)
SHOWN_LABELS = 10
SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class Labels:
    """What the labels of one kind of problem are.

    Attributes:
        check: (clean splits, what messages call train) → raises KftError for labels that the kind cannot have.
        describe: frame → what data.json tells of a split's labels.
        method: how splits are cut unless the user says.
    """

    check: Callable[[dict[str, pl.DataFrame], str], None]
    describe: Callable[[pl.DataFrame], dict[str, Any]]
    method: str


def check_questions(frame: pl.DataFrame) -> None:
    """Raises KftError: questions with one choice alone, or without exactly one right choice; all at once."""
    strange = frame.filter(~pl.col("label").is_in([*RIGHT, *WRONG]).fill_null(False))
    if strange.height:
        raise KftError(
            f"{_where(frame, strange)}: label must be 1 for the right choice or 0, got: {strange['label'][0]!r}"
            f"{_more(strange)}",
            "`data.label` names the column; `data.label_names` gives other labels these names",
        )
    questions = frame.group_by("group", maintain_order=True).agg(
        pl.col("id", "origin").first(), rows=pl.len(), right=pl.col("label").is_in(RIGHT).sum()
    )
    wrong = questions.filter((pl.col("right") != 1) | (pl.col("rows") < 2))
    if wrong.height:
        shown = [
            f"{origin}, row {row + 1}: question {group} has {rows} choice{'' if rows == 1 else 's'}, {right} of them right"
            for group, row, origin, rows, right in wrong.head(SHOWN_PROBLEMS).iter_rows()
        ]
        more = wrong.height - SHOWN_PROBLEMS
        raise KftError(
            "\n".join(shown + ([f"and {more} more such questions"] if more > 0 else [])),
            "a question has two choices or more, and the label of exactly one is 1; `data.group` names the column that "
            "the rows of one question share",
        )


def _check_choices(frames: dict[str, pl.DataFrame], shown: str) -> None:
    for frame in frames.values():
        check_questions(frame)


def _check_values(frames: dict[str, pl.DataFrame], shown: str) -> None:
    for frame in frames.values():
        _check_scores(frame)
    _check_differ(frames["train"].select(SCORE).to_series(), "score", frames["train"], shown)


def _check_classes(frames: dict[str, pl.DataFrame], shown: str) -> None:
    _check_class_count(frames["train"], shown)
    _check_known(frames)
    _check_differ(frames["train"]["label"], "label", frames["train"], shown)


def _check_differ(values: pl.Series, told: str, train: pl.DataFrame, shown: str) -> None:
    if values.n_unique() == 1:
        raise KftError(
            f"{shown}: every row has the {told} {train['label'][0]}, so there is nothing to learn",
            "`data.label` names the column; `data.max_examples` takes the first rows, which may all be of one class",
        )


def _count_labels(frame: pl.DataFrame) -> dict[str, Any]:
    counts = dict(frame["label"].value_counts().iter_rows())
    return {"labels": {label: counts[label] for label in ordered(frame["label"])}}


def _describe_scores(frame: pl.DataFrame) -> dict[str, Any]:
    values = frame.select(SCORE).to_series()
    if values.is_empty():
        return {"values": {}}
    told = {"mean": values.mean(), "std": values.std(ddof=0), "min": values.min(), "max": values.max()}
    return {"values": told}


def _count_choices(frame: pl.DataFrame) -> dict[str, Any]:
    counts = frame["group"].value_counts()["count"]
    most = counts.max() or 0
    return {"questions": {"count": len(counts), "choices_mean": counts.mean() or 0.0, "choices_max": most}}


def ordered(labels: pl.Series) -> list[str]:
    """The different labels: numbers by value and then by spelling, else all by code point.

    The order is total and depends on the set of labels alone, since it says what a class id means.
    """
    names = labels.drop_nulls().unique().to_list()
    numbers = [_number(name) for name in names]
    if None in numbers:
        return sorted(names)
    return [name for _, name in sorted(zip(numbers, names, strict=True))]


def _number(name: str) -> Decimal | None:
    """The exact value of a number, so that no two that differ become equal; None for NaN, which has no order."""
    try:
        number = Decimal(name)
    except InvalidOperation:
        return None
    return None if number.is_nan() else number


def _check_scores(frame: pl.DataFrame) -> None:
    bad = frame.filter(~SCORE.is_finite().fill_null(False))
    if bad.height:
        header = "; if row 1 holds column names, leave out `data.header = false`" if bad["id"][0] == 0 else ""
        raise KftError(
            f"{_where(frame, bad)}: label must be a finite number, got: {bad['label'][0]!r}{_more(bad)}",
            "mend or remove the row; `data.label` names the column of the scores, and "
            f'`task = "classification"` takes labels that are no numbers{header}',
        )


def _check_class_count(train: pl.DataFrame, shown: str) -> None:
    classes = train["label"].n_unique()
    scattered = classes > 5 and classes > train.height / 2
    if scattered or (classes > 1000 and classes > train.height / 10):
        examples = ", ".join(repr(label[:40]) for label in train["label"].head(3))
        raise KftError(
            f"{shown}: {train.height} rows have {classes} different labels, such as {examples}",
            '`data.label` names the column of the labels; `task = "regression"` takes scores',
        )


def _check_known(frames: dict[str, pl.DataFrame]) -> None:
    """Raises KftError: validation or test has labels that train has not."""
    known = ordered(frames["train"]["label"])
    problems = []
    for name, frame in frames.items():
        strange = frame.filter(~pl.col("label").is_in(known)) if name != "train" else frame.clear()
        for label in strange["label"].unique(maintain_order=True):
            problems.append(_strange(frame, strange.filter(pl.col("label") == label), known))
    if problems:
        rest = len(problems) - SHOWN_PROBLEMS
        more = [f"and {rest} more labels that train does not have"] if rest > 0 else []
        raise KftError(
            "\n".join(problems[:SHOWN_PROBLEMS] + more),
            "no model learns a label that train does not have: mend the rows, or set `data.label_names`",
        )


def _strange(frame: pl.DataFrame, rows: pl.DataFrame, known: list[str]) -> str:
    label = rows["label"][0]
    near = closest(label, known)
    options = ", ".join(known[:SHOWN_LABELS]) + (", …" if len(known) > SHOWN_LABELS else "")
    suggestion = f", did you mean `{near}`?" if near else ""
    return f"{_where(frame, rows)}: label must be one of {options}, got: {label}{_more(rows)}{suggestion}"


def _more(rows: pl.DataFrame) -> str:
    return f" ({rows.height} such rows)" if rows.height > 1 else ""


def _where(frame: pl.DataFrame, rows: pl.DataFrame) -> str:
    """The first of the rows as messages name it; a file of a class folder holds but one."""
    origin, row = rows["origin"][0], rows["id"][0] + 1
    return origin if frame["origin"].n_unique() > 1 else f"{origin}, row {row}"


LABELS: dict[Kind, Labels] = {
    "classification": Labels(_check_classes, _count_labels, "stratified"),
    "regression": Labels(_check_values, _describe_scores, "random"),
    "choice": Labels(_check_choices, _count_choices, "random"),
}
