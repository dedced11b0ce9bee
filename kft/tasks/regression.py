"""Regression: a score for each example, or for each pair of texts."""

from typing import Any

import numpy as np
import polars as pl

from kft.errors import KftError
from kft.metrics import bootstrap
from kft.metrics.words import number
from kft.tasks import labels as checks
from kft.tasks.record import (
    Export,
    Labels,
    Learned,
    Loss,
    Mistakes,
    Reads,
    Scoring,
    Task,
    read_first,
)

SCORE = pl.col("label").cast(pl.Float64, strict=False)


def _check(frames: dict[str, pl.DataFrame], name: str) -> None:
    for frame in frames.values():
        _check_scores(frame)
    checks.check_differ(frames["train"].select(SCORE).to_series(), "score", frames["train"], name)


def _check_scores(frame: pl.DataFrame) -> None:
    bad = frame.filter(~SCORE.is_finite().fill_null(False))
    if bad.height:
        hint = (
            "mend or remove the row (an empty cell and NaN are missing scores); `data.label` names their column, and "
            '`task = "classification"` takes labels that are no numbers'
        )
        if bad["label"].str.contains(r"^\s*[+-]?[\d.]*\d,\d+\s*$").all():
            hint = 'the scores have a decimal comma: `data.decimal = ","` reads it'
        elif bad.height == 1 and bad["id"][0] == 0:
            hint += "; if row 1 holds column names, `data.header` must be true"
        got = f"got: {bad['label'][0]!r}{checks.more(bad)}"
        raise KftError(f"{checks.where(frame, bad)}: label must be a finite number, {got}", hint)


def _check_each(frame: pl.DataFrame, learned: Learned) -> None:
    bad = frame.filter(~SCORE.is_finite().fill_null(False)).rename({"label": "_name"})
    hint = 'mend the rows, or set task = "classification" if the labels are names'
    checks.refuse(frame, bad, lambda name: f"label must be a finite number, got: {name!r}", hint)


def _describe(frame: pl.DataFrame) -> dict[str, Any]:
    values = frame.select(SCORE).to_series()
    if values.is_empty():
        return {"values": {}}
    content = {"mean": values.mean(), "std": values.std(ddof=0), "min": values.min(), "max": values.max()}
    return {"values": content}


def _lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    values = ", ".join(f"{name} {value:.4g}" for name, value in described["values"].items())
    return [("scores", values)] if values else []


def _values(labels: pl.Series) -> np.ndarray:
    # Float64 until they are standardised: float32 cannot tell seconds since 1970 that are a minute
    # apart.
    return labels.cast(pl.Float64).to_numpy()


def _learn(train: pl.DataFrame, known: list[str] | None = None, settings: Any = None) -> Learned:
    """Mean and scale, by which targets are standardised."""
    values = _values(train["label"])[:, None]
    return Learned(mean=float(values.mean()), scale=float(values.std()) or 1.0)


def _reads(
    frame: pl.DataFrame, rows: Any, learned: Learned, class_weight: str | dict[str, float] | None = None
) -> Reads:
    values = _values(frame["label"])[:, None]
    targets = ((values - learned.mean) / learned.scale).astype(np.float32)
    return read_first(len(frame), targets=targets, weights=np.ones(len(frame), np.float32))


def _checked(targets: Any, values: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    targets, values = np.asarray(targets, np.float64), np.asarray(values, np.float64)
    if targets.ndim != 1 or values.shape != targets.shape:
        raise ValueError(f"targets and predictions must be [N], got: {targets.shape} and {values.shape}")
    return targets, values


def _details(targets, values, labels, generator, resamples: int) -> dict[str, Any]:
    resampled = bootstrap.resampled_regression(targets, values, generator, resamples)
    return {"examples": len(targets), "intervals": bootstrap.intervals(resampled, len(targets))}


def _worst(table: pl.DataFrame, labels: list[str], most: int) -> Mistakes:
    errors = table.with_columns(error=pl.col("value") - pl.col("target"))
    errors = errors.sort(pl.col("error").abs(), descending=True, maintain_order=True)
    rows = [
        row
        | {
            "verdict": [
                ("chip target", f"target {number(row['target'])}", None),
                ("chip wrong", f"predicted {number(row['value'])}", None),
                ("muted", f"error {row['error']:+.4g}", None),
            ]
        }
        for row in errors.head(most).iter_rows(named=True)
    ]
    note = "The predictions furthest from their target."
    return Mistakes("Largest errors", note, rows, ("scatter", "errors"))


TASK = Task(
    labels=Labels(_check, _describe, "random", lines=_lines),
    learn=_learn,
    outputs=lambda learned: 1,
    check=_check_each,
    truths=lambda labels, learned: _values(labels),
    target_column=lambda labels, truths: pl.Series(truths),
    reads=_reads,
    loss=lambda train, reads, learned: Loss("mse"),
    divergence="values",
    predictions=lambda outputs, learned, reads=None: (
        outputs.astype(np.float64)[:, 0] * learned.scale + learned.mean
    ),
    scored=lambda truths, values, learned, questions=None: (truths, values),
    columns=lambda values, learned: [pl.Series("value", values, pl.Float64)],
    read=lambda table, learned: table["value"].to_numpy().astype(np.float64),
    answer=lambda row, learned: {"value": row["value"]},
    answered="value",
    compared=lambda value, learned: {"value": float(value)},
    words=lambda answer: number(answer["value"]),
    differ=lambda values, learned: (None, -np.ptp(values, axis=0)),
    order="farthest apart",
    worst=_worst,
    scoring=Scoring(
        metrics=(
            "spearman",
            "pearson",
            "mean_squared_error",
            "root_mean_squared_error",
            "mean_absolute_error",
            "r2",
        ),
        loss="mean_squared_error",
        checked=_checked,
        details=_details,
        resampled=bootstrap.value_scores,
    ),
    export=Export(
        formats=("savedmodel", "hf", "keras", "onnx", "peft"),
        signature="regress",
        in_graph=lambda tf, values, learned: {"value": values[:, 0]},
        numbers="value",
    ),
)
