"""Scores of predictions against targets, by scikit-learn and scipy, with bootstrap intervals.

N is the number of examples, C of classes. Classification scores class ids, int [N], against probabilities, float
[N, C] with rows that sum to 1; regression scores targets, float [N], against values, float [N]. Choice scores questions:
N of them, C choices at most, the target is the place of the right choice, and probabilities are 0 where a question has
fewer choices.
"""

import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from kft.errors import KftError, did_you_mean
from kft.metrics import bootstrap

Kind = Literal["classification", "regression", "choice"]

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Metric:
    """One score.

    Attributes:
        kinds: the tasks that it scores.
        compute: (targets, predictions) → float; nan where the score is not defined for these examples.
        greater_is_better: its direction.
        needs_binary: defined for two classes only; the second one (class id 1) is the positive one.
        interval: whether `details` gives a bootstrap interval.
    """

    kinds: tuple[Kind, ...]
    compute: Callable[[np.ndarray, np.ndarray], float]
    greater_is_better: bool = True
    needs_binary: bool = False
    interval: bool = False


def scores(
    kind: Kind, targets: np.ndarray, predictions: np.ndarray, labels: list[str] | None = None
) -> dict[str, float]:
    """Every score of the task, the task's main one first.

    Args:
        kind: "classification", "regression" or "choice".
        targets: class ids (or places), int [N], or float [N].
        predictions: probabilities, float [N, C], or values, float [N].
        labels: the C label names in id order; for classification only.

    Returns:
        {metric: score}, in the order of `METRICS`; nan for a score that is not defined here, such as a correlation
        with a constant.

    Raises:
        KftError: a prediction is not a finite number.
    """
    targets, predictions = _checked(kind, targets, predictions, labels)
    classes = predictions.shape[1] if predictions.ndim == 2 else None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # an undefined score is nan, which says it all
        return {
            name: float(METRICS[name].compute(targets, predictions)) if len(targets) else math.nan
            for name in names(kind, classes)
        }


