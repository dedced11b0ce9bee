"""What runs predict for labelled rows: in label order by name, averaged, as metrics score it.

N is the number of rows, C of classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from kft.errors import KftError
from kft.tasks import TASKS
from kft.tasks.questions import GROUP, numbered
from kft.tasks.record import Learned, Task

ROW = ("id", "key", "text", "text_pair", "words", "group", "target", GROUP)


@dataclass(frozen=True)
class Answers:
    """What a run, or an ensemble of runs, predicted.

    Attributes:
        kind: of problem, a key of `TASKS`.
        labels: the C label names in id order; none for scores and choices.
        rows: a frame with the columns of `ROW`, text_pair and group only where the task has them,
            and the last only where `split.group` was set.
        predictions: as the task's `predictions` gives them.
        thresholds: of the labels, where the task has them.
        positive: of two labels the one that precision, recall and f1 are of; None takes the second.
        none_above: see `Learned`.
    """

    kind: str
    labels: list[str]
    rows: pl.DataFrame
    predictions: np.ndarray
    thresholds: tuple[float, ...] = field(default=())
    positive: str | None = None
    none_above: float | None = None

    @property
    def task(self) -> Task:
        return TASKS[self.kind]

    @property
    def learned(self) -> Learned:
        more = {"thresholds": self.thresholds, "positive": self.positive, "none_above": self.none_above}
        return Learned(tuple(self.labels), **more)


def of_table(kind: str, learned: Learned, table: pl.DataFrame) -> Answers:
    """The answers in a table of predictions, such as predictions.test.parquet."""
    rows = table.select([column for column in ROW if column in table.columns])
    predictions = TASKS[kind].read(table, learned)
    more = {"thresholds": learned.thresholds, "positive": learned.positive, "none_above": learned.none_above}
    return Answers(kind, list(learned.labels), rows, predictions, **more)


def together(parts: Sequence[Answers]) -> Answers:
    """The mean of what several runs predicted for the same rows.

    Raises:
        KftError: their rows or their labels differ.
    """
    first, *others = parts
    if any(not part.rows.equals(first.rows) for part in others):
        raise KftError(
            "the runs were not scored on the same rows", "give a file that they all predict: --data FILE"
        )
    learned = mean_learned([part.learned for part in parts])
    predictions = [ordered(part.predictions, part.labels, first.labels) for part in parts]
    mean = first.task.mean(predictions, learned, numbered(first.rows))
    return replace(first, predictions=mean, thresholds=learned.thresholds, none_above=learned.none_above)


def mean_learned(parts: Sequence[Learned]) -> Learned:
    """What several models learned, for the mean of their predictions.

    The labels are the first one's; thresholds are averaged.
    """
    first = parts[0]
    bounds = [part.none_above for part in parts if part.none_above is not None]
    if len(bounds) == len(parts):
        first = replace(first, none_above=float(np.mean(bounds)))
    if not first.thresholds:
        return first
    order = [[part.labels.index(label) for label in first.labels] for part in parts]
    thresholds = [np.array(part.thresholds)[positions] for part, positions in zip(parts, order, strict=True)]
    return replace(first, thresholds=tuple(np.mean(thresholds, axis=0).tolist()))


def ordered(predictions: np.ndarray, labels: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Predictions [N, C, …] of `labels`, or [N] arrays [items, C], with columns as in `wanted`.

    Others, without labels, as they are.

    Raises:
        KftError: the names differ.
    """
    labels, wanted = list(labels), list(wanted)
    if labels == wanted:
        return predictions
    if sorted(labels) != sorted(wanted):
        lacking = [label for label in wanted if label not in labels]
        strange = [label for label in labels if label not in wanted]
        parts = [f"has no {', '.join(lacking)}"] if lacking else []
        parts += [f"has {', '.join(strange)}"] if strange else []
        raise KftError(
            f"the runs differ in their labels: one {' and '.join(parts)}",
            "train them on the same labels; `data.label_names` renames them",
        )
    order = [labels.index(label) for label in wanted]
    if predictions.dtype != object:
        return predictions[:, order]
    result = predictions.copy()  # of rows [items, C] that differ in length
    result[:] = [row[:, order] for row in predictions]
    return result


def scored(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Targets and predictions as `scoring.scores` takes them; of choices one for a question."""
    truths = answers.task.truths(answers.rows["target"], answers.learned)
    return answers.task.scored(truths, answers.predictions, answers.learned, numbered(answers.rows))
