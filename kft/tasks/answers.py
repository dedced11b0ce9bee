"""What runs predicted for rows with labels: read back, in label order by name, averaged, and as `metrics` scores it.

N is the number of rows, C of classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from kft import runs
from kft.data.splits.labels import RIGHT
from kft.errors import KftError
from kft.metrics import Kind
from kft.runs import EnsembleDir, RunDir

ROW = ("id", "text", "text_pair", "group", "target")
OTHERS_HINT = "--split names another split, --data FILE gives rows to predict"


@dataclass(frozen=True)
class Answers:
    """What a run, or an ensemble of runs, predicted.

    Attributes:
        kind: of problem.
        labels: the C label names in id order; none for scores and choices.
        rows: a frame with the columns of `ROW`, text_pair and group only where the task has them.
        predictions: probabilities [N, C]; values [N]; or of choices [N, 3] the score, its probability among those of the
            question, and 1 where that is the highest.
    """

    kind: Kind
    labels: list[str]
    rows: pl.DataFrame
    predictions: np.ndarray


def read(path: str | Path, split: str) -> Answers:
    """The predictions of a finished run for its validation or test split, as training left them.

    Of an ensemble, the mean over its runs, where all have the same rows. Of a cross-validation's validation split, each
    row is predicted by the run that did not train on it (by all of them, where there are several seeds).

    Raises:
        KftError: the run is not finished or not whole, has no such split, or its predictions are missing.
    """
    if not runs.is_ensemble(path):
        return of_run(runs.open_run(path), split)
    folder = runs.open_ensemble(path)
    run_dirs = [runs.open_run(member.run.path) for member in runs.finished_members(folder)]
    if split == "validation" and runs.read_plan(folder).folds:
        return out_of_fold(folder)
    return together([of_run(run, split) for run in run_dirs])


def of_run(run: RunDir, split: str) -> Answers:
    """`read` for one run that is known to be whole."""
    kind = runs.read_json(run.model, "task")["task"]
    if not runs.had_split(run, split):
        raise KftError(f"{run.path}: the run has no {split} split", OTHERS_HINT)
    if not run.predictions(split).exists():
        told = runs.read_json(run.metrics)
        missing = "is missing" if split in told else f"is not there: the run was not scored on {split}"
        raise KftError(f"{run.predictions(split)}: {missing}", OTHERS_HINT)
    try:
        table = pl.read_parquet(run.predictions(split))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise KftError(f"{run.predictions(split)}: is damaged: {error}", runs.COPY_HINT) from None
    return of_table(kind, runs.read_labels(run), table)


def out_of_fold(folder: EnsembleDir, seed: int | None = None) -> Answers:
    """The validation rows of all folds, each predicted by the runs that did not train on it; with `seed`, by that one."""
    members = [m for m in runs.finished_members(folder) if seed is None or m.seed == seed]
    folds = dict.fromkeys(m.fold for m in members)
    parts = [
        together([of_run(m.run, "validation") for m in members if m.fold == fold]) for fold in sorted(folds)
    ]
    first = parts[0]
    predictions = np.concatenate([ordered(part.predictions, part.labels, first.labels) for part in parts])
    return Answers(first.kind, first.labels, pl.concat([part.rows for part in parts]), predictions)


def of_table(kind: Kind, labels: list[str], table: pl.DataFrame) -> Answers:
    """The answers in a table of predictions, such as predictions.test.parquet holds."""
    rows = table.select([column for column in ROW if column in table.columns])
    if kind == "classification":
        predictions = np.array(table["probabilities"].to_list(), np.float64).reshape(len(table), len(labels))
    elif kind == "regression":
        predictions = table["value"].to_numpy().astype(np.float64)
    else:
        predictions = table.select(
            pl.col("score", "probability", "chosen").cast(pl.Float64)
        ).to_numpy()  # [N, 3]
    return Answers(kind, labels, rows, predictions)


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
    predictions = [ordered(part.predictions, part.labels, first.labels) for part in parts]
    return Answers(first.kind, first.labels, first.rows, mean(first.kind, predictions, questions(first.rows)))


def mean(kind: Kind, predictions: Sequence[np.ndarray], numbers: np.ndarray | None = None) -> np.ndarray:
    """The mean of predictions in the form that `Answers` has; choices also need the `questions` of their rows."""
    averaged = np.mean(predictions, axis=0)
    if kind == "choice":
        averaged[:, 2] = chosen(averaged[:, 1], numbers)
    return averaged


def ordered(predictions: np.ndarray, labels: list[str], wanted: list[str]) -> np.ndarray:
    """Predictions [N, C] of `labels` with their columns in the order of `wanted`; others as they are.

    Raises:
        KftError: the names differ.
    """
    if labels == wanted:
        return predictions
    if sorted(labels) != sorted(wanted):
        lacking = [label for label in wanted if label not in labels]
        strange = [label for label in labels if label not in wanted]
        told = [f"has no {', '.join(lacking)}"] * bool(lacking) + [f"has {', '.join(strange)}"] * bool(
            strange
        )
        raise KftError(
            f"the runs differ in their labels: one {' and '.join(told)}",
            "train them on the same labels; `data.label_names` renames them",
        )
    return predictions[:, [labels.index(label) for label in wanted]]


def scored(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Targets and predictions as `metrics.scores` takes them; an example of choices is a question."""
    target, predictions = answers.rows["target"], answers.predictions
    if answers.kind == "regression":
        return target.to_numpy().astype(np.float64), predictions
    if answers.kind == "choice":
        right = target.is_in(RIGHT).to_numpy()
        return by_question(right, predictions[:, 1], questions(answers.rows))
    ids = {label: i for i, label in enumerate(answers.labels)}
    return np.array([ids[label] for label in target], np.int64), predictions


def questions(rows: pl.DataFrame) -> np.ndarray | None:
    """Number of each row's question, int64 [N] from 0 without gaps; None where rows stand alone."""
    return np.unique(rows["group"].to_numpy(), return_inverse=True)[1] if "group" in rows.columns else None


def by_question(
    right: np.ndarray, probability: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The place of the right choice in its question, int64 [Q], and probabilities [Q, most choices], 0 where there is none.

    Args:
        right: 1 for the right choice of each question, else 0, [N].
        probability: of each choice, [N].
        numbers: of the questions, [N].
    """
    at = places(numbers)
    marks, probabilities = np.zeros((2, at[0].max(initial=-1) + 1, at[1].max(initial=0) + 1))
    marks[at], probabilities[at] = right, probability
    return marks.argmax(axis=1), probabilities


def chosen(scores: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """1 for the choice of each question with the highest score, the first of equal ones, else 0: float [N]."""
    at = places(numbers)
    table = np.full((at[0].max(initial=-1) + 1, at[1].max(initial=0) + 1), -np.inf)
    table[at] = scores
    marks = np.zeros_like(table)
    marks[np.arange(len(table)), table.argmax(axis=1)] = 1
    return marks[at]


def places(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row its question's number and its own place in the question, in row order."""
    order = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers)
    place = np.empty(len(numbers), np.int64)
    place[order] = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers, place
