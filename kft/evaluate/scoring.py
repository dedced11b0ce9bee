"""Logits of token rows, and their scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from kft import backend, batches, metrics, models
from kft import text as tokens
from kft.tasks import TASKS, Task, question_numbers

STEP_TOKENS = {"cpu": 4096, "accelerator": 32_768}  # tokens in a prediction step


@dataclass(frozen=True)
class Scored:
    """Scores of one split: {metric: float}, their details, the predictions as a frame, and the mean loss."""

    metrics: dict[str, float]
    details: dict[str, Any]
    predictions: pl.DataFrame
    loss: float


def predict_logits(
    model: models.Classifier, rows: tokens.Tokens, shape: batches.PredictionShape | None = None
) -> np.ndarray:
    """Logits float32 [N, C] of N examples, in their order."""
    count = len(rows.offsets) - 1
    if not count:
        return np.zeros((0, model.architecture.outputs), np.float32)
    shape = shape or choose_shape(model, rows)
    where, steps = batches.prediction_steps(rows, shape)
    made = model.predict(
        batches.prediction_batches(rows, shape, where, steps), steps=int(steps.max()) + 1, verbose=0
    )  # [S * R, K, C]
    logits = np.empty((count, model.architecture.outputs), np.float32)
    logits[where.examples[0]] = made[steps * shape.rows + where.rows[0], where.slots[0]]
    return logits


def choose_shape(model: models.Classifier, *rows: tokens.Tokens) -> batches.PredictionShape:
    """The prediction batches that hold all of `rows`, as large as the device likes them."""
    lengths = np.concatenate([np.diff(r.offsets) for r in rows])
    devices = backend.device_count()
    step_tokens = STEP_TOKENS["accelerator" if backend.on_accelerator() else "cpu"]
    longest = model.architecture.backbone["max_sequence_length"]
    return batches.prediction_shape(lengths, longest, step_tokens, devices)


@dataclass(frozen=True)
class Expected:
    """What the rows of a split should be answered with.

    Attributes:
        targets: of `Task.targets`, [N, …].
        questions: number of each row's question, int64 [N]; None where rows stand alone.
    """

    targets: np.ndarray
    questions: np.ndarray | None


def expected(frame: pl.DataFrame, task: Task, labels: list[str]) -> Expected:
    """The targets of a frame's rows.

    Raises:
        KftError: a label is missing, unknown or no finite number; names the row.
    """
    return Expected(task.targets(frame, labels), question_numbers(frame, task))


def scores(
    expected: Expected, logits: np.ndarray, architecture: models.Architecture, labels: list[str]
) -> tuple[dict[str, float], float]:
    """The metrics and the mean loss of logits [N, C], without details, intervals and predictions."""
    task = TASKS[architecture.task]
    predictions = decode(logits, architecture, task, expected.questions)
    values = metrics.scores(architecture.task, *task.scored(expected.targets, predictions), labels)
    return values, values[task.loss_metric]


def score(
    frame: pl.DataFrame,
    logits: np.ndarray,
    architecture: models.Architecture,
    task: Task,
    labels: list[str],
    detailed: bool = True,
) -> Scored:
    """Scores logits [N, C] against the labels of a frame; the details (intervals and so on) cost a second or two.

    Raises:
        KftError: a label is missing, unknown or no finite number; names the row.
    """
    predictions = decode(logits, architecture, task, question_numbers(frame, task))
    return score_predictions(frame, predictions, architecture.task, labels, detailed)


def score_predictions(
    frame: pl.DataFrame, predictions: np.ndarray, kind: metrics.Kind, labels: list[str], detailed: bool = True
) -> Scored:
    """Scores what `decode` told of the rows of a frame; raises as `score` does."""
    task = TASKS[kind]
    targets = task.targets(frame, labels)
    scored = task.scored(targets, predictions)
    values = metrics.scores(kind, *scored, labels)
    told = task.shown_targets(frame, targets)
    columns = [c for c in ("id", "text", "text_pair", "group") if c in frame.columns]
    table = frame.select(columns).with_columns(told.alias("target"), *task.columns(predictions, labels))
    details = metrics.details(kind, *scored, labels) if detailed else {}
    return Scored(values, details, table, values[task.loss_metric])


def decode(
    logits: np.ndarray, architecture: models.Architecture, task: Task, questions: np.ndarray | None = None
) -> np.ndarray:
    """Logits [N, C] → what `Task.predictions` tells, values in the scores' own unit; choices need `question_numbers`."""
    predictions = task.predictions(logits, questions)
    if architecture.task == "regression":
        predictions = predictions * architecture.score_scale + architecture.score_mean
    return predictions
