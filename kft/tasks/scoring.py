"""Scores of predictions by a task's metrics, the details behind them, and metrics' names.

N is the number of examples (of choices: questions), C of classes. Classification scores class ids,
int [N], against probabilities, float [N, C] with rows that sum to 1; regression scores targets,
float [N], against values, float [N]. Choice scores questions: the target is the place of the right
choice, and probabilities are 0 where a question has fewer choices.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kft.errors import KftError, did_you_mean
from kft.metrics import METRICS, bootstrap
from kft.tasks import TASKS


def scores(
    task: str,
    targets: np.ndarray,
    predictions: np.ndarray,
    labels: list[str] | None = None,
    positive: str | None = None,
) -> dict[str, float]:
    """Every score of a task, its main one first.

    Args:
        task: a key of `TASKS`.
        targets, predictions: as the task's `scored` gives them.
        labels: the C label names in id order.
        positive: of two labels the one that precision, recall and f1 are of; None takes the second.

    Returns:
        {metric: score}, in the task's order; nan for a score that is not defined here, such as a
        correlation with a constant.

    Raises:
        KftError: a prediction is not a finite number.
    """
    targets, predictions = _checked(task, targets, predictions, labels)
    targets, predictions = positive_second(targets, predictions, labels, positive)
    classes = len(labels) if labels else None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # an undefined score is nan, which says it all
        return {
            name: float(METRICS[name].compute(targets, predictions)) if len(targets) else math.nan
            for name in names(task, classes)
        }


def details(
    task: str,
    targets: np.ndarray,
    predictions: np.ndarray,
    labels: list[str] | None = None,
    positive: str | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """What stands behind the scores, ready for JSON.

    Args:
        task, targets, predictions, labels, positive: as for `scores`.
        seed: of the bootstrap; the same seed gives the same intervals.
        resamples: of the bootstrap.

    Returns:
        {"examples": N, "intervals": {metric: [low, high]}}, where an interval is the 95 %
        percentile bootstrap over the examples, [None, None] where there is none
        (`bootstrap.intervals`). For classes also "labels", "per_class" {label: {"precision",
        "recall", "f1", "support"}}, "positive" (of two), "confusion_matrix" (a row for each target,
        a column for each prediction, in label order) and "calibration", a list of {"low", "high",
        "count", "confidence", "accuracy"} for the bins of the highest probability, None in empty
        ones. For choices "questions" in place of "examples", "intervals" and "calibration".

    Raises:
        KftError: a prediction is not a finite number.
    """
    targets, predictions = _checked(task, targets, predictions, labels)
    content = TASKS[task].scoring.details(
        targets, predictions, labels, np.random.default_rng(seed), resamples
    )
    binary = any(METRICS[metric].needs_binary for metric in TASKS[task].scoring.metrics)
    name = positive_label(labels, positive) if binary else None
    if name is None or name == labels[1]:
        return content if name is None else content | {"positive": name}
    scored = positive_second(targets, predictions, labels, positive)
    turned = TASKS[task].scoring.details(*scored, labels, np.random.default_rng(seed), resamples)
    return content | {"positive": name, "intervals": turned["intervals"]}


def grouped(
    task: str,
    targets: np.ndarray,
    predictions: np.ndarray,
    labels: list[str] | None,
    positive: str | None,
    draws: bootstrap.Draws,
) -> dict[str, Any]:
    """{"groups": number, "intervals"} in place of `details`', if examples have groups; else {}.

    Raises:
        KftError: a prediction is not a finite number.
    """
    if draws.groups is None or not len(targets):
        return {}
    targets, predictions = positive_second(targets, predictions, labels, positive)
    resampled = {
        name: values[0] for name, values in resample(task, targets, [predictions], labels, draws).items()
    }
    count = int(draws.groups.max()) + 1
    return {"groups": count, "intervals": bootstrap.intervals(resampled, count)}


def resample(
    task: str,
    targets: np.ndarray,
    predictions: Sequence[np.ndarray],
    labels: list[str] | None,
    draws: bootstrap.Draws,
) -> dict[str, np.ndarray]:
    """{metric: scores [M, S]} of M models on the same resamples of the examples; nan if undefined.

    Of the metrics with an interval.

    Args:
        task, targets, labels: as for `scores`.
        predictions: of each model, as for `scores`.
        draws: of the resamples.
    """
    places = kinds = np.arange(len(targets))
    if decided := TASKS[task].scoring.alike:
        # The scores depend on these alone: examples that are alike in all models are drawn
        # together.
        alike = np.column_stack([targets, *map(decided, predictions)])
        _, places, kinds = np.unique(alike, axis=0, return_index=True, return_inverse=True)
    parts = [
        [resampled(task, targets[places], p[places], labels, counts) for p in predictions]
        for counts in bootstrap.drawn(kinds.ravel(), draws)
    ]
    return {
        name: np.concatenate([np.stack([scores[name] for scores in part]) for part in parts], axis=1)
        for name in parts[0][0]
    }


def positive_label(labels: Sequence[str] | None, positive: str | None = None) -> str | None:
    """Of two classes the one that precision, recall and f1 are of; None where there are not two."""
    return (positive or labels[1]) if labels and len(labels) == 2 else None


def positive_second(
    targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str] | None, positive: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Targets and predictions of two classes, ids exchanged where the positive one is first."""
    if positive is None or positive_label(labels, positive) != labels[0]:
        return targets, predictions
    return 1 - targets, predictions[:, ::-1]


