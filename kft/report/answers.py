"""Reads what finished runs predicted for their splits; light, since it needs no Keras."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from kft import runs
from kft.errors import KftError
from kft.runs import EnsembleDir, RunDir
from kft.tasks.answers import Answers, of_table, ordered, together

OTHERS_HINT = "--split names another split, --data FILE gives rows to predict"


def read(path: str | Path, split: str) -> Answers:
    """The predictions of a finished run for its validation or test split, as training left them.

    Of an ensemble, the mean over its runs, where all have the same rows. Of a cross-validation's
    validation split, each row is predicted by the run that did not train on it (by all of them,
    where there are several seeds).

    Raises:
        KftError: the run is not finished or not whole, has no such split, or its predictions are
        missing.
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
    task = runs.read_model(run)["task"]
    if not runs.had_split(run, split):
        raise KftError(f"{run.path}: the run has no {split} split", OTHERS_HINT)
    if not run.predictions(split).exists():
        scores = runs.read_json(run.metrics)
        missing = "is missing" if split in scores else f"is not there: the run was not scored on {split}"
        raise KftError(f"{run.predictions(split)}: {missing}", OTHERS_HINT)
    try:
        table = pl.read_parquet(run.predictions(split))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise KftError(f"{run.predictions(split)}: is damaged: {error}", runs.COPY_HINT) from None
    return of_table(task, runs.read_learned(run), table)


def out_of_fold(folder: EnsembleDir, seed: int | None = None) -> Answers:
    """The validation rows of all folds, each predicted by the run of `seed`, or those of all.

    No run predicts what it trained on.
    """
    members = [m for m in runs.finished_members(folder) if seed is None or m.seed == seed]
    folds = dict.fromkeys(m.fold for m in members)
    parts = [
        together([of_run(m.run, "validation") for m in members if m.fold == fold]) for fold in sorted(folds)
    ]
    first = parts[0]
    predictions = np.concatenate([ordered(part.predictions, part.labels, first.labels) for part in parts])
    rows = pl.concat([part.rows for part in parts])
    return replace(first, rows=rows, predictions=predictions)
