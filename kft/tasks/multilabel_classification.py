"""Multi-label classification: any number of labels for each example, also none.

A row's label is a JSON list of names, sorted, as `kft.tasks.labels.spelled` writes it. Targets are
0 or 1 for each label, [N, C]; predictions [N, C, 2] are the probability of each label, and 1 where
it reaches the label's threshold.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from kft import metrics
from kft.errors import KftError
from kft.metrics import bootstrap
from kft.tasks import labels as checks
from kft.tasks.classification import check_weights, mistakes_note, read_probabilities
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

THRESHOLD = 0.5


def names(label: str) -> tuple[str, ...]:
    """The names in a row's label; one that is no list stands for itself."""
    several = checks.names_in(label)
    return (label,) if several is None else tuple(several)


def _check(frames: dict[str, pl.DataFrame], name: str) -> None:
    train = frames["train"]
    if not any(names(label) for label in train["label"].unique()):
        raise KftError(
            f"{name}: no row has a label, so there is nothing to learn",
            "`data.label` names the column, `data.label_separator` what parts the labels in it",
        )
    checks.check_known(frames, names)
    checks.check_differ(train["label"], "labels", train, name)


def _describe(frame: pl.DataFrame) -> dict[str, Any]:
    """Rows with each label, and how many labels a row has."""
    sets = frame["label"].value_counts()
    counts: dict[str, int] = {}
    sizes: dict[int, int] = {}
    for label, rows in sets.iter_rows():
        own = names(label)
        sizes[len(own)] = sizes.get(len(own), 0) + rows
        for name in own:
            counts[name] = counts.get(name, 0) + rows
    total = max(frame.height, 1)
    return {
        "labels": {name: counts[name] for name in checks.ordered(pl.Series(list(counts), dtype=pl.String))},
        "label_sets": {
            "without": sizes.get(0, 0),
            "mean": sum(size * rows for size, rows in sizes.items()) / total,
            "most": max(sizes, default=0),
        },
    }


def _lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    sets = described["label_sets"]
    counts = (
        f"{sets['without']:,} rows without a label, {sets['mean']:.3g} labels a row, {sets['most']:,} at most"
    )
    return [("label sets", counts)]


def _learn(train: pl.DataFrame, known: list[str] | None = None, settings: Any = None) -> Learned:
    present = {name for label in train["label"].unique() for name in names(label)}
    ordered = checks.ordered(pl.Series(sorted(present), dtype=pl.String))
    labels = tuple(known if known is not None and set(known) == present else ordered)
    given = getattr(settings, "thresholds", None)
    return Learned(
        labels=labels, thresholds=(given if isinstance(given, float) else THRESHOLD,) * len(labels)
    )


def _tuned(learned: Learned, settings: Any, truths: np.ndarray, predictions: np.ndarray) -> Learned:
    """The thresholds with the best F1 of each label on validation, if the config asks for it."""
    if settings.thresholds != "tuned":
        return learned
    pairs = zip(truths.T, predictions[:, :, 0].T, strict=True)
    return replace(learned, thresholds=tuple(best_threshold(*pair) for pair in pairs))


