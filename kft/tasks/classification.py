"""Classification: one class for each example, or for each pair of texts."""

from typing import Any

import numpy as np
import polars as pl
from scipy.special import softmax

from kft import metrics
from kft.errors import KftError, did_you_mean
from kft.metrics import bootstrap
from kft.tasks import labels as checks
from kft.tasks.record import (
    Doubt,
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

LARGEST_MATRIX = 100  # classes: a matrix grows with their square
CONFUSIONS = 1000  # pairs of classes that are listed in its place


def names(label: str) -> tuple[str, ...]:
    return (label,)


def _check(frames: dict[str, pl.DataFrame], name: str) -> None:
    _check_single(frames)
    _check_count(frames["train"], name)
    checks.check_known(frames, names)
    checks.check_differ(frames["train"]["label"], "label", frames["train"], name)


def _check_single(frames: dict[str, pl.DataFrame]) -> None:
    """Raises KftError: a row has a list of labels."""
    for frame in frames.values():
        lists = frame.filter(pl.col("label").str.contains(r'^\[("[^"]*"(, "[^"]*")*)?\]$'))
        if lists.height:
            raise KftError(
                f"{checks.where(frame, lists)}: label must be one name, got the list {lists['label'][0]}{checks.more(lists)}",
                'task = "multilabel_classification" takes several labels for each row',
            )


def _check_count(train: pl.DataFrame, name: str) -> None:
    classes = train["label"].n_unique()
    scattered = classes > 5 and classes > train.height / 2
    if scattered or (classes > 1000 and classes > train.height / 10):
        examples = ", ".join(repr(label[:40]) for label in train["label"].head(3))
        raise KftError(
            f"{name}: {train.height} rows have {classes} different labels, such as {examples}",
            '`data.label` names the column of the labels; `task = "regression"` takes scores',
        )


def _describe(frame: pl.DataFrame) -> dict[str, Any]:
    counts = dict(frame["label"].value_counts().iter_rows())
    return {"labels": {label: counts[label] for label in checks.ordered(frame["label"])}}


def _learn(train: pl.DataFrame, known: list[str] | None = None, settings: Any = None) -> Learned:
    """The label names: `known` if the data have the same ones, since weights mean these ids."""
    names = checks.ordered(train["label"])
    return Learned(labels=tuple(known if known is not None and set(known) == set(names) else names))


def _ids(labels: pl.Series, learned: Learned) -> np.ndarray:
    ids = {name: i for i, name in enumerate(learned.labels)}
    return np.array([ids[label] for label in labels], np.int32)


def _reads(
    frame: pl.DataFrame, rows: Any, learned: Learned, class_weight: str | dict[str, float] | None = None
) -> Reads:
    targets = _ids(frame["label"], learned)
    weights = example_weights(targets, list(learned.labels), class_weight)
    return read_first(len(targets), targets=targets, weights=weights)


def example_weights(
    targets: np.ndarray, labels: list[str], class_weight: str | dict[str, float] | None
) -> np.ndarray:
    """Weight of each example in the loss, float32 [N].

    "balanced" weighs a class with N / (C · count), as scikit-learn's `compute_class_weight` does.

    Raises:
        KftError: a weight is for no label of the data.
    """
    weights = np.ones(len(targets), np.float32)
    if class_weight is None:
        return weights
    if class_weight == "balanced":
        counts = np.bincount(targets, minlength=len(labels))
        return (len(targets) / (len(labels) * np.maximum(counts, 1)))[targets].astype(np.float32)
    check_weights(class_weight, labels)
    for name, weight in class_weight.items():
        weights[targets == labels.index(name)] = weight
    if len(np.unique(targets[weights > 0])) < 2:
        left = [name for name in labels if class_weight.get(name, 1) > 0]
        raise KftError(
            f"`train.class_weight` leaves {'one class alone' if left else 'no class'} in the loss, so there is nothing to learn",
            "0 leaves a class out; two classes at least need a weight above 0",
        )
    return weights


def check_weights(class_weight: dict[str, float], labels: list[str]) -> None:
    """Raises KftError: a weight is for no label of the data, or negative."""
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


def _loss(train: Any, reads: Reads, learned: Learned) -> Loss:
    if train.loss == "focal":
        return Loss("focal", {"gamma": train.focal_gamma})
    return Loss("cross_entropy", {"label_smoothing": train.label_smoothing})


def _columns(probabilities: np.ndarray, learned: Learned) -> list[pl.Series]:
    best = probabilities.argmax(axis=1)
    return [
        pl.Series("label", [learned.labels[i] for i in best], pl.String),
        pl.Series("score", probabilities.max(axis=1, initial=0), pl.Float64),
        pl.Series("probabilities", list(probabilities), pl.List(pl.Float64)),
    ]


def read_probabilities(table: pl.DataFrame, learned: Learned) -> np.ndarray:
    values = np.array(table["probabilities"].to_list(), np.float64)
    return values.reshape(len(table), len(learned.labels))


def _answer(row: dict[str, Any], learned: Learned) -> dict[str, Any]:
    probabilities = dict(zip(learned.labels, row["probabilities"], strict=True))
    return {"label": row["label"], "probabilities": probabilities}


def _checked(targets: Any, predictions: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    targets, predictions = np.asarray(targets, np.int64), np.asarray(predictions, np.float64)
    if predictions.shape != (len(targets), classes):
        raise ValueError(f"predictions must be [{len(targets)}, {classes}], got: {predictions.shape}")
    return targets, predictions


def _details(targets, predictions, labels, generator, resamples: int) -> dict[str, Any]:
    predicted = predictions.argmax(axis=1)
    resampled = bootstrap.resampled_classes(targets, predicted, len(labels), generator, resamples)
    right = int((predicted == targets).sum())
    if len(labels) <= LARGEST_MATRIX:
        confused = {"confusion_matrix": metrics.confusion_matrix(targets, predictions).tolist()}
    else:
        confused = {"confusions": metrics.confusions(targets, predictions, labels, CONFUSIONS)}
    return {
        "examples": len(targets),
        "intervals": bootstrap.intervals(resampled, len(targets), right),
        "labels": list(labels),
        "per_class": metrics.per_class(targets, predictions, labels),
        **confused,
        "calibration": metrics.calibration(targets, predictions),
    }


def _resampled(targets, predictions, counts) -> dict[str, np.ndarray]:
    predicted = predictions.argmax(axis=1)
    classes = np.eye(predictions.shape[1])  # a row of it marks one class
    right = counts @ (classes[targets] * (predicted == targets)[:, None])  # [S, C]
    return bootstrap.class_scores(right, counts @ classes[targets], counts @ classes[predicted])


def _differ(predictions: np.ndarray, learned: Learned) -> tuple[np.ndarray, np.ndarray]:
    best = predictions.argmax(axis=2)
    return (best != best[0]).any(axis=0), -predictions.max(axis=2).min(axis=0)


def _compared(probabilities: np.ndarray, learned: Learned) -> dict[str, Any]:
    return {"label": learned.labels[probabilities.argmax()], "probability": float(probabilities.max())}


def _issues(table: pl.DataFrame, learned: Learned) -> list[Doubt]:
    from cleanlab.filter import find_label_issues

    given, probabilities = _ids(table["target"], learned), read_probabilities(table, learned)
    ranked = find_label_issues(given, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return [Doubt(int(i), table["label"][int(i)], float(probabilities[i, given[i]])) for i in ranked]


def mistakes_note(wrong: int, listed: int) -> str:
    """The note over the worst mistakes, of which there are so many."""
    if wrong == 0:
        return "Every prediction is right."
    surest = f", the surest {listed} of them" if wrong > listed else ", the surest first"
    return f"{wrong:,} wrong prediction{'' if wrong == 1 else 's'}{surest}. Some may be wrong labels."


def _worst(table: pl.DataFrame, labels: list[str], most: int) -> Mistakes:
    """The wrong predictions that the model was surest of."""
    wrong = table.filter(pl.col("target") != pl.col("label"))
    worst = wrong.sort("score", descending=True, maintain_order=True).head(most)
    rows = []
    for row in worst.iter_rows(named=True):
        target = row["target"]
        score = f"{row['probabilities'][labels.index(target)]:.1%}" if target in labels else None
        verdict = [
            ("chip target", target, score),
            ("muted", "taken for", None),
            ("chip wrong", row["label"], f"{row['score']:.1%}"),
        ]
        rows.append(row | {"verdict": verdict})
    return Mistakes("Worst mistakes", mistakes_note(len(wrong), len(rows)), rows)


def _in_graph(tf: Any, logits: Any, learned: Learned) -> dict[str, Any]:
    probabilities = tf.nn.softmax(logits)
    names = tf.constant(list(learned.labels), tf.string)
    return {
        "label": tf.gather(names, tf.argmax(probabilities, 1)),
        "score": tf.reduce_max(probabilities, 1),
        "probabilities": probabilities,
        # TensorFlow Serving wants a row for each example.
        "labels": tf.tile(names[None], [tf.shape(logits)[0], 1]),
    }


def _ties(probabilities: np.ndarray, learned: Learned, tolerance: float) -> np.ndarray:
    top = -np.sort(-probabilities, axis=1)[:, :2]
    return top[:, 0] - top[:, -1] <= 2 * tolerance


TASK = Task(
    labels=Labels(_check, _describe, "stratified", names),
    learn=_learn,
    outputs=lambda learned: len(learned.labels),
    check=lambda frame, learned: checks.check_each(frame, learned, names),
    truths=_ids,
    reads=_reads,
    loss=_loss,
    divergence="classes",
    predictions=lambda logits, learned, reads=None: softmax(logits.astype(np.float64), axis=1),
    scored=lambda truths, probabilities, learned, questions=None: (truths, probabilities),
    columns=_columns,
    read=read_probabilities,
    answer=_answer,
    answered="label",
    compared=_compared,
    words=lambda answer: f"{answer['label']} ({answer['probability']:.2f})",
    differ=_differ,
    worst=_worst,
    issues=_issues,
    scoring=Scoring(
        metrics=(
            "accuracy",
            "precision",
            "recall",
            "f1",
            "precision_macro",
            "recall_macro",
            "f1_macro",
            "precision_weighted",
            "recall_weighted",
            "f1_weighted",
            "matthews_correlation",
            "roc_auc",
            "log_loss",
            "expected_calibration_error",
        ),
        loss="log_loss",
        checked=_checked,
        details=_details,
        resampled=_resampled,
        alike=lambda probabilities: probabilities.argmax(axis=1),
        right=lambda targets, probabilities: probabilities.argmax(axis=1) == targets,
    ),
    export=Export(
        formats=("savedmodel", "hf", "keras", "onnx", "peft"),
        signature="classify",
        in_graph=_in_graph,
        numbers="probabilities",
        decided="label",
        decisions=lambda p, learned: np.array(learned.labels)[p.argmax(axis=1)],
        ties=_ties,
    ),
)
