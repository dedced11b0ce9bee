"""What a study gives: ranked trials, study.json, best.toml, study.html, a table as text."""

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
    """The class that scores of one class are of, as the trials' runs say."""
    folders = (runs.RunDir(Path(folder)) for trial in ended for folder in trial["runs"])
    first = next((run for run in folders if run.labels.exists() and run.model.exists()), None)
    if first is None:
        return opened.config.data.positive
    learned = runs.read_learned(first)
    return scoring.positive_label(learned.labels, learned.positive)


def write(opened: Study, content: dict[str, Any]) -> dict[str, Any]:
    """Writes study.json, best.toml and study.html; returns what study.json holds.

    Raises:
        KftError: every trial failed.
    """
    content = runs.finite(content)
    runs.write_json(opened.folder / "study.json", content)
    if content["best"]:
        runs.write_text(opened.folder / "best.toml", _best_toml(opened, content["best"]))
    runs.write_text(opened.folder / "study.html", page.html(content, table(content), importances(opened)))
    if content["trials"] and len(content["trials"]) == content["planned"] and not content["best"]:
        reasons = dict.fromkeys(t["reason"] for t in content["trials"] if t["state"] == "failed")
        raise KftError(
            f"{opened.folder}: no trial was completed: {'; '.join(reasons)}", "see study.json in the folder"
        )
    return content


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
    """Setting → its share of the metric's spread (fANOVA, Hutter et al. 2014); {} if unknown."""
    from_trials = [t for t in storage.trials(opened) if t.state == TrialState.COMPLETE]
    varied = {p.name for p in opened.space if len({t.params.get(p.name) for t in from_trials}) > 1}
    if len(from_trials) < 4 or not varied or len({t.value for t in from_trials}) < 2:
        return {}
    return page.fanova(opened.study, sorted(varied))


def text(content: dict[str, Any]) -> str:
    """The ranked table for a terminal."""
    head, *rows = table(content)
    left = content["planned"] - len(content["trials"])
    lines = [*aligned([head, *rows])] if rows else []
    if left:
        lines.append(f"{left} of {content['planned']} trials are not finished")
    if content["best"] and content["best"]["metrics"].get("test"):
        scores = content["best"]["metrics"]["test"]
        lines += [
            "",
            f"trial {content['best']['number']} on test",
            *aligned(
                [
                    ("metric", "score"),
                    *(
                        (metric_name(name, content["positive"]), number(value))
                        for name, value in scores.items()
                    ),
                ]
            ),
        ]
    return "\n".join(lines)


def table(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """Head and rows: rank, trial, state, score, and the settings that were searched."""
    names = list(dict.fromkeys(name for trial in content["trials"] for name in trial["params"]))
    rows = [("rank", "trial", "state", metric_name(content["metric"], content["positive"]), *names)]
    for rank, trial in enumerate(content["trials"], 1):
        spread = "" if trial["sd"] is None else f" ± {number(trial['sd'])}"
        cells = [_value(trial["params"].get(name)) for name in names]
        rows.append(
            (str(rank), str(trial["number"]), trial["state"], number(trial["value"]) + spread, *cells)
        )
    return rows


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _trial(opened: Study, trial: FrozenTrial) -> dict[str, Any]:
    index, attributes = trial.user_attrs["index"], trial.user_attrs
    params = storage.decoded(opened, trial)
    scores = attributes.get("metrics", [])
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
        "reason": attributes.get("reason"),
        "seconds": attributes.get("seconds"),
        "runs": [str(run_folder(opened, index, seed)) for seed in seeds],
        "host": attributes.get("host"),
    }


def _best_toml(opened: Study, best: dict[str, Any]) -> str:
    config = configs.change(opened.config, changes(opened, best["params"])[0])
    listing = ", ".join(f"{name} = {json.dumps(value)}" for name, value in best["params"].items())
    head = f"# Trial {best['number']} of {len(storage.trials(opened))}: {opened.metric} {number(best['value'])} on validation.\n"
    return head + f"# {listing}\n\n" + configs.dump(config)
