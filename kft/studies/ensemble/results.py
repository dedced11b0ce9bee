"""What the runs of an ensemble give together: ensemble.json, out-of-fold predictions, tables."""

from typing import Any

from kft import config as configs
from kft import metrics, runs
from kft.metrics.words import metric_name, number
from kft.report import answers
from kft.report.history import read_history
from kft.report.table import aligned
from kft.runs import EnsembleDir, Member, RunDir
from kft.studies.ensemble import page
from kft.tasks import TASKS, scoring
from kft.tasks.answers import Answers, scored, together

SPLITS = ("validation", "test")

# Dotted names as in `runs.FIELDS`.
FIELDS: dict[str, dict[str, str]] = {
    "plan.json": {
        "format": "version of the layout of the folder",
        "seeds[]": "train.seed of the runs; none where the config's own is the only one",
        "folds": "folds of the cross-validation; null without one",
    },
    "ensemble.json": {
        "task": "what is predicted: " + ", ".join(TASKS),
        "metric": "the task's main metric",
        "positive": "of two classes the one that precision, recall and f1 are of; else null",
        "seeds[]": "as in plan.json",
        "folds": "as in plan.json",
        "planned": "runs in all; those that are finished are the members",
        "metrics.*.*": "split, metric: mean over the members; null where it is not defined for one",
        "sd.*.*": "split, metric: sample standard deviation over the members; null for one alone",
        "out_of_fold": "null without folds and before all runs are finished; else:",
        "out_of_fold.examples": "rows of all folds, each predicted by the run that did not train on it",
        "out_of_fold.metrics.*": "score on all these rows at once; the mean over seeds",
        "out_of_fold.sd.*": "sample standard deviation of it over seeds; null for one alone",
        "ensemble.*.examples": "of a split that all members share: rows; empty before all runs are finished",
        "ensemble.*.metrics.*": "scores of the mean of the members' predictions",
        "members[].run": "name of the run's folder",
        "members[].seed": "its train.seed",
        "members[].fold": "its split.fold; null without folds",
        "members[].best_epoch": "the epoch whose weights it has",
        "members[].metrics.*.*": "as in its metrics.json",
    },
}


def write(folder: EnsembleDir) -> dict[str, Any]:
    """Writes ensemble.json, ensemble.html and the out-of-fold predictions; returns the first.

    Raises:
        KftError: a file of a run is missing or damaged, or the disk is full.
    """
    content = runs.finite(_gather(folder))
    if content["out_of_fold"]:
        pooled = answers.out_of_fold(folder)
        columns = pooled.task.columns(pooled.predictions, pooled.learned)
        runs.write_whole(folder.out_of_fold, pooled.rows.with_columns(columns).write_parquet)
    runs.write_json(folder.results, content)
    tables = {split: table(content, split) for split in content["metrics"]}
    settings = folder.config.read_text("utf-8")
    runs.write_text(folder.page, page.html(folder.path.name, content, tables, members(content), settings))
    return content


def _gather(folder: EnsembleDir) -> dict[str, Any]:
    config, plan, everything = runs.read_config(folder), runs.read_plan(folder), runs.members(folder)
    finished = [member for member in everything if member.run.done.exists()]
    complete = len(finished) == len(everything)
    scores = [runs.read_json(member.run.metrics) for member in finished]
    run_dirs = [member.run for member in finished]
    scored = [split for split in SPLITS if all(split in own for own in scores)]
    shared = [split for split in scored if complete and runs.share_rows(run_dirs, split)]
    mean, sd = _spread(scores)
    return {
        "task": config.task,
        "metric": scoring.main_metric(config.task),
        "positive": _positive(run_dirs),
        "seeds": list(plan.seeds),
        "folds": plan.folds,
        "planned": len(everything),
        "metrics": mean,
        "sd": sd,
        "out_of_fold": _pooled(folder, finished) if plan.folds and complete else None,
        "ensemble": {
            split: _scored(together([answers.of_run(run, split) for run in run_dirs])) for split in shared
        },
        "members": [_member(member, config, own) for member, own in zip(finished, scores, strict=True)],
    }


