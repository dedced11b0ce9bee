"""Mistakes in labels: scores that are no numbers, classes that train does not have, too many or too few."""

from typing import Literal

import polars as pl

from kft.errors import KftError, closest

Kind = Literal["classification", "regression"]
SCORE = pl.col("label").cast(pl.Float64, strict=False)
SHOWN_LABELS = 10
SHOWN_PROBLEMS = 5


def check(frames: dict[str, pl.DataFrame], shown: str, kind: Kind) -> None:
    """Raises KftError: a label that the kind of problem cannot have, or nothing to learn in train.

    Args:
        frames: clean splits.
        shown: what messages call train.
        kind: whether labels are classes or scores.
    """
    train = frames["train"]
    if kind == "regression":
        for frame in frames.values():
            _check_scores(frame)
    else:
        _check_class_count(train, shown)
        _check_known(frames)
    if (train.select(SCORE).to_series() if kind == "regression" else train["label"]).n_unique() == 1:
        told = "score" if kind == "regression" else "label"
        raise KftError(
            f"{shown}: every row has the {told} {train['label'][0]}, so there is nothing to learn",
            "`data.label` names the column; `data.max_examples` takes the first rows, which may all be of one class",
        )


def ordered(labels: pl.Series) -> list[str]:
    """The different labels: numbers by value, else by code point."""
    names = labels.unique().to_list()
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(names)


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
