"""What a study found: trials in their rank, study.json, best.toml, study.html, and a table in plain
text.
"""

import json
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from kft import config as configs
from kft import metrics, runs
from kft.errors import KftError
from kft.metrics.words import metric_name, number
from kft.report.table import aligned
from kft.studies.tune import page, storage
from kft.studies.tune.storage import Study
from kft.tasks import scoring

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
FIELDS = {
    "run": "the study's folder",
    "method": "grid, random or tpe",
    "metric": "validation metric that ranks the trials",
    "positive": "of two classes the one that precision, recall and f1 are of; else null, or not known yet",
    "planned": "trials of the whole search",
    "trials[].number": "of the trial, from 1, in the order of planning; the list stands in the order of rank",
    "trials[].params.*": "setting: value",
    "trials[].state": "complete, pruned or failed",
    "trials[].value": "the metric; the mean over seeds; null unless complete",
    "trials[].sd": "sample standard deviation over seeds; null for one run",
    "trials[].metrics.*.*": "split, metric: score, the mean over seeds; of a pruned trial that of its last epoch",
    "trials[].epochs.*": "epoch: the metric after it",
    "trials[].reason": "why it failed or was stopped; else null",
    "trials[].seconds": "time that its training took, all parts of an interrupted one together",
    "trials[].runs[]": "run folders, one for each seed",
    "trials[].host": "machine and study folder that trained it",
    "best.*": "the first of the trials, with its scores on test once all trials are finished; null without a complete one",
    "best.config": "best.toml, which `kft train` takes",
}


def gather(opened: Study) -> dict[str, Any]:
    """The content of study.json, the winner not yet scored on test."""
    everything = storage.trials(opened)
    ended = [_trial(opened, trial) for trial in everything if trial.state.is_finished()]
    sign = -1 if metrics.METRICS[opened.metric].greater_is_better else 1
    order = list(STATES.values())
    ended.sort(key=lambda t: (order.index(t["state"]), sign * (t["value"] or 0.0), t["number"]))
    best = None
    if ended and ended[0]["state"] == "complete":
        best = ended[0] | {"metrics": dict(ended[0]["metrics"]), "config": str(opened.folder / "best.toml")}
    return {
        "run": str(opened.folder),
        "method": opened.config.tune.method,
        "metric": opened.metric,
        "positive": _positive(opened, ended),
        "planned": len(everything),
        "trials": ended,
        "best": best,
    }


def _positive(opened: Study, ended: list[dict[str, Any]]) -> str | None:
    """The class that scores of one class are of, as the trials' runs tell."""
    folders = (runs.RunDir(Path(folder)) for trial in ended for folder in trial["runs"])
    there = next((run for run in folders if run.labels.exists() and run.model.exists()), None)
    if there is None:
        return opened.config.data.positive
    learned = runs.read_learned(there)
    return scoring.positive_label(learned.labels, learned.positive)


def write(opened: Study, told: dict[str, Any]) -> dict[str, Any]:
    """Writes study.json, best.toml and study.html; returns what study.json holds.

    Raises:
        KftError: every trial failed.
    """
    told = runs.finite(told)
    runs.write_json(opened.folder / "study.json", told)
    if told["best"]:
        runs.write_text(opened.folder / "best.toml", _best_toml(opened, told["best"]))
    runs.write_text(opened.folder / "study.html", page.html(told, table(told), importances(opened)))
    if told["trials"] and len(told["trials"]) == told["planned"] and not told["best"]:
        reasons = dict.fromkeys(t["reason"] for t in told["trials"] if t["state"] == "failed")
        raise KftError(
            f"{opened.folder}: no trial was completed: {'; '.join(reasons)}", "see study.json in the folder"
        )
    return told


def changes(opened: Study, point: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings that each run of a trial has of its own."""
    config = opened.config
    named = (
        {"train.best_metric": config.tune.metric}
        if config.tune.metric and not config.train.best_metric
        else {}
    )
    return [
        named | point | ({} if seed is None else {"train.seed": seed}) for seed in config.tune.seeds or [None]
    ]


def run_folder(opened: Study, index: int, seed: int) -> Path:
    """Where a run of a trial stands."""
    folder = opened.trial_folder(index)
    return folder / f"seed-{seed}" if opened.config.tune.seeds else folder


def importances(opened: Study) -> dict[str, float]:
    """Setting → share of the metric's spread that it explains (fANOVA, Hutter et al. 2014); {}
    where that is unknown.
    """
    from_trials = [t for t in storage.trials(opened) if t.state == TrialState.COMPLETE]
    varied = {p.name for p in opened.space if len({t.params.get(p.name) for t in from_trials}) > 1}
    if len(from_trials) < 4 or not varied or len({t.value for t in from_trials}) < 2:
        return {}
    return page.fanova(opened.study, sorted(varied))


def text(told: dict[str, Any]) -> str:
    """The ranked table for a terminal."""
    head, *rows = table(told)
    left = told["planned"] - len(told["trials"])
    lines = [*aligned([head, *rows])] if rows else []
    if left:
        lines.append(f"{left} of {told['planned']} trials are not finished")
    if told["best"] and told["best"]["metrics"].get("test"):
        scores = told["best"]["metrics"]["test"]
        lines += [
            "",
            f"trial {told['best']['number']} on test",
            *aligned(
                [
                    ("metric", "score"),
                    *((metric_name(name, told["positive"]), number(value)) for name, value in scores.items()),
                ]
            ),
        ]
    return "\n".join(lines)


def table(told: dict[str, Any]) -> list[tuple[str, ...]]:
    """Head and rows: rank, trial, state, score, and the settings that were searched."""
    names = list(dict.fromkeys(name for trial in told["trials"] for name in trial["params"]))
    rows = [("rank", "trial", "state", metric_name(told["metric"], told["positive"]), *names)]
    for rank, trial in enumerate(told["trials"], 1):
        spread = "" if trial["sd"] is None else f" ± {number(trial['sd'])}"
        shown = [_value(trial["params"].get(name)) for name in names]
        rows.append(
            (str(rank), str(trial["number"]), trial["state"], number(trial["value"]) + spread, *shown)
        )
    return rows


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _trial(opened: Study, trial: FrozenTrial) -> dict[str, Any]:
    index, told = trial.user_attrs["index"], trial.user_attrs
    params = storage.decoded(opened, trial)
    scores = told.get("metrics", [])
    validation, deviations = metrics.over_runs(scores)
    if not scores and trial.intermediate_values:
        validation = {opened.metric: trial.intermediate_values[max(trial.intermediate_values)]}
    seeds = opened.config.tune.seeds or [params.get("train.seed", opened.config.train.seed)]
    complete = trial.state == TrialState.COMPLETE
    return {
        "number": index + 1,
        "params": params,
        "state": STATES[trial.state],
        "value": trial.value if complete else None,
        "sd": deviations[opened.metric] if complete else None,
        "metrics": {"validation": validation},
        "epochs": {str(epoch): value for epoch, value in sorted(trial.intermediate_values.items())},
        "reason": told.get("reason"),
        "seconds": told.get("seconds"),
        "runs": [str(run_folder(opened, index, seed)) for seed in seeds],
        "host": told.get("host"),
    }


def _best_toml(opened: Study, best: dict[str, Any]) -> str:
    config = configs.change(opened.config, changes(opened, best["params"])[0])
    shown = ", ".join(f"{name} = {json.dumps(value)}" for name, value in best["params"].items())
    head = f"# Trial {best['number']} of {len(storage.trials(opened))}: {opened.metric} {number(best['value'])} on validation.\n"
    return head + f"# {shown}\n\n" + configs.dump(config)