def _positive(run_dirs: list[RunDir]) -> str | None:
    learned = runs.read_learned(run_dirs[0]) if run_dirs else None
    return scoring.positive_label(learned.labels, learned.positive) if learned else None


def _member(member: Member, config: configs.Config, scores: dict[str, Any]) -> dict[str, Any]:
    best = [line["epoch"] for line in read_history(member.run).evaluation if line.get("best")]
    return {
        "run": member.run.path.name,
        "seed": config.train.seed if member.seed is None else member.seed,
        "fold": member.fold,
        "best_epoch": best[-1] if best else None,
        "metrics": scores,
    }


def _pooled(folder: EnsembleDir, finished: list[Member]) -> dict[str, Any]:
    """Scores of the rows of all folds at once, seed by seed."""
    scored = [_scored(answers.out_of_fold(folder, seed)) for seed in dict.fromkeys(m.seed for m in finished)]
    mean, sd = _spread([{"pooled": one["metrics"]} for one in scored])
    return {"examples": scored[0]["examples"], "metrics": mean["pooled"], "sd": sd["pooled"]}


def _scored(predicted: Answers) -> dict[str, Any]:
    scores = scoring.scores(predicted.kind, *scored(predicted), predicted.labels, predicted.positive)
    return {"examples": len(predicted.rows), "metrics": runs.finite(scores)}


def _spread(scores: list[dict[str, dict[str, float | None]]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """{split: {metric: mean}}, and the same of the standard deviation; None if undefined."""
    splits = [name for name in (scores[0] if scores else ()) if all(name in own for own in scores)]
    statistics = {split: metrics.over_runs([own[split] for own in scores]) for split in splits}
    return {split: mean for split, (mean, _) in statistics.items()}, {
        split: sd for split, (_, sd) in statistics.items()
    }


def text(content: dict[str, Any]) -> str:
    """The tables for a terminal."""
    blocks = [
        [title(content, split), *aligned(table(content, split))]
        for split in [name for name in SPLITS if name in content["metrics"]]
    ]
    blocks.append([metric_name(content["metric"], content["positive"]), *aligned(members(content))])
    left = content["planned"] - len(content["members"])
    blocks += [[f"{left} of {content['planned']} runs are not finished"]] if left else []
    return "\n\n".join("\n".join(lines) for lines in blocks)


def title(content: dict[str, Any], split: str) -> str:
    """What a table of scores is of."""
    count = len(content["members"])
    run_count = f"{count} run{'' if count == 1 else 's'}"
    if split == "validation" and content["out_of_fold"]:
        return f"{split}: {run_count}; pooled: {content['out_of_fold']['examples']:,} examples, each by the run that did not train on it"
    if split in content["ensemble"]:
        return f"{split}: {run_count}; ensemble: {content['ensemble'][split]['examples']:,} examples, by the mean of all runs"
    return f"{split}: {run_count}"


def table(content: dict[str, Any], split: str) -> list[tuple[str, ...]]:
    """Head and rows of the scores of a split over the runs, and of the runs together if any."""
    together = content["ensemble"].get(split, {}).get("metrics")
    name = "ensemble"
    if split == "validation" and content["out_of_fold"]:
        together, name = content["out_of_fold"]["metrics"], "pooled"
    rows = [("metric", "mean", "sd", "lowest", "highest", *([name] if together else []))]
    for metric, mean in content["metrics"][split].items():
        values = [member["metrics"][split][metric] for member in content["members"]]
        known = [value for value in values if value is not None]
        ends = (min(known), max(known)) if known else (None, None)
        cells = [mean, content["sd"][split][metric], *ends, *([together[metric]] if together else [])]
        rows.append((metric_name(metric, content["positive"]), *map(number, cells)))
    return rows


def members(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """Head and rows of the runs, with their scores in the main metric."""
    splits = [split for split in SPLITS if split in content["metrics"]]
    rows = [("run", "best epoch", *splits)]
    for member in content["members"]:
        scores = [number(member["metrics"][split][content["metric"]]) for split in splits]
        rows.append((member["run"], str(member["best_epoch"] or "-"), *scores))
    return rows
