"""Sends losses and scores to programs that draw them: TensorBoard, Weights & Biases, MLflow."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kft.errors import KftError
from kft.progress import note
from kft.train.trackers.event_file import EventFile


@dataclass(frozen=True)
class Origin:
    """What a tracker is given of a run.

    Attributes:
        folder: the run's logs, where a tracker may keep files.
        name: of the run.
        settings: of the run, by their full names.
        known: the name that the tracker gave to the run when it began; None for a new run.
    """

    folder: Path
    name: str
    settings: dict[str, Any]
    known: str | None


@dataclass(frozen=True)
class Opened:
    """A tracker at work on one run.

    Attributes:
        known: see `Origin`; None where the tracker gives none.
        log: (step, {name: value}) → None.
        close: whether the run is finished → None.
    """

    known: str | None
    log: Callable[[int, dict[str, float]], None]
    close: Callable[[bool], None]


@dataclass(frozen=True)
class Tracker:
    """One program that draws runs; `package` is what it needs, None for nothing."""

    package: str | None
    open: Callable[[Origin], Opened]


def _tensorboard(origin: Origin) -> Opened:
    file = EventFile(origin.folder)
    return Opened(None, file.add, lambda finished: file.close())


def _wandb(origin: Origin) -> Opened:
    import wandb

    run = wandb.init(
        project="kft",
        name=origin.name,
        dir=str(origin.folder),
        config=origin.settings,
        id=origin.known,
        resume="allow" if origin.known else None,
    )
    run.define_metric("*", step_metric="step")
    return Opened(
        run.id,
        lambda step, values: run.log({"step": step, **values}),
        lambda finished: run.finish(0 if finished else 1),
    )


def _mlflow(origin: Origin) -> Opened:
    import mlflow

    client = mlflow.MlflowClient()
    if origin.known is None:
        experiment = client.get_experiment_by_name("kft")
        number = experiment.experiment_id if experiment else client.create_experiment("kft")
        key = client.create_run(number, run_name=origin.name).info.run_id
        for name, value in origin.settings.items():
            client.log_param(key, name, value)
    else:
        key = origin.known
        client.update_run(key, status="RUNNING")

    def log(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            client.log_metric(key, name, value, step=step)

    return Opened(key, log, lambda finished: client.set_terminated(key, "FINISHED" if finished else "KILLED"))


TRACKERS = {
    "tensorboard": Tracker(None, _tensorboard),
    "wandb": Tracker("wandb", _wandb),
    "mlflow": Tracker("mlflow", _mlflow),
}


def check(names: list[str]) -> None:
    """Raises KftError: the package of a tracker is missing."""
    for name in names:
        package = TRACKERS[name].package
        if package and importlib.util.find_spec(package) is None:
            raise KftError(
                f"`train.trackers` names {name}, which needs the package {package}",
                f"pip install {package}",
            )


class Tracking:
    """All trackers of a run. One that fails is reported and left out; training goes on."""

    def __init__(self, names: list[str], folder: Path, name: str, settings: dict[str, Any]):
        """Opens them, anew or where they stopped.

        Args:
            names: keys of TRACKERS.
            folder: the run's logs.
            name: of the run.
            settings: of the run, in sections.

        Raises:
            KftError: the package of one is missing.
        """
        check(names)
        folder.mkdir(parents=True, exist_ok=True)
        flat = dict(_flat(settings))
        self._opened: dict[str, Opened] = {}
        for key in names:
            self._try(key, lambda key=key: self._open(key, folder, name, flat))

    def _open(self, key: str, folder: Path, name: str, settings: dict[str, Any]) -> None:
        file = folder / f"{key}.txt"
        known = file.read_text("utf-8") if file.exists() else None
        opened = TRACKERS[key].open(Origin(folder, name, settings, known))
        if opened.known and not known:
            file.write_text(opened.known, "utf-8")
        self._opened[key] = opened

    def log(self, step: int, values: dict[str, float | None]) -> None:
        """Sends the values of a step; what is no number is left out."""
        numbers = {
            name: value for name, value in values.items() if value is not None and math.isfinite(value)
        }
        for key, opened in list(self._opened.items()):
            self._try(key, lambda opened=opened: opened.log(step, numbers))

    def close(self, finished: bool) -> None:
        for key, opened in list(self._opened.items()):
            self._try(key, lambda opened=opened: opened.close(finished))
        self._opened.clear()

    def _try(self, key: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever another program may raise: a run of hours is worth more
            note(f"tracker {key}: left out from now on: {type(error).__name__}: {error}")
            self._opened.pop(key, None)


@contextmanager
def tracking(names: list[str], folder: Path, name: str, settings: dict[str, Any]) -> Iterator[Tracking]:
    """A `Tracking` that is closed at the end, as finished unless something was raised."""
    opened = Tracking(names, folder, name, settings)
    finished = False
    try:
        yield opened
        finished = True
    finally:
        opened.close(finished)


def _flat(settings: dict[str, Any], before: str = ""):
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