def resampled(
    task: str, targets: np.ndarray, predictions: np.ndarray, labels: list[str] | None, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores of S resamples at once, of the metrics that have an interval.

    Args:
        task, targets, predictions, labels: as for `scores`.
        counts: how often a resample holds each example, [S, N].

    Returns:
        {metric: float [S]}; nan where the score is not defined for a resample.

    Raises:
        KftError: a prediction is not a finite number.
    """
    targets, predictions = _checked(task, targets, predictions, labels)
    return TASKS[task].scoring.resampled(targets, predictions, np.asarray(counts, np.float64))


def names(task: str, n_classes: int | None = None) -> list[str]:
    """The metrics of a task, in their order; `n_classes` None lists those for two classes too."""
    binary = n_classes in (None, 2)
    return [name for name in TASKS[task].scoring.metrics if binary or not METRICS[name].needs_binary]


def with_interval(task: str, n_classes: int | None = None) -> list[str]:
    """The metrics of a task with an interval in `details`, which `resampled` computes."""
    return [name for name in names(task, n_classes) if METRICS[name].interval]


def main_metric(task: str) -> str:
    """The metric that picks the best epoch unless the user names another."""
    return TASKS[task].scoring.metrics[0]


def check_name(task: str, name: str, n_classes: int | None = None, where: str = "train.best_metric") -> str:
    """`name`, if it is a metric of the task with that many classes.

    Args:
        task: a key of `TASKS`.
        name: what the user wrote.
        n_classes: None where it is not known yet.
        where: the setting that the message names.

    Raises:
        KftError: it is none; names the nearest one.
    """
    options = names(task, n_classes)
    if name in options:
        return name
    hint = f"the metrics are {', '.join(options)}"
    if name not in METRICS:
        raise KftError(f"`{where}`: there is no metric {name!r}{did_you_mean(name, options)}", hint)
    if name not in names(task):
        of = [other for other in TASKS if name in names(other)]
        raise KftError(f"`{where}`: {name!r} is a metric of {' and '.join(of)}, and `task` is {task}", hint)
    near = did_you_mean(f"{name}_macro", options)
    raise KftError(f"`{where}`: {name!r} needs two classes, the data has {n_classes}{near}", hint)


def _checked(task: str, targets, predictions, labels) -> tuple[np.ndarray, np.ndarray]:
    targets, predictions = TASKS[task].scoring.checked(targets, predictions, len(labels or ()))
    finite = np.isfinite(TASKS[task].scoring.numbers(predictions))
    wrong = ~finite.reshape(len(finite), -1).all(axis=1) if len(finite) else np.zeros(0, bool)
    if wrong.any():
        raise KftError(
            f"{wrong.sum()} of {len(targets)} predictions are not finite numbers (the first is number {wrong.argmax() + 1})",
            "the training has diverged: lower train.learning_rate, or train in float32",
        )
    return targets, predictions