def details(
    kind: Kind,
    targets: np.ndarray,
    predictions: np.ndarray,
    labels: list[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """What stands behind the scores, ready for JSON.

    Args:
        kind, targets, predictions, labels: as for `scores`.
        seed: of the bootstrap; the same seed gives the same intervals.
        resamples: of the bootstrap.

    Returns:
        {"examples": N, "intervals": {metric: [low, high]}}, where an interval is the 95 % percentile bootstrap over
        the examples, [None, None] if the score is not defined. For classes also "labels", "per_class" {label:
        {"precision", "recall", "f1", "support"}}, "confusion_matrix" (a row for each target, a column for each
        prediction, in label order) and "calibration", a list of {"low", "high", "count", "confidence", "accuracy"}
        for the bins of the highest probability, None in empty ones. For choices "questions" in place of "examples",
        "intervals" and "calibration".

    Raises:
        KftError: a prediction is not a finite number.
    """
    targets, predictions = _checked(kind, targets, predictions, labels)
    return _DETAILS[kind](targets, predictions, labels, np.random.default_rng(seed), resamples)


def resampled(
    kind: Kind, targets: np.ndarray, predictions: np.ndarray, labels: list[str] | None, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores of S resamples at once, of the metrics that have an interval.

    Args:
        kind, targets, predictions, labels: as for `scores`.
        counts: how often a resample holds each example, [S, N].

    Returns:
        {metric: float [S]}; nan where the score is not defined for a resample.

    Raises:
        KftError: a prediction is not a finite number.
    """
    targets, predictions = _checked(kind, targets, predictions, labels)
    counts = np.asarray(counts, np.float64)
    if kind == "regression":
        return bootstrap.value_scores(targets, predictions, counts)
    predicted = predictions.argmax(axis=1)
    if kind == "choice":
        return {"accuracy": counts @ (predicted == targets) / counts.sum(axis=1)}
    classes = np.eye(predictions.shape[1])  # a row of it marks one class
    right = counts @ (classes[targets] * (predicted == targets)[:, None])  # [S, C]
    return bootstrap.class_scores(right, counts @ classes[targets], counts @ classes[predicted])


def with_interval(kind: Kind, n_classes: int | None = None) -> list[str]:
    """The metrics of a task that `details` gives an interval of, and `resampled` computes; as `names`."""
    return [name for name in names(kind, n_classes) if METRICS[name].interval]


def _score_details(targets, values, labels, generator, resamples: int) -> dict[str, Any]:
    resampled = bootstrap.resampled_regression(targets, values, generator, resamples)
    return {"examples": len(targets), "intervals": bootstrap.intervals(resampled)}


def _choice_details(targets, predictions, labels, generator, resamples: int) -> dict[str, Any]:
    # How often a resample is right is binomial.
    total, right = len(targets), (predictions.argmax(axis=1) == targets).mean() if len(targets) else 0.0
    resampled = {"accuracy": generator.binomial(total, right, resamples) / max(total, 1)}
    return {
        "questions": total,
        "intervals": bootstrap.intervals(resampled),
        "calibration": calibration(targets, predictions),
    }


def _class_details(targets, predictions, labels, generator, resamples: int) -> dict[str, Any]:
    matrix = confusion_matrix(targets, predictions)
    return {
        "examples": len(targets),
        "intervals": bootstrap.intervals(bootstrap.resampled_classes(matrix, generator, resamples)),
        "labels": list(labels),
        "per_class": _per_class(targets, predictions, labels),
        "confusion_matrix": matrix.tolist(),
        "calibration": calibration(targets, predictions),
    }


def names(kind: Kind, n_classes: int | None = None) -> list[str]:
    """The metrics of a task, in their order; `n_classes` None lists those for two classes too."""
    binary = n_classes in (None, 2)
    return [name for name, m in METRICS.items() if kind in m.kinds and (binary or not m.needs_binary)]


def main_metric(kind: Kind) -> str:
    """The metric that picks the best epoch unless the user names another."""
    return names(kind)[0]


def better(metric: str, a: float | None, b: float | None) -> bool:
    """Whether score `a` is better than score `b`; an undefined one (nan or None) is worse than any other."""
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
        values = [told.get(name) for told in scores]
        known = None not in values
        means[name] = statistics.mean(values) if known else None
        deviations[name] = statistics.stdev(values) if known and len(values) > 1 else None
    return means, deviations


def check_name(kind: Kind, name: str, n_classes: int | None = None, where: str = "train.best_metric") -> str:
    """`name`, if it is a metric of the task with that many classes.

    Args:
        kind: "classification", "regression" or "choice".
        name: what the user wrote.
        n_classes: None where it is not known yet.
        where: the setting that the message names.

    Raises:
        KftError: it is none; names the nearest one.
    """
    options = names(kind, n_classes)
    if name in options:
        return name
    hint = f"the metrics are {', '.join(options)}"
    metric = METRICS.get(name)
    if metric is None:
        raise KftError(f"`{where}`: there is no metric {name!r}{did_you_mean(name, options)}", hint)
    if kind not in metric.kinds:
        raise KftError(
            f"`{where}`: {name!r} is a metric of {' and '.join(metric.kinds)}, and `task` is {kind}", hint
        )
    near = did_you_mean(f"{name}_macro", options)
    raise KftError(f"`{where}`: {name!r} needs two classes, the data has {n_classes}{near}", hint)


def confusion_matrix(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Examples by target (rows) and predicted class (columns), int [C, C]."""
    classes = predictions.shape[1]
    counts = np.bincount(targets * classes + predictions.argmax(axis=1), minlength=classes**2)
    return counts.reshape(classes, classes)


def calibration(targets: np.ndarray, predictions: np.ndarray) -> list[dict[str, Any]]:
    """Equal-width bins (low, high] of the highest probability: how many, how confident, how often right."""
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


def _checked(kind, targets, predictions, labels) -> tuple[np.ndarray, np.ndarray]:
    if kind != "regression":
        targets, predictions = np.asarray(targets, np.int64), np.asarray(predictions, np.float64)
        classes = len(labels) if kind == "classification" else predictions.shape[-1]
        if predictions.shape != (len(targets), classes):
            raise ValueError(f"predictions must be [{len(targets)}, {classes}], got: {predictions.shape}")
    else:
        targets, predictions = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
        if targets.ndim != 1 or predictions.shape != targets.shape:
            raise ValueError(
                f"targets and predictions must be [N], got: {targets.shape} and {predictions.shape}"
            )
    finite = np.isfinite(predictions)
    wrong = ~(finite.all(axis=1) if finite.ndim == 2 else finite)
    if wrong.any():
        raise KftError(
            f"{wrong.sum()} of {len(targets)} predictions are not finite numbers (the first is number {wrong.argmax() + 1})",
            "the training has diverged: lower train.learning_rate, or train in float32",
        )
    return targets, predictions


# Classification.


def _accuracy(targets, predictions) -> float:
    return sk.accuracy_score(targets, predictions.argmax(axis=1))


def _positive(score: Callable, targets, predictions) -> float:
    # Naming the label, unlike average="binary", also takes examples that are all of one class.
    return score(targets, predictions.argmax(axis=1), labels=[1], average="macro", zero_division=0)


def _averaged(score: Callable, average: str, targets, predictions) -> float:
    # The average is over the classes that occur among targets or predictions, as in scikit-learn by default.
    return score(targets, predictions.argmax(axis=1), average=average, zero_division=0)


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
    return sk.log_loss(targets, predictions, labels=np.arange(predictions.shape[1]))


def _calibration_error(targets, predictions) -> float:
    """Mean gap between confidence and accuracy over bins (Guo et al. 2017, equation 3)."""
    bins = [b for b in calibration(targets, predictions) if b["count"]]
    return sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / len(targets)


def _per_class(targets, predictions, labels) -> dict[str, dict[str, float]]:
    predicted, ids = predictions.argmax(axis=1), np.arange(len(labels))
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


_DETAILS = {"classification": _class_details, "regression": _score_details, "choice": _choice_details}
_classes = partial(Metric, ("classification",))
_chosen = partial(Metric, ("classification", "choice"))
_values = partial(Metric, ("regression",))

# The first of each kind is the task's main metric.
METRICS: dict[str, Metric] = {
    "accuracy": _chosen(_accuracy, interval=True),
    "precision": _classes(partial(_positive, sk.precision_score), needs_binary=True),
    "recall": _classes(partial(_positive, sk.recall_score), needs_binary=True),
    "f1": _classes(partial(_positive, sk.f1_score), needs_binary=True, interval=True),
    "precision_macro": _classes(partial(_averaged, sk.precision_score, "macro")),
    "recall_macro": _classes(partial(_averaged, sk.recall_score, "macro")),
    "f1_macro": _classes(partial(_averaged, sk.f1_score, "macro"), interval=True),
    "precision_weighted": _classes(partial(_averaged, sk.precision_score, "weighted")),
    "recall_weighted": _classes(partial(_averaged, sk.recall_score, "weighted")),
    "f1_weighted": _classes(partial(_averaged, sk.f1_score, "weighted")),
    "matthews_correlation": _classes(_matthews, interval=True),
    "roc_auc": _classes(_roc_auc),
    "log_loss": _chosen(_log_loss, greater_is_better=False),
    "expected_calibration_error": _chosen(_calibration_error, greater_is_better=False),
    "spearman": _values(partial(_correlation, stats.spearmanr), interval=True),
    "pearson": _values(partial(_correlation, stats.pearsonr), interval=True),
    "mean_squared_error": _values(sk.mean_squared_error, greater_is_better=False),
    "root_mean_squared_error": _values(sk.root_mean_squared_error, greater_is_better=False, interval=True),
    "mean_absolute_error": _values(sk.mean_absolute_error, greater_is_better=False),
    "r2": _values(_r2),
}
