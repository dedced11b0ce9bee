"""What one kind of problem needs, as a record of plain functions: labels, targets, head size, loss, decoding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.special import softmax

from kft import backend
from kft.data.splits.labels import RIGHT, check_questions, ordered
from kft.errors import KftError, did_you_mean
from kft.tasks import answers

backend.select()

import keras  # noqa: E402


@dataclass(frozen=True)
class Task:
    """One kind of problem.

    Attributes:
        labels: train frame → label names in id order; none for scores and choices.
        outputs: label names → C, the units of the head.
        targets: (frame, label names) → int32 [N] class ids, float32 [N, 1] scores, or int32 [N, 2] choices: 1 for the
            right one, and the number of the question from 1 (below 2**24, since losses compute in float32).
        weights: (targets, label names, `train.class_weight`) → float32 [N], of each example in the loss.
        loss: (label smoothing, gamma of the focal loss or None) → a Keras loss for targets [R, K, …] and predictions [R, K, C] with weights [R, K]: the
            weighted mean over the real examples, or questions.
        divergence: (targets, predictions, predictions) → [R, K], how far two predictions [R, K, C] of each example are apart:
            half the sum of both Kullback-Leibler divergences of the classes, or of a question's choices (where its right
            one stands); the squared difference of scores.
        loss_metric: the metric that is this loss on a split.
        predictions: (logits [N, C], question numbers [N] or None) → probabilities [N, C]; values [N]; or of choices [N, 3]
            the score, its probability among those of the question, and 1 where that is the highest.
        scored: (targets, predictions) → both as `metrics` takes them.
        shown_targets: (frame, targets) → the column "target" of a frame of predictions.
        columns: (predictions, label names) → the columns that they add to such a frame.
        answer: (row of such a frame, label names) → the fields of one line of `kft predict`.
        grouped: whether the rows of a question are predicted together, so that steps hold whole questions.
    """

    labels: Callable[[pl.DataFrame], list[str]]
    outputs: Callable[[list[str]], int]
    targets: Callable[[pl.DataFrame, list[str]], np.ndarray]
    weights: Callable[[np.ndarray, list[str], str | dict[str, float] | None], np.ndarray]
    loss: Callable[..., keras.losses.Loss]
    divergence: Callable[..., Any]
    loss_metric: str
    predictions: Callable[[np.ndarray, np.ndarray | None], np.ndarray]
    scored: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    shown_targets: Callable[[pl.DataFrame, np.ndarray], pl.Series]
    columns: Callable[[np.ndarray, list[str]], list[pl.Series]]
    answer: Callable[[dict[str, Any], list[str]], dict[str, Any]]
    grouped: bool = False


def question_numbers(frame: pl.DataFrame, task: Task) -> np.ndarray | None:
    """Number of each row's question, int64 [N] from 0 without gaps; None for tasks whose rows stand alone."""
    return answers.questions(frame) if task.grouped else None


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


class _Focal(keras.losses.Loss):
    """Cross-entropy of integer targets times (1 - p) ** gamma, p the target's probability (Lin et al. 2017, eq. 4)."""

    def __init__(self, gamma: float):
        super().__init__(name="focal", reduction="mean_with_sample_weight")
        self.gamma = gamma

    def call(self, y_true, y_pred):
        one_hot = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        log_p = keras.ops.sum(one_hot * keras.ops.log_softmax(y_pred, axis=-1), axis=-1)
        # The gradient of 0 ** gamma is not finite for gamma < 1, hence the floor.
        return -keras.ops.power(keras.ops.maximum(1 - keras.ops.exp(log_p), 1e-7), self.gamma) * log_p


def _cross_entropy(label_smoothing: float, focal_gamma: float | None = None) -> keras.losses.Loss:
    if focal_gamma is not None:
        return _Focal(focal_gamma)
    if label_smoothing:
        return _SmoothedCrossEntropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


def _apart(log_p, log_q):
    """Each outcome's part of (KL(p‖q) + KL(q‖p)) / 2, from log-probabilities of any shape."""
    return (keras.ops.exp(log_p) - keras.ops.exp(log_q)) * (log_p - log_q) / 2


def _class_divergence(y_true, p, q):
    log_p, log_q = (keras.ops.log_softmax(logits, axis=-1) for logits in (p, q))
    return keras.ops.sum(_apart(log_p, log_q), axis=-1)


def _class_columns(probabilities: np.ndarray, labels: list[str]) -> list[pl.Series]:
    best = probabilities.argmax(axis=1)
    return [
        pl.Series("label", [labels[i] for i in best], pl.String),
        pl.Series("score", probabilities.max(axis=1, initial=0), pl.Float64),
        pl.Series("probabilities", list(probabilities), pl.List(pl.Float64)),
    ]


