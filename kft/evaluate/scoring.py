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

    Windows of an example that are read alike are answered together, see `batches.spread`.

    Args:
        model: the classifier.
        tokens: of the examples.
        shape: of the batches; None chooses one.
        reads: what is read of the examples; None is the first token of each.
    """
    count = len(tokens.offsets) - 1
    reads = batches.spread(reads or read_first(len(tokens.bounds) - 1), tokens)
    if not count:
        return np.zeros((0, model.architecture.outputs), np.float32)
    shape = shape or choose_shape(model, tokens, counts=reads.counts)
    where, steps = batches.prediction_steps(tokens, shape, reads)
    inputs = batches.prediction_batches(tokens, reads, shape, where, steps)
    outputs = model.predict(inputs, steps=int(steps.max()) + 1, verbose=0)  # [S * R, M, C]
    answers = batches.predicted(outputs, reads, where, steps)
    if reads.windows is None:
        return answers
    return batches.merged(answers, reads.windows, model.architecture.windows)


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
        reads: the places that are read, without targets.
    """

    truths: np.ndarray
    reads: Reads


def expected(frame: pl.DataFrame, task: str, learned: Learned, tokens: Tokens | None = None) -> Expected:
    """What the labels of a frame say; who reads first tokens alone needs no `tokens`.

    Raises:
        KftError: a label is missing, unknown or no finite number; names the row.
    """
    TASKS[task].check(frame, learned)
    return Expected(TASKS[task].truths(frame["label"], learned), TASKS[task].places(frame, tokens))


def scores(
    expected: Expected, logits: np.ndarray, task: str, learned: Learned
) -> tuple[dict[str, float], float]:
    """The metrics and the mean loss of logits [M, C], without details and predictions."""
    predictions = TASKS[task].predictions(logits, learned, expected.reads)
    scored = TASKS[task].scored(expected.truths, predictions, learned, expected.reads.questions)
    values = scoring.scores(task, *scored, list(learned.labels), learned.positive)
    return values, values[TASKS[task].scoring.loss]


def score(
    frame: pl.DataFrame,
    logits: np.ndarray,
    task: str,
    learned: Learned,
    reads: Reads | None = None,
    detailed: bool = True,
) -> Scored:
    """Scores the logits [M, C] of what is read of a frame against its labels.

    The details (intervals and so on) cost a second or two.

    Args:
        frame: the rows.
        logits: of the read places.
        task: a key of `TASKS`.
        learned: what it took from train.
        reads: the places; None is the first token of each row.
        detailed: whether there are details.

    Raises:
        KftError: a label is missing, unknown or no finite number; names the row.
    """
    reads = reads or TASKS[task].places(frame, None)
    predictions = TASKS[task].predictions(logits, learned, reads)
    return score_predictions(frame, predictions, task, learned, detailed)


def score_predictions(
    frame: pl.DataFrame, predictions: np.ndarray, task: str, learned: Learned, detailed: bool = True
) -> Scored:
    """Scores the predictions for the rows of a frame; raises as `score` does."""
    record = TASKS[task]
    record.check(frame, learned)
    truths = record.truths(frame["label"], learned)
    scored = record.scored(truths, predictions, learned, numbered(frame) if record.grouped else None)
    values = scoring.scores(task, *scored, list(learned.labels), learned.positive)
    target = record.target_column(frame["label"], truths).alias("target")
    columns = [c for c in ("id", "key", "text", "text_pair", "words", "group", GROUP) if c in frame.columns]
    table = frame.select(columns).with_columns(target, *record.columns(predictions, learned))
    details = {}
    if detailed:
        named = (list(learned.labels), learned.positive)
        details = scoring.details(task, *scored, *named)
        details |= scoring.grouped(task, *scored, *named, Draws(groups=group_numbers(frame)))
    return Scored(values, details, table, values[record.scoring.loss])
