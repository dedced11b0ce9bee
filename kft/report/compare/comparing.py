"""Puts runs side by side: common rows, scores, tests of each pair, disagreements."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kft import runs
from kft.errors import KftError
from kft.metrics.bootstrap import Draws
from kft.report import answers as reading
from kft.report.compare import significance
from kft.tasks import TASKS, answers, scoring
from kft.tasks.answers import Answers
from kft.tasks.questions import GROUP, group_numbers
from kft.tasks.record import Task

SHOWN = 5  # disagreements in the result itself
FILE_HINT = "--data FILE lets all of them predict the same rows"

# Dotted names as in `runs.FIELDS`.
FIELDS = {
    "split": "test, validation (of a cross-validation its out-of-fold predictions) or data (a file)",
    "task": "what is predicted: " + ", ".join(TASKS),
    "examples": "rows that the runs have in common, on which they are compared",
    "questions": "their questions, for choices; else null",
    "groups": "their groups, which the bootstrap draws, where `split.group` was set; else null",
    "metric": "what the bootstrap tests",
    "positive": "of two classes the one that precision, recall and f1 are of: the first run's; else null",
    "resamples": "of the bootstrap",
    "seed": "of the bootstrap",
    "runs[].run": "folder, as it was given",
    "runs[].name": "what the other fields call the run: the folder's name, or the whole path where names are equal",
    "runs[].examples": "rows of its split",
    "runs[].metrics.*": "scores on the rows in common; null where one is not defined",
    "pairs[].first": "name of a run",
    "pairs[].second": "name of the run that it is compared with",
    "pairs[].difference": "the second run's metric less the first's",
    "pairs[].interval[]": "low and high end of its 95 % interval, by the paired bootstrap; null where it is not defined, "
    "and of fewer than ten examples or groups, as p_value",
    "pairs[].p_value": "two-sided, of the paired bootstrap: how easily chance alone makes such a difference",
    "pairs[].p_value_holm": "the same, corrected for the number of pairs",
    "pairs[].mcnemar": "test of accuracy; null for scores, and for rows in groups, which it takes for independent. For "
    "choices it counts questions",
    "pairs[].mcnemar.first_only": "examples that only the first run has right",
    "pairs[].mcnemar.second_only": "examples that only the second run has right",
    "pairs[].mcnemar.statistic": "chi-square; null where the test is the exact binomial one",
    "pairs[].mcnemar.p_value": "two-sided",
    "pairs[].mcnemar.p_value_holm": "the same, corrected for the number of pairs",
    "disagreements.count": "rows for which not all runs predict the same; null for scores",
    "disagreements.examples[].*": "the first of them, as `--output` writes all: those of which the runs are surest, or that "
    "they are farthest apart on",
    "disagreements.examples[].id": "number of the row in its file, from 0",
    "disagreements.examples[].target": "its label or score",
    "disagreements.examples[].answers.*.label": "name of a run: what it predicts",
    "disagreements.examples[].answers.*.labels[]": "the same where a row may have several",
    "disagreements.examples[].answers.*.entities[]": "of tagged words: each entity's type, and its first and last word from 1",
    "disagreements.examples[].words": "of tagged words that a file parts itself: the characters of each in the text",
    "disagreements.examples[].answers.*.probability": "and how surely; of a choice among those of the question",
    "disagreements.examples[].answers.*.chosen": "whether the choice is the one, for choices",
    "disagreements.examples[].answers.*.value": "what it predicts, for scores",
}


def read(paths: Sequence[str], split: str | None = None) -> tuple[str, dict[str, Answers]]:
    """What runs predicted for a split when they were trained.

    Args:
        paths: folders of finished runs, or of runs over seeds or folds, whose predictions are
            averaged.
        split: "test" or "validation"; None takes test where all have it.

    Returns:
        The split, and {path: what it predicted}.

    Raises:
        KftError: a run is not finished, not whole, or was not scored on the split.
    """
    split = split or ("test" if all(_was_scored(path, "test") for path in paths) else "validation")
    return split, {path: reading.read(path, split) for path in paths}


def compare(
    predicted: dict[str, Answers],
    split: str,
    metric: str | None = None,
    seed: int = 0,
    resamples: int = significance.RESAMPLES,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Compares what runs predicted for the rows that all have, labels matched by name.

    Args:
        predicted: {path of a run: what it predicted}.
        split: what the rows are.
        metric: that the bootstrap tests, one of `scoring.with_interval`; None takes the task's main
            one.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        What `FIELDS` describes, and all disagreements.

    Raises:
        KftError: the runs predict different things, have no row in common, or other targets for the
            same row; or there is no such metric.
    """
    names = _names(list(predicted))
    matched = _in_common(dict(zip(names, predicted.values(), strict=True)))
    first = matched[0]
    kind, labels, task = first.kind, first.labels, first.task
    metric = _check_metric(kind, metric, len(labels) or None)
    scored = [scoring.positive_second(*answers.scored(one), labels, first.positive) for one in matched]
    targets, predictions = scored[0][0], [p for _, p in scored]
    scores = [scoring.scores(kind, targets, p, labels) for p in predictions]
    groups = next((g for g in (group_numbers(one.rows) for one in matched) if g is not None), None)
    units = len(targets) if groups is None else int(groups.max()) + 1
    draws = Draws(seed, resamples, groups)
    resampled = scoring.resample(kind, targets, predictions, labels, draws)[metric]
    pairs = [
        {"first": names[i], "second": names[j]}
        | _difference([scores[k][metric] for k in (i, j)], resampled[[i, j]], units)
        | {"mcnemar": None if groups is not None else _mcnemar(task, targets, predictions[i], predictions[j])}
        for i, j in itertools.combinations(range(len(names)), 2)
    ]
    _correct(pairs)
    rows = list(_disagreements(matched, names))
    content = {
        "split": split,
        "task": kind,
        "examples": len(first.rows),
        "questions": len(targets) if task.grouped else None,
        "groups": None if groups is None else units,
        "metric": metric,
        "positive": scoring.positive_label(labels, first.positive) if "f1" in scoring.names(kind) else None,
        "resamples": resamples,
        "seed": seed,
        "runs": [
            {"run": path, "name": name, "examples": len(answer.rows), "metrics": own}
            for (path, answer), name, own in zip(predicted.items(), names, scores, strict=True)
        ],
        "pairs": pairs,
        "disagreements": {"count": len(rows) if task.scoring.right else None, "examples": rows[:SHOWN]},
    }
    return runs.finite(content), rows


