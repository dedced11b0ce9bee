"""Scores of predictions against targets, by scikit-learn and scipy; the tasks say which.

Intervals are by bootstrap.

N is the number of examples, C of classes. Class ids, int [N], are scored against probabilities,
float [N, C], and values, float [N], against values, float [N]. Sets of labels, 0 or 1 for each, int
[N, C], are scored against [N, C, 2]: the probability of each label, and 1 where it is predicted.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kft.later import Later
from kft.metrics import answers, entities

sk, stats = Later("sklearn.metrics"), Later("scipy.stats")
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Metric:
    """One score.

    Attributes:
        compute: (targets, predictions) → float; nan where the score is not defined for these
            examples.
        greater_is_better: its direction.
        needs_binary: defined for two classes only; the second one (class id 1) is the positive one.
        interval: whether it has a bootstrap interval.
    """

    compute: Callable[[np.ndarray, np.ndarray], float]
    greater_is_better: bool = True
    needs_binary: bool = False
    interval: bool = False


def better(metric: str, a: float | None, b: float | None) -> bool:
    """Whether score `a` is better than score `b`; an undefined one (nan or None) is worst."""
    a, b = (math.nan if value is None else value for value in (a, b))
    if math.isnan(a) or math.isnan(b):
        return math.isnan(b) and not math.isnan(a)
    return a > b if METRICS[metric].greater_is_better else a < b


def over_runs(
    scores: list[dict[str, float | None]],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """{metric: mean} and {metric: sample standard deviation} of runs' scores.

    None where a run has no such score, and of one run alone there is no deviation.
    """
    means, deviations = {}, {}
    for name in scores[0] if scores else ():
        values = [run.get(name) for run in scores]
        known = None not in values
        means[name] = statistics.mean(values) if known else None
        deviations[name] = statistics.stdev(values) if known and len(values) > 1 else None
    return means, deviations


def confusion_matrix(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Examples by target (rows) and predicted class (columns), int [C, C]."""
    classes = predictions.shape[1]
    counts = np.bincount(targets * classes + predictions.argmax(axis=1), minlength=classes**2)
    return counts.reshape(classes, classes)


