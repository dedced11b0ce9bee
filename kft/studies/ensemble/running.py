"""Trains the runs of an ensemble one after the other, each once, however often it is stopped.

ensemble.toml plan.json           the settings that the runs share; which seeds and folds there are
seed-1/ fold-2/ seed-1-fold-2/    a run directory each
ensemble.json ensemble.html predictions.out-of-fold.parquet
"""

import gc
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kft import backend, runs
from kft import config as configs
from kft import train as training
from kft.config import PATH_KEYS, Config
from kft.errors import KftError
from kft.progress import note, stop_signals
from kft.runs import EnsembleDir, Member, RunDir, Variation
from kft.studies.ensemble import results

backend.select()

import keras  # noqa: E402

# What may change between two calls: where the data are, the backend, and what no training reads.
FREE = {"backend", "data.source", *(f"data.{key}" for key in PATH_KEYS)}


def train(config: Config, path: str | Path, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Trains a run for each seed and each fold of `split.folds`, or goes on with those in a folder.

    Finished runs stay as they are, a stopped one goes on from its checkpoint. More seeds may be
    added later.

    Args:
        config: from `kft.config.load`; `split.fold` is not set.
        path: the folder of the runs.
        seeds: `train.seed` of the runs; none takes the config's own.

    Returns:
        {"run": folder} and the content of ensemble.json, see `FIELDS`.

    Raises:
        KftError: a mistake in the data or the settings, or the folder holds runs of other settings.
        train.Stopped: SIGTERM or SIGINT came; the same call goes on.
    """
    backend.select(config.backend)
    folder = runs.new_ensemble(path)
    with runs.only_writer(folder.path):
        plan = Variation(tuple(dict.fromkeys(seeds)), config.split.folds)
        if runs.is_ensemble(path):
            plan = _extended(folder, config, plan)
        runs.write_plan(folder, plan)
        runs.write_text(folder.config, configs.dump(config))
        return _work(folder)


def resume(path: str | Path) -> dict[str, Any]:
    """Goes on with the runs in a folder; returns and raises as `train` does."""
    folder = runs.open_ensemble(path)
    backend.select(runs.read_config(folder).backend)
    with runs.only_writer(folder.path, "wait until it has ended"):
        return _work(folder)


def _extended(folder: EnsembleDir, config: Config, wanted: Variation) -> Variation:
    """The plan of the runs so far, with the seeds that are asked for besides.

    Raises:
        KftError: they were begun with other settings. Where none came to its first step, they are
        forgotten.
    """
    run_dirs = [member.run for member in runs.members(folder)]
    if not any(map(_begun, run_dirs)):
        for run in run_dirs:
            shutil.rmtree(run.path, ignore_errors=True)
        return wanted
    before, known = runs.read_config(folder), runs.read_plan(folder)
    differ = [name for name in configs.differences(before, config) if name not in FREE]
    differ = [name for name in differ if not name.startswith("tune.")]
    if bool(known.seeds) != bool(wanted.seeds):
        differ.append("--seeds")
    if known.seeds and "train.seed" in differ:  # which --seeds overrides
        differ.remove("train.seed")
    if differ:
        raise KftError(
            f"{folder.path}: its runs were begun with another {', '.join(differ)}",
            "choose another folder with --run",
        )
    return Variation(tuple(dict.fromkeys([*known.seeds, *wanted.seeds])), known.folds)


def _work(folder: EnsembleDir) -> dict[str, Any]:
    members = runs.members(folder)
    with stop_signals() as stop:
        for number, member in enumerate(members, 1):
            if stop.is_set():
                raise training.Stopped(RunDir(folder.path))
            if member.run.done.exists():
                runs.open_run(member.run.path)  # whole?
                note(f"{member.run.path.name}: finished before")
                continue
            note(f"{member.run.path.name}: run {number} of {len(members)}")
            _train(folder, member, stop)
            if number < len(members):
                results.write(folder)
    return {"run": str(folder.path)} | results.write(folder)


def _train(folder: EnsembleDir, member: Member, stop: threading.Event) -> None:
    """Trains one run, or goes on with it."""
    run, control = member.run, training.Control(stop)
    try:
        if _begun(run):
            training.resume(run.path, control)
        else:
            training.train(_config(runs.read_config(folder), member), run.path, control)
    except training.Stopped:
        raise training.Stopped(RunDir(folder.path)) from None
    except KftError as error:
        raise KftError(f"{run.path.name}: {error.message}", error.hint) from None
    keras.backend.clear_session()
    gc.collect()


def _begun(run: RunDir) -> bool:
    return bool(runs.checkpoint_files(run)) or run.weights.exists()


def _config(config: Config, member: Member) -> Config:
    """The settings of one run."""
    varied = {"train.seed": member.seed, "split.fold": member.fold}
    return configs.change(config, {name: value for name, value in varied.items() if value is not None})