def write_disagreements(rows: list[dict[str, Any]], file: str | Path) -> None:
    """Writes one JSON object a line, as `FIELDS` describes them under disagreements.examples[]."""
    runs.write_text(Path(file), "".join(map(runs.json_line, rows)))


def trained_on(paths: Sequence[str]) -> list[str]:
    """The files that runs, or the runs of ensembles, were trained on; raises as `read` does."""
    folders = (runs.open_ensemble(path) if runs.is_ensemble(path) else runs.open_run(path) for path in paths)
    return [file for folder in folders for file in runs.read_config(folder).data.files]


def _was_scored(path: str, split: str) -> bool:
    if not runs.is_ensemble(path):
        return runs.RunDir(Path(path)).predictions(split).exists()
    members = runs.members(runs.open_ensemble(path))
    return all(member.run.predictions(split).exists() for member in members)


def _names(paths: list[str]) -> list[str]:
    """What the runs are called: the folders' names, or the paths where those are equal."""
    names = [Path(path).resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _check_metric(kind: str, metric: str | None, classes: int | None) -> str:
    if metric is None:
        return scoring.main_metric(kind)
    scoring.check_name(kind, metric, classes, where="--metric")
    options = scoring.with_interval(kind, classes)
    if metric not in options:
        raise KftError(f"--metric {metric}: has no bootstrap", f"those with one are {', '.join(options)}")
    return metric


def _in_common(predicted: dict[str, Answers]) -> list[Answers]:
    """The answers to the rows that all runs have, in the first one's order of rows and labels."""
    (first_name, first), *others = predicted.items()
    keys = _keys(first)
    for name, other in others:
        if other.kind != first.kind or _keys(other) != keys:
            what = [f"{a.kind} of {', '.join(c for c in _keys(a) if c != 'id')}" for a in (first, other)]
            raise KftError(
                f"{first_name} and {name} cannot be compared: {what[0]}, and {what[1]}",
                "compare runs of one task that read the same columns",
            )
    common = first.rows.select(*keys, pl.int_range(pl.len()).alias("_0"))
    for i, (_, other) in enumerate(others, 1):
        places = other.rows.select(*keys, pl.int_range(pl.len()).alias(f"_{i}"))
        common = common.join(places, on=keys, how="inner", nulls_equal=True, maintain_order="left")
    if first.task.grouped:
        common = _whole_questions(common, list(predicted.values()))
    if not len(common):
        counts = ", ".join(f"{name} has {len(other.rows):,}" for name, other in predicted.items())
        raise KftError(f"the runs have no row in common: {counts}", FILE_HINT)
    matched = []
    for i, (name, other) in enumerate(predicted.items()):
        indices = common[f"_{i}"].to_numpy()
        try:
            predictions = answers.ordered(other.predictions, other.labels, first.labels)[indices]
        except KftError as error:
            raise KftError(f"{first_name} and {name}: {error.message}", error.hint) from None
        matched.append(replace(other, labels=first.labels, rows=other.rows[indices], predictions=predictions))
    _check_targets(dict(zip(predicted, matched, strict=True)))
    return matched


def _keys(answer: Answers) -> list[str]:
    """The columns by which rows are the same."""
    return [column for column in answer.rows.columns if column not in ("target", GROUP)]


def _whole_questions(common: pl.DataFrame, predicted: list[Answers]) -> pl.DataFrame:
    """Without the questions of which some run has other choices."""
    here = common.group_by("group").len("_here")
    for other in predicted:
        here = here.join(other.rows.group_by("group").len("_other"), on="group")
        here = here.filter(pl.col("_here") == pl.col("_other")).drop("_other")
    return common.join(here.select("group"), on="group", how="semi", maintain_order="left")


def _check_targets(predicted: dict[str, Answers]) -> None:
    (first_name, first), *others = predicted.items()
    for name, other in others:
        differ = (first.rows["target"] != other.rows["target"]).arg_true()
        if len(differ):
            row = first.rows.row(differ[0], named=True)
            raise KftError(
                f"row {row['id'] + 1} has the target {row['target']} in {first_name}, and "
                f"{other.rows['target'][differ[0]]} in {name} ({len(differ):,} such rows)",
                f"compare runs that were trained on the same labels; {FILE_HINT}",
            )


def _difference(scores: list[float], resampled: np.ndarray, units: int) -> dict[str, Any]:
    """The bootstrap of two runs' scores."""
    tested = significance.difference(*scores, resampled, units)
    return {"difference": tested.value, "interval": list(tested.interval), "p_value": tested.p_value}


def _mcnemar(task: Task, targets: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, Any] | None:
    """McNemar's test of two runs; None where no answer is right or wrong."""
    if task.scoring.right is None:
        return None
    return asdict(significance.mcnemar(*(task.scoring.right(targets, p) for p in (first, second))))


def _correct(pairs: list[dict[str, Any]]) -> None:
    """Adds the p-values that are corrected for the number of pairs."""
    tests = [pairs, [pair["mcnemar"] for pair in pairs if pair["mcnemar"]]]
    for test in tests:
        for result, p_value in zip(test, significance.holm([t["p_value"] for t in test]), strict=True):
            result["p_value_holm"] = p_value


def _disagreements(matched: list[Answers], names: list[str]) -> Iterator[dict[str, Any]]:
    """The rows on which predictions differ, the surest first; of scores the farthest apart."""
    first = matched[0]
    predictions = np.stack([answer.predictions for answer in matched])  # [M, N, …]
    differ, order = first.task.differ(predictions, first.learned)
    for n in np.argsort(order, kind="stable"):
        if differ is None or differ[n]:
            compared = {
                name: first.task.compared(answer.predictions[n], answer.learned)
                for name, answer in zip(names, matched, strict=True)
            }
            yield first.rows.row(int(n), named=True) | {"answers": compared}