def best_threshold(truths: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold with one label's highest F1, between two probabilities; nearest to 0.5.

    0.5 where no example has the label.

    Args:
        truths: 0 or 1, [N].
        probabilities: [N].
    """
    if not truths.any():
        return THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    ranked, right = probabilities[order], np.cumsum(truths[order])
    f1 = 2 * right / (np.arange(1, len(right) + 1) + truths.sum())
    ends = np.append(ranked[1:] != ranked[:-1], True)  # a threshold parts unequal probabilities only
    lower = np.append(ranked[1:], 0.0)
    middle = (ranked + lower) / 2
    best = np.flatnonzero(ends & (f1 == f1[ends].max()))
    # Where 0.5 itself parts the same examples, it is the threshold.
    holds = best[(ranked[best] >= THRESHOLD) & (lower[best] < THRESHOLD)]
    return THRESHOLD if len(holds) else float(middle[best[np.abs(middle[best] - THRESHOLD).argmin()]])


def _truths(labels: pl.Series, learned: Learned) -> np.ndarray:
    ids = {name: i for i, name in enumerate(learned.labels)}
    marks = {label: np.zeros(len(ids), np.int32) for label in labels.unique()}
    for label, mark in marks.items():
        mark[[ids[name] for name in names(label)]] = 1
    return np.array([marks[label] for label in labels], np.int32).reshape(len(labels), len(ids))


def _reads(
    frame: pl.DataFrame, rows: Any, learned: Learned, class_weight: str | dict[str, float] | None = None
) -> Reads:
    if isinstance(class_weight, dict):
        check_weights(class_weight, list(learned.labels))
    targets = _truths(frame["label"], learned).astype(np.float32)
    return read_first(len(frame), targets=targets, weights=np.ones(len(frame), np.float32))


def _loss(train: Any, reads: Reads, learned: Learned) -> Loss:
    """Positive targets weigh negatives / positives if "balanced", as torch's `pos_weight`."""
    if train.class_weight is None:
        return Loss("binary_cross_entropy")
    if train.class_weight == "balanced":
        positives = np.maximum(reads.targets.sum(axis=0), 1)
        weights = (len(reads.targets) - positives) / positives
    else:
        weights = [train.class_weight.get(name, 1.0) for name in learned.labels]
    return Loss("binary_cross_entropy", {"positive_weights": tuple(map(float, weights))})


def _prior(reads: Reads) -> np.ndarray:
    """The log-odds of each label in train (Lin et al. 2017, section 4.1).

    From 0, rare labels drown the others at first.
    """
    shares = np.clip(reads.targets.mean(axis=0), 1e-3, 1 - 1e-3)
    return np.log(shares / (1 - shares)).astype(np.float32)


def decided(probabilities: np.ndarray, learned: Learned) -> np.ndarray:
    """Probabilities [N, C] → [N, C, 2], with 1 where the threshold is reached."""
    reached = probabilities >= np.array(learned.thresholds)
    return np.stack([probabilities, reached.astype(np.float64)], axis=-1)


def _columns(predictions: np.ndarray, learned: Learned) -> list[pl.Series]:
    chosen = [[learned.labels[i] for i in np.flatnonzero(row)] for row in predictions[:, :, 1]]
    return [
        pl.Series("labels", chosen, pl.List(pl.String)),
        pl.Series("probabilities", list(predictions[:, :, 0]), pl.List(pl.Float64)),
    ]


def _answer(row: dict[str, Any], learned: Learned) -> dict[str, Any]:
    probabilities = dict(zip(learned.labels, row["probabilities"], strict=True))
    return {"labels": row["labels"], "probabilities": probabilities}


def _checked(targets: Any, predictions: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    targets, predictions = np.asarray(targets, np.int64), np.asarray(predictions, np.float64)
    wanted = (len(targets), classes)
    if targets.shape != wanted or predictions.shape != (*wanted, 2):
        raise ValueError(f"predictions must be {[*wanted, 2]}, got: {predictions.shape}")
    return targets, predictions


def _details(targets, predictions, labels, generator, resamples: int) -> dict[str, Any]:
    total = len(targets)
    score = partial(bootstrap.label_scores, targets, predictions[:, :, 1])
    drawn = bootstrap.resampled(score, total, total + 3 * targets.shape[1], generator, resamples)
    return {
        "examples": total,
        "intervals": bootstrap.intervals(drawn, total),
        "labels": list(labels),
        "per_class": metrics.per_class(targets, predictions, labels),
    }


def _differ(predictions: np.ndarray, learned: Learned) -> tuple[np.ndarray, np.ndarray]:
    sets = predictions[:, :, :, 1]
    return (sets != sets[0]).any(axis=(0, 2)), -np.ptp(predictions[:, :, :, 0], axis=0).max(axis=1)


def _compared(row: np.ndarray, learned: Learned) -> dict[str, Any]:
    return {"labels": [learned.labels[i] for i in np.flatnonzero(row[:, 1])]}


def _worst(table: pl.DataFrame, labels: list[str], most: int) -> Mistakes:
    """Examples with labels too many or too few, those first where the model was surest."""
    wrong = []
    for row in table.iter_rows(named=True):
        target, chosen = set(names(row["target"])), set(row["labels"])
        if target == chosen:
            continue
        probability = dict(zip(labels, row["probabilities"], strict=True))
        sure = {name: probability.get(name, 0.0) for name in target ^ chosen}
        error = max(p if name in chosen else 1 - p for name, p in sure.items())
        verdict = [("chip target", name, f"{probability.get(name, 0.0):.1%}") for name in sorted(target)]
        verdict = verdict or [("chip target", "no label", None)]
        verdict.append(("muted", "taken for", None))
        predicted = [("chip wrong", name, f"{probability.get(name, 0.0):.1%}") for name in sorted(chosen)]
        verdict += predicted or [("chip wrong", "no label", None)]
        wrong.append((error, row | {"verdict": verdict}))
    worst = sorted(wrong, key=lambda pair: -pair[0])[:most]
    return Mistakes("Worst mistakes", mistakes_note(len(wrong), len(worst)), [row for _, row in worst])


def _issues(table: pl.DataFrame, learned: Learned) -> list[Doubt]:
    """Each label is a question, yes or no; a row is as sure as its most doubtful label."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    marks, probabilities = _truths(table["target"], learned), read_probabilities(table, learned)
    varied = np.flatnonzero(marks.any(axis=0) & ~marks.all(axis=0))  # others have nothing to compare
    given = [np.flatnonzero(row).tolist() for row in marks[:, varied]]
    doubted = np.zeros(marks.shape, bool)
    if len(varied):
        doubted[:, varied] = find_multilabel_issues_per_class(given, probabilities[:, varied], n_jobs=1)
    right = np.where(marks, probabilities, 1 - probabilities)  # [N, C]
    sure = np.where(doubted, right, 1.0).min(axis=1)
    rather = [[learned.labels[i] for i in np.flatnonzero(row)] for row in marks ^ doubted]
    rows = [int(i) for i in np.argsort(sure, kind="stable") if doubted[i].any()]
    return [Doubt(i, checks.spelled(rather[i]), float(sure[i])) for i in rows]


def _in_graph(tf: Any, logits: Any, learned: Learned) -> dict[str, Any]:
    probabilities = tf.sigmoid(logits)
    names = tf.constant(list(learned.labels), tf.string)
    reached = probabilities >= tf.constant(learned.thresholds, tf.float32)
    return {
        "predicted": tf.cast(reached, tf.int32),
        "probabilities": probabilities,
        # TensorFlow Serving wants a row for each example.
        "labels": tf.tile(names[None], [tf.shape(logits)[0], 1]),
    }


def _ties(predictions: np.ndarray, learned: Learned, tolerance: float) -> np.ndarray:
    return (np.abs(predictions[:, :, 0] - np.array(learned.thresholds)) <= 2 * tolerance).any(axis=1)


TASK = Task(
    labels=Labels(_check, _describe, "stratified", names, several=True, lines=_lines),
    learn=_learn,
    tune=_tuned,
    outputs=lambda learned: len(learned.labels),
    check=lambda frame, learned: checks.check_each(frame, learned, names),
    truths=_truths,
    reads=_reads,
    loss=_loss,
    bias=_prior,
    divergence="labels",
    predictions=lambda logits, learned, reads=None: decided(expit(logits.astype(np.float64)), learned),
    scored=lambda truths, predictions, learned, questions=None: (truths, predictions),
    columns=_columns,
    read=lambda table, learned: decided(read_probabilities(table, learned), learned),
    mean=lambda predictions, learned, questions=None: decided(np.mean(predictions, axis=0)[:, :, 0], learned),
    answer=_answer,
    answered="labels",
    compared=_compared,
    words=lambda answer: ", ".join(answer["labels"]) or "no label",
    differ=_differ,
    order="farthest apart",
    worst=_worst,
    issues=_issues,
    scoring=Scoring(
        metrics=(
            "f1_micro",
            "precision_micro",
            "recall_micro",
            "f1_macro",
            "precision_macro",
            "recall_macro",
            "f1_weighted",
            "f1_samples",
            "exact_match",
            "average_precision",
            "log_loss",
        ),
        loss="log_loss",
        checked=_checked,
        details=_details,
        resampled=lambda targets, predictions, counts: bootstrap.label_scores(
            targets, predictions[:, :, 1], counts
        ),
        alike=lambda predictions: predictions[:, :, 1].astype(np.int64),
        right=lambda targets, predictions: (predictions[:, :, 1] == targets).all(axis=1),
    ),
    export=Export(
        formats=("savedmodel", "hf", "keras", "onnx", "peft"),
        signature="classify",
        in_graph=_in_graph,
        numbers="probabilities",
        compared=lambda predictions: predictions[:, :, 0],
        decided="predicted",
        decisions=lambda predictions, learned: predictions[:, :, 1].astype(np.int64),
        ties=_ties,
    ),
)