def _class_answer(row: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    return {"label": row["label"], "probabilities": dict(zip(labels, row["probabilities"], strict=True))}


# Choices: the rows of a question compete.


def _choices(frame: pl.DataFrame, labels: list[str]) -> np.ndarray:
    check_questions(frame)
    right = frame["label"].is_in(RIGHT).to_numpy()
    return np.stack([right, question_numbers(frame, TASKS["choice"]) + 1], axis=1).astype(np.int32)


class _ChoiceCrossEntropy(keras.losses.Loss):
    """Cross-entropy of a softmax over the scores of each question, wherever in the step its choices stand.

    The right choice alone has a weight, so the weighted mean is one over questions. Empty slots make up a question
    without weight.
    """

    def __init__(self):
        super().__init__(name="choice_cross_entropy", reduction="mean_with_sample_weight")

    def call(self, y_true, y_pred):
        log_p = _log_softmax_of_questions(_together(y_true), y_pred)
        return -keras.ops.reshape(log_p, keras.ops.shape(y_pred)[:2])


def _together(y_true):
    """Whether two examples of a step are choices of one question, [R * K, R * K]."""
    question = keras.ops.reshape(y_true[..., 1], (-1,))
    return keras.ops.equal(question[:, None], question[None, :])


def _log_softmax_of_questions(together, y_pred):
    """Log-probability of each choice, [R * K]."""
    ops = keras.ops
    score = ops.reshape(y_pred, (-1,))
    rivals = ops.where(together, score[None, :], ops.cast(-1e9, score.dtype))  # [R * K, R * K]
    return score - ops.logsumexp(rivals, axis=1)


def _choice_divergence(y_true, p, q):
    ops, together = keras.ops, _together(y_true)
    parts = _apart(*(_log_softmax_of_questions(together, scores) for scores in (p, q)))
    return ops.reshape(ops.sum(ops.where(together, parts[None, :], 0.0), axis=1), ops.shape(p)[:2])


def _compare_choices(logits: np.ndarray, questions: np.ndarray) -> np.ndarray:
    score = logits.astype(np.float64)[:, 0]
    at = answers.places(questions)
    table = np.full((at[0].max(initial=-1) + 1, at[1].max(initial=0) + 1), -np.inf)
    table[at] = score
    return np.stack([score, softmax(table, axis=1)[at], answers.chosen(score, questions)], axis=1)


def _choice_columns(predictions: np.ndarray, labels: list[str]) -> list[pl.Series]:
    score, probability, chosen = predictions.T
    return [
        pl.Series("score", score, pl.Float64),
        pl.Series("probability", probability, pl.Float64),
        pl.Series("chosen", chosen > 0, pl.Boolean),
    ]


TASKS = {
    "classification": Task(
        labels=lambda frame: ordered(frame["label"]),
        outputs=len,
        targets=_class_ids,
        weights=example_weights,
        loss=_cross_entropy,
        divergence=_class_divergence,
        loss_metric="log_loss",
        predictions=lambda logits, questions=None: softmax(logits.astype(np.float64), axis=1),
        scored=lambda targets, probabilities: (targets, probabilities),
        shown_targets=lambda frame, _: frame["label"],
        columns=_class_columns,
        answer=_class_answer,
    ),
    "regression": Task(
        labels=lambda frame: [],
        outputs=lambda labels: 1,
        targets=_scores,
        weights=lambda targets, *_: np.ones(len(targets), np.float32),
        loss=lambda *_: keras.losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        divergence=lambda _, p, q: keras.ops.square(p - q)[..., 0],
        loss_metric="mean_squared_error",
        predictions=lambda logits, questions=None: logits.astype(np.float64)[:, 0],
        scored=lambda targets, values: (targets[:, 0].astype(np.float64), values),
        shown_targets=lambda _, targets: pl.Series(targets[:, 0].astype(np.float64)),
        columns=lambda values, labels: [pl.Series("value", values, pl.Float64)],
        answer=lambda row, labels: {"value": row["value"]},
    ),
    "choice": Task(
        labels=lambda frame: [],
        outputs=lambda labels: 1,
        targets=_choices,
        weights=lambda targets, *_: targets[:, 0].astype(np.float32),
        loss=lambda *_: _ChoiceCrossEntropy(),
        divergence=_choice_divergence,
        loss_metric="log_loss",
        predictions=_compare_choices,
        scored=lambda targets, told: answers.by_question(targets[:, 0], told[:, 1], targets[:, 1] - 1),
        shown_targets=lambda frame, _: frame["label"],
        columns=_choice_columns,
        answer=lambda row, labels: {key: row[key] for key in ("score", "probability", "chosen")},
        grouped=True,
    ),
}
