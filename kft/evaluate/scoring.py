"""Logits of tokens, and their scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from kft import backend, batches, models
from kft.metrics.bootstrap import Draws
from kft.tasks import TASKS, scoring
from kft.tasks.questions import GROUP, group_numbers, numbered
from kft.tasks.record import Learned, Reads, read_first
from kft.text import Tokens

STEP_TOKENS = {"cpu": 4096, "accelerator": 32_768}  # tokens in a prediction step


@dataclass(frozen=True)
class Scored:
    """Scores of a split: {metric: float}, details, the frame of predictions, the mean loss."""

    metrics: dict[str, float]
    details: dict[str, Any]
    predictions: pl.DataFrame
    loss: float


def predict_logits(
    model: models.Classifier,
    tokens: Tokens,
    shape: batches.PredictionShape | None = None,
    reads: Reads | None = None,
) -> np.ndarray:
    """Logits float32 [M, C] of the places that are read of N examples, in their order.

    Args:
        model: the classifier.
        tokens: of the examples.
        shape: of the batches; None chooses one.
        reads: what is read of the examples; None is the first token of each.
    """
    count = len(tokens.offsets) - 1
    reads = reads or read_first(count)
    if not count:
        return np.zeros((0, model.architecture.outputs), np.float32)
    shape = shape or choose_shape(model, tokens, counts=reads.counts)
    where, steps = batches.prediction_steps(tokens, shape, reads)
    inputs = batches.prediction_batches(tokens, reads, shape, where, steps)
    outputs = model.predict(inputs, steps=int(steps.max()) + 1, verbose=0)  # [S * R, M, C]
    return batches.predicted(outputs, reads, where, steps)


def choose_shape(
    model: models.Classifier, *tokens: Tokens, counts: np.ndarray | None = None
) -> batches.PredictionShape:
    """The prediction batches that hold all of `tokens`, as large as the device likes them.

    Args:
        model: the classifier.
        tokens: of one split or of several.
        counts: places of each example that are read; None where it is one.
    """
    lengths = np.concatenate([np.diff(part.offsets) for part in tokens])
    devices = backend.device_count()
    step_tokens = STEP_TOKENS["accelerator" if backend.on_accelerator() else "cpu"]
    longest = model.architecture.sizes.max_length
    return batches.prediction_shape(lengths, longest, step_tokens, devices, counts)


@dataclass(frozen=True)
class Expected:
    """What the rows of a split should be answered with.

    Attributes:
        truths: of `Task.truths`, [N, …].
        questions: number of each row's question, int64 [N]; None where rows stand alone.
    """

    truths: np.ndarray
    questions: np.ndarray | None


def expected(frame: pl.DataFrame, task: str, learned: Learned) -> Expected:
    """What the labels of a frame say.

    Raises:
        KftError: a label is missing, unknown or no finite number; names the row.
    """
    TASKS[task].check(frame, learned)
    return Expected(TASKS[task].truths(frame["label"], learned), question_numbers(frame, task))


def question_numbers(frame: pl.DataFrame, task: str) -> np.ndarray | None:
    """Number of each row's question, int64 [N] from 0 without gaps; None if rows stand alone."""
    return numbered(frame) if TASKS[task].grouped else None


def scores(
    expected: Expected, logits: np.ndarray, task: str, learned: Learned
) -> tuple[dict[str, float], float]:
    """The metrics and the mean loss of logits [N, C], without details and predictions."""
    predictions = TASKS[task].predictions(logits, learned, expected.questions)
    scored = TASKS[task].scored(expected.truths, predictions, expected.questions)
    values = scoring.scores(task, *scored, list(learned.labels), learned.positive)
    return values, values[TASKS[task].scoring.loss]


def score(
    frame: pl.DataFrame, logits: np.ndarray, task: str, learned: Learned, detailed: bool = True
) -> Scored:
    """Scores logits [N, C] against a frame's labels; details (intervals …) take a second or two.

    Raises:
        KftError: a label is missing, unknown or no finite number; names the row.
    """
    predictions = TASKS[task].predictions(logits, learned, question_numbers(frame, task))
    return score_predictions(frame, predictions, task, learned, detailed)


def score_predictions(
    frame: pl.DataFrame, predictions: np.ndarray, task: str, learned: Learned, detailed: bool = True
) -> Scored:
    """Scores the predictions for the rows of a frame; raises as `score` does."""
    record, wanted = TASKS[task], expected(frame, task, learned)
    scored = record.scored(wanted.truths, predictions, wanted.questions)
    values = scoring.scores(task, *scored, list(learned.labels), learned.positive)
    target = record.target_column(frame["label"], wanted.truths).alias("target")
    columns = [c for c in ("id", "text", "text_pair", "group", GROUP) if c in frame.columns]
    table = frame.select(columns).with_columns(target, *record.columns(predictions, learned))
    details = {}
    if detailed:
        named = (list(learned.labels), learned.positive)
        details = scoring.details(task, *scored, *named)
        details |= scoring.grouped(task, *scored, *named, Draws(groups=group_numbers(frame)))
    return Scored(values, details, table, values[record.scoring.loss])
