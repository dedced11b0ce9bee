"""Trains the trials of a study one by one, and ends it; many processes may do so at a time."""

import gc
import json
import shutil
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from kft import backend, evaluate, metrics, runs, train
from kft import config as configs
from kft.config import Config
from kft.errors import KftError
from kft.progress import note
from kft.report.history import read_history
from kft.runs import RunDir
from kft.studies.tune import results, storage
from kft.studies.tune.storage import Claim, Study

backend.select()

import keras  # noqa: E402

POLL_SECONDS = 1.0


class Pruned(Exception):  # noqa: N818 (it is not an error)
    """A trial is worse than others were at that epoch."""


def tune(config: Config, folder: str | Path, url: str | None = None) -> dict[str, Any]:
    """Searches in this process, or goes on with a search.

    Args:
        config: with a [tune] table.
        folder: of the study.
        url: of Optuna's storage; None keeps it in the folder.

    Returns:
        The content of study.json, see `results.FIELDS`.

    Raises:
        KftError: a mistake in the table, or all trials failed.
    """
    opened = storage.begin(config, Path(folder), url)
    work(opened, threading.Event())
    return finish(opened)


def work(opened: Study, stop: threading.Event, wait: bool = True) -> None:
    """Trains trials until none is left.

    Args:
        opened: the study.
        stop: saves the running trial and returns when set.
        wait: whether it waits for the trials of other processes, to take over what they leave.

    Raises:
        KftError: the storage stopped to answer; the trial is left to be taken over.
    """
    waits = False
    with storage.answering():
        while not stop.is_set():
            claimed = storage.claim(opened)
            if claimed is None:
                left = storage.unfinished(opened)
                if not left or not wait:
                    return
                if not waits:
                    note(
                        f"waiting for {len(left)} {'trial' if len(left) == 1 else 'trials'} of other processes"
                    )
                waits = True
                stop.wait(POLL_SECONDS)
                continue
            with claimed.lock, storage.alive(opened, claimed):
                try:
                    _run_trial(opened, claimed, stop)
                except UpdateFinishedTrialError:  # this machine was away for long, suspended perhaps
                    note(f"trial {claimed.index + 1}: another process has taken it over and finished it")


def finish(opened: Study) -> dict[str, Any]:
    """Ranks the trials, scores the winner on test once all are finished, and writes the results.

    Raises:
        KftError: every trial failed, or the storage does not answer.
    """
    with storage.answering(), storage.locked(opened.folder, "finish.lock"):
        content = results.gather(opened)
        best = content["best"]
        known = opened.study.user_attrs.get("test")
        if best and not storage.unfinished(opened) and not (known and known["trial"] == best["number"]):
            known = _score_winner(opened, best)
        if best and known and known["trial"] == best["number"]:
            best["metrics"]["test"] = known["metrics"]
        return results.write(opened, content)


def _run_trial(opened: Study, claimed: Claim, stop: threading.Event) -> None:
    if claimed.attempts > storage.LARGEST_ATTEMPTS:
        _end(
            opened,
            claimed,
            TrialState.FAIL,
            reason="its process died again and again, perhaps for want of memory",
        )
        return
    began = time.monotonic()
    before = opened.storage.get_trial(claimed.id).user_attrs.get("seconds", 0.0)
    trial, point = storage.suggest(opened, claimed)
    note(f"trial {claimed.index + 1} of {len(storage.trials(opened))}: {_listing(point)}")
    try:
        scores = [_train(opened, claimed, trial, config, stop) for config in _configs(opened, point)]
        value = metrics.over_runs(scores)[0][opened.metric]
        if value is None:
            raise KftError(
                f"{opened.metric} is not defined on the validation split", "set tune.metric to another"
            )
        storage.note(opened, claimed, metrics=scores)
        state, reason = TrialState.COMPLETE, None
    except train.Stopped:
        storage.note(opened, claimed, attempts=0, seconds=before + time.monotonic() - began)
        return
    except Pruned:
        state, value, reason = TrialState.PRUNED, None, "worse than others at the same epoch"
    except (*storage.UNREACHABLE, UpdateFinishedTrialError):
        raise
    except (
        Exception
    ) as error:  # one trial's failure, such as too little memory, is no reason to lose the others
        state, value = TrialState.FAIL, None
        reason = error.message if isinstance(error, KftError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, KftError):
            traceback.print_exc()
    _end(opened, claimed, state, value, reason=reason, seconds=before + time.monotonic() - began)
    keras.backend.clear_session()
    gc.collect()


def _end(opened: Study, claimed: Claim, state: TrialState, value: float | None = None, **notes: Any) -> None:
    """Ends a trial, and drops the checkpoints that nobody will resume from."""
    storage.note(opened, claimed, **{key: item for key, item in notes.items() if item is not None})
    opened.storage.set_trial_state_values(claimed.id, state, None if value is None else [value])
    for checkpoints in opened.trial_folder(claimed.index).rglob("checkpoints"):
        shutil.rmtree(checkpoints, ignore_errors=True)
    outcome = f"{opened.metric} {value:.4f}" if value is not None else state.name.lower()
    note(f"trial {claimed.index + 1}: {outcome}" + (f": {notes['reason']}" if notes.get("reason") else ""))


def _configs(opened: Study, point: dict[str, Any]) -> list[Config]:
    """The settings of each run of a trial."""
    return [configs.change(opened.config, change) for change in results.changes(opened, point)]


def _train(opened: Study, claimed: Claim, trial, config: Config, stop: threading.Event) -> dict[str, float]:
    """Trains or goes on with one run of a trial; returns its scores on validation."""
    run = RunDir(results.run_folder(opened, claimed.index, config.train.seed))
    first = not opened.config.tune.seeds or config.train.seed == opened.config.tune.seeds[0]

    def after_epoch(run: RunDir) -> None:
        if claimed.attempts > 1:  # what goes on from epoch to epoch may be taken over as often as it must
            storage.note(opened, claimed, attempts=1)
        if first:
            _watch(trial, run, opened.metric)

    control = train.Control(stop, after_epoch, score_test=False)
    if runs.checkpoint_files(run) or run.done.exists():
        if first:
            _watch(trial, run, opened.metric)
        result = train.resume(run.path, control)
    else:
        result = train.train(config, run.path, control)
    return result["metrics"]["validation"]


def _watch(trial, run: RunDir, metric: str) -> None:
    """Reports the epochs of a run that Optuna does not know yet, and ends a hopeless trial.

    Raises:
        Pruned: the pruner gives the trial up.
    """
    known = trial.storage.get_trial(trial._trial_id).intermediate_values  # another process may have begun it
    for line in read_history(run).evaluation:
        value = line["metrics"].get(metric)
        if line["epoch"] not in known and value is not None:
            trial.report(value, line["epoch"])
    if trial.should_prune():
        raise Pruned


def _score_winner(opened: Study, best: dict[str, Any]) -> dict[str, Any] | None:
    """The winner's scores on test, kept with the study; None without a test split or its run."""
    run_dirs = [Path(run) for run in best["runs"]]
    if not all(RunDir(run).done.exists() for run in run_dirs):
        note(f"the winner's run is on another machine: {best['host']}; `kft tune` there scores it on test")
        return None
    if not runs.had_split(RunDir(run_dirs[0]), "test"):
        return None
    scores = [evaluate.evaluate(run, "test")["metrics"] for run in run_dirs]
    content = {"trial": best["number"], "metrics": metrics.over_runs(scores)[0]}
    opened.study.set_user_attr("test", content)
    return content


def _listing(point: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in point.items())
