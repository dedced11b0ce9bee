"""What one kind of problem needs, as a record of plain functions: labels, targets, head size, loss, decoding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.special import softmax

from kft import backend
from kft.errors import KftError, did_you_mean

backend.select()

import keras  # noqa: E402


@dataclass(frozen=True)
class Task:
    """One kind of problem.

    Attributes:
        labels: train frame → label names in id order; none for scores.
        outputs: label names → C, the units of the head.
        targets: (frame, label names) → int32 [N] class ids, or float32 [N, 1] scores.
        loss: label smoothing → a Keras loss for targets [R, K] or [R, K, 1] and predictions [R, K, C] with weights
            [R, K]: the weighted mean over the real examples.
        predictions: logits [N, C] → what `metrics` scores: probabilities [N, C], or values [N].
        columns: (predictions, label names) → the columns that they add to a frame of predictions.
        answer: (row of such a frame, label names) → the fields of one line of `kft predict`.
    """

    labels: Callable[[pl.DataFrame], list[str]]
    outputs: Callable[[list[str]], int]
    targets: Callable[[pl.DataFrame, list[str]], np.ndarray]
    loss: Callable[[float], keras.losses.Loss]
    predictions: Callable[[np.ndarray], np.ndarray]
    columns: Callable[[np.ndarray, list[str]], list[pl.Series]]
    answer: Callable[[dict[str, Any], list[str]], dict[str, Any]]


def example_weights(
    targets: np.ndarray, labels: list[str], class_weight: str | dict[str, float] | None
) -> np.ndarray:
    """Weight of each example in the loss, float32 [N].

    "balanced" weighs a class with N / (C · count), as scikit-learn's `compute_class_weight` does.

    Raises:
        KftError: a weight is for no label of the data, or negative.
    """
    weights = np.ones(len(targets), np.float32)
    if class_weight is None:
        return weights
    if class_weight == "balanced":
        counts = np.bincount(targets, minlength=len(labels))
        return (len(targets) / (len(labels) * np.maximum(counts, 1)))[targets].astype(np.float32)
    for name, weight in class_weight.items():
        if name not in labels:
            near = did_you_mean(name, labels)
            raise KftError(
                f"`train.class_weight`: {name!r} is no label{near}", f"the labels are {', '.join(labels)}"
            )
        if weight < 0:
            raise KftError(
                f"`train.class_weight`: the weight of {name!r} is negative: {weight}",
                "0 leaves a label out of the loss",
            )
        weights[targets == labels.index(name)] = weight
    return weights


def _class_names(frame: pl.DataFrame) -> list[str]:
    """Sorted: numbers by value, else by code point, so that label order never depends on row order."""
    names = frame["label"].unique().to_list()
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


def _class_ids(frame: pl.DataFrame, labels: list[str]) -> np.ndarray:
    ids = {name: i for i, name in enumerate(labels)}
    found = [ids.get(name) for name in frame["label"]]
    if None in found:
        row = found.index(None)
        got = frame["label"][row]
        where = f"{frame['origin'][row]}, row {frame['id'][row] + 1}"
        shown = ", ".join(labels[:20]) + (", …" if len(labels) > 20 else "")
        what = "the label is missing" if got is None else f"label must be one of {shown}, got: {got}"
        raise KftError(
            f"{where}: {what}{'' if got is None else did_you_mean(got, labels)}",
            "mend the row, or leave it out",
        )
    return np.array(found, np.int32)


def _scores(frame: pl.DataFrame, labels: list[str]) -> np.ndarray:
    scores = frame["label"].cast(pl.Float64, strict=False)
    bad = (scores.is_null() | ~scores.is_finite().fill_null(False)).arg_true()
    if len(bad):
        row = int(bad[0])
        where = f"{frame['origin'][row]}, row {frame['id'][row] + 1}"
        raise KftError(
            f"{where}: label must be a finite number, got: {frame['label'][row]!r}",
            'mend the row, or set task = "classification" if the labels are names',
        )
    return scores.to_numpy().astype(np.float32)[:, None]


class _SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of integer targets with label smoothing (Szegedy et al. 2016, section 7)."""

    def __init__(self, label_smoothing: float):
        super().__init__(name="cross_entropy", reduction="mean_with_sample_weight")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        one_hot = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )


def _cross_entropy(label_smoothing: float) -> keras.losses.Loss:
    if label_smoothing:
        return _SmoothedCrossEntropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


def _class_columns(probabilities: np.ndarray, labels: list[str]) -> list[pl.Series]:
    best = probabilities.argmax(axis=1)
    return [
        pl.Series("label", [labels[i] for i in best], pl.String),
        pl.Series("score", probabilities.max(axis=1, initial=0), pl.Float64),
        pl.Series("probabilities", list(probabilities), pl.List(pl.Float64)),
    ]


def _class_answer(row: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    return {"label": row["label"], "probabilities": dict(zip(labels, row["probabilities"], strict=True))}


TASKS = {
    "classification": Task(
        labels=_class_names,
        outputs=len,
        targets=_class_ids,
        loss=_cross_entropy,
        predictions=lambda logits: softmax(logits.astype(np.float64), axis=1),
        columns=_class_columns,
        answer=_class_answer,
    ),
    "regression": Task(
        labels=lambda frame: [],
        outputs=lambda labels: 1,
        targets=_scores,
        loss=lambda _: keras.losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        predictions=lambda logits: logits.astype(np.float64)[:, 0],
        columns=lambda values, labels: [pl.Series("value", values, pl.Float64)],
        answer=lambda row, labels: {"value": row["value"]},
    ),
}