def confusions(
    targets: np.ndarray, predictions: np.ndarray, labels: list[str], most: int
) -> list[dict[str, Any]]:
    """The commonest pairs of a target and another predicted class, whatever the number of classes.

    Returns:
        [{"target", "label", "count"}], those of equal count in label order.
    """
    predicted = predictions.argmax(axis=1)
    wrong = predicted != targets
    cells, counts = np.unique(targets[wrong] * len(labels) + predicted[wrong], return_counts=True)
    commonest = np.argsort(-counts, kind="stable")[:most]
    return [
        {"target": labels[cell // len(labels)], "label": labels[cell % len(labels)], "count": int(count)}
        for cell, count in zip(cells[commonest].tolist(), counts[commonest], strict=True)
    ]


def calibration(targets: np.ndarray, predictions: np.ndarray) -> list[dict[str, Any]]:
    """Equal-width bins (low, high] of the highest probability: count, confidence, accuracy."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    confidence = predictions.max(axis=1, initial=0)
    right = predictions.argmax(axis=1) == targets
    bins = np.digitize(confidence, edges[1:-1], right=True)
    return [
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "count": int((bins == i).sum()),
            "confidence": float(confidence[bins == i].mean()) if (bins == i).any() else None,
            "accuracy": float(right[bins == i].mean()) if (bins == i).any() else None,
        }
        for i in range(CALIBRATION_BINS)
    ]


# Classification.


def _decided(predictions: np.ndarray) -> np.ndarray:
    """What is predicted: class ids [N] of [N, C], or whether each label is, [N, C] of [N, C, 2]."""
    return predictions.argmax(axis=1) if predictions.ndim == 2 else predictions[:, :, 1].astype(np.int64)


def _exact_match(targets, predictions) -> float:
    if isinstance(predictions, answers.Answered):
        return answers.total("exact_match", targets, predictions)
    return (_decided(predictions) == targets).all(axis=1).mean()


def _average_precision(targets, predictions) -> float:
    return sk.average_precision_score(targets, predictions[:, :, 0], average="macro")


def _accuracy(targets, predictions) -> float:
    return sk.accuracy_score(targets, predictions.argmax(axis=1))


def _positive(score: Callable, targets, predictions) -> float:
    # Naming the label, unlike average="binary", also takes examples that are all of one class.
    return score(targets, predictions.argmax(axis=1), labels=[1], average="macro", zero_division=0)


def _f1(targets, predictions) -> float:
    if isinstance(predictions, answers.Answered):
        return answers.total("f1", targets, predictions)
    return _positive(sk.f1_score, targets, predictions)


def _averaged(score: Callable, average: str, targets, predictions) -> float:
    # Of classes the average is over those that occur among targets or predictions, as in
    # scikit-learn by default.
    return score(targets, _decided(predictions), average=average, zero_division=0)


def _matthews(targets, predictions) -> float:
    return sk.matthews_corrcoef(targets, predictions.argmax(axis=1))


def _roc_auc(targets, predictions) -> float:
    classes = predictions.shape[1]
    if len(np.unique(targets)) < max(classes, 2):
        return math.nan
    if classes == 2:
        return sk.roc_auc_score(targets, predictions[:, 1])
    return sk.roc_auc_score(
        targets, predictions, multi_class="ovr", average="macro", labels=np.arange(classes)
    )


def _log_loss(targets, predictions) -> float:
    if predictions.ndim == 3:  # the mean over the labels, as the loss has it
        p = np.clip(predictions[:, :, 0], 1e-15, 1 - 1e-15)
        return float(-np.where(targets == 1, np.log(p), np.log1p(-p)).mean())
    return sk.log_loss(targets, predictions, labels=np.arange(predictions.shape[1]))


def _calibration_error(targets, predictions) -> float:
    """Mean gap between confidence and accuracy over bins (Guo et al. 2017, equation 3)."""
    bins = [b for b in calibration(targets, predictions) if b["count"]]
    return sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / len(targets)


def per_class(targets, predictions, labels) -> dict[str, dict[str, float]]:
    predicted, ids = _decided(predictions), np.arange(len(labels))
    columns = np.zeros((4, len(labels)))
    if len(targets):
        columns = sk.precision_recall_fscore_support(targets, predicted, labels=ids, zero_division=0)
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for label, p, r, f, s in zip(labels, *columns, strict=True)
    }


# Regression.


def _r2(targets, values) -> float:
    return sk.r2_score(targets, values) if len(targets) > 1 else math.nan


def _correlation(correlate: Callable, targets, values) -> float:
    return correlate(targets, values).statistic if len(targets) > 1 else math.nan


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy, interval=True),
    "precision": Metric(partial(_positive, sk.precision_score), needs_binary=True),
    "recall": Metric(partial(_positive, sk.recall_score), needs_binary=True),
    "f1": Metric(_f1, needs_binary=True, interval=True),
    "precision_macro": Metric(partial(_averaged, sk.precision_score, "macro")),
    "recall_macro": Metric(partial(_averaged, sk.recall_score, "macro")),
    "f1_macro": Metric(partial(_averaged, sk.f1_score, "macro"), interval=True),
    "precision_weighted": Metric(partial(_averaged, sk.precision_score, "weighted")),
    "recall_weighted": Metric(partial(_averaged, sk.recall_score, "weighted")),
    "f1_weighted": Metric(partial(_averaged, sk.f1_score, "weighted")),
    "matthews_correlation": Metric(_matthews, interval=True),
    "f1_micro": Metric(partial(_averaged, sk.f1_score, "micro"), interval=True),
    "precision_micro": Metric(partial(_averaged, sk.precision_score, "micro")),
    "recall_micro": Metric(partial(_averaged, sk.recall_score, "micro")),
    "f1_samples": Metric(partial(_averaged, sk.f1_score, "samples"), interval=True),
    "exact_match": Metric(_exact_match, interval=True),
    "average_precision": Metric(_average_precision),
    "roc_auc": Metric(_roc_auc),
    "log_loss": Metric(_log_loss, greater_is_better=False),
    "expected_calibration_error": Metric(_calibration_error, greater_is_better=False),
    "spearman": Metric(partial(_correlation, stats.spearmanr), interval=True),
    "pearson": Metric(partial(_correlation, stats.pearsonr), interval=True),
    "mean_squared_error": Metric(sk.mean_squared_error, greater_is_better=False),
    "root_mean_squared_error": Metric(sk.root_mean_squared_error, greater_is_better=False, interval=True),
    "mean_absolute_error": Metric(sk.mean_absolute_error, greater_is_better=False),
    "r2": Metric(_r2),
    # Of tagged words, see `entities.Tagged`.
    **{
        name: Metric(
            partial(entities.total, name),
            greater_is_better=name != "token_log_loss",
            interval=name != "token_log_loss",
        )
        for name in entities.METRICS
    },
    # Of answers to questions, see `answers.Answered`; "f1" and "exact_match" stand above.
    **{
        name: Metric(
            partial(answers.total, name), name != "answer_log_loss", interval=name != "answer_log_loss"
        )
        for name in answers.METRICS[2:]
    },
}
