"""A study's trials in Optuna's storage, each claimed by a process, or by another if that dies.

A process holds a lock of the operating system on the file of its trial, which ends with the
process: a trial that is running and not locked was left behind, and whoever finds it goes on with
it. Where several machines share a server's storage, a trial also keeps the time at which its
process was last alive.
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from kft import config as configs
from kft import metrics, runs
from kft.config import Config
from kft.errors import KftError
from kft.studies.tune import space as spaces
from kft.studies.tune.space import Choice, Space
from kft.tasks import scoring

UNREACHABLE = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
SQLITE_WAIT_SECONDS = 120
STUDY_LOCK = "study.lock"
ALIVE_SECONDS = 30  # between two signs of life on a shared storage
DEAD_SECONDS = 300  # without one, after which another machine takes a trial over
SETTLE_SECONDS = 2  # in which two machines that take the same trial over see each other
DRIVERS = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "'psycopg[binary]'",
    "MySQLdb": "mysqlclient",
}  # module: package
LARGEST_ATTEMPTS = (
    5  # processes that may die over one trial (such as for want of memory) before it counts as failed
)

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Study:
    """An open study."""

    folder: Path
    config: Config
    space: Space
    study: optuna.Study
    storage: optuna.storages.BaseStorage
    id: int
    shared: bool

    @property
    def metric(self) -> str:
        """The validation metric that ranks the trials."""
        return ranking_metric(self.config)

    def trial_folder(self, index: int) -> Path:
        return self.folder / "trials" / f"{index:04}"


@dataclass(frozen=True)
class Claim:
    """A trial that this process alone trains."""

    index: int
    id: int
    lock: IO
    attempts: int


def ranking_metric(config: Config) -> str:
    return config.tune.metric or config.train.best_metric or scoring.main_metric(config.task)


def begin(config: Config, folder: Path, url: str | None) -> Study:
    """The study in a folder, new or gone on with.

    Raises:
        KftError: the table is wrong, the folder holds something else or a study of other settings,
            or the storage cannot be used.
    """
    space = spaces.read(config)
    scoring.check_name(config.task, ranking_metric(config), where="tune.metric")
    file = folder / "study.toml"
    if folder.exists() and not file.exists() and (not folder.is_dir() or _others(folder)):
        raise KftError(f"{folder}: is not empty and holds no study", "choose another folder with --run")
    with locked(folder):
        if file.exists():
            check_same(folder, configs.load(file), config)
        runs.write_text(file, configs.dump(config))
    opened = open_study(folder, url)
    with locked(folder):
        enqueued = {trial.user_attrs["index"] for trial in trials(opened)}
        for index, point in enumerate(spaces.points(config, space)):
            if index not in enqueued:
                fixed = {p.name: _encoded(p, point[p.name]) for p in space if point}
                opened.study.enqueue_trial(fixed, user_attrs={"index": index})
    return opened


def _others(folder: Path) -> bool:
    """Whether a folder holds more than the lock of a process that is just beginning a study."""
    return any(entry.name != STUDY_LOCK for entry in folder.iterdir())


def open_study(folder: Path, url: str | None) -> Study:
    """A study that `begin` has created."""
    config = configs.load(folder / "study.toml")
    space = spaces.read(config)
    direction = "maximize" if metrics.METRICS[ranking_metric(config)].greater_is_better else "minimize"
    with locked(folder):
        try:
            storage = _storage(url or f"sqlite:///{folder.resolve() / 'study.db'}")
            name = folder.resolve().name
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction=direction,
                load_if_exists=True,
                pruner=_pruner(config),
            )
        except ImportError as error:
            driver = getattr(error.__cause__, "name", None) or "its driver"  # Optuna's own error names none
            raise KftError(
                f"the storage needs the package {driver}", f"pip install {DRIVERS.get(driver, driver)}"
            ) from None
        except (SQLAlchemyError, ValueError, OSError) as error:
            if runs.is_full(error):
                raise runs.cannot_write(folder, error) from error
            place = "the storage" if url else folder / "study.db"
            raise KftError(
                f"{place}: cannot be used: {runs.reason(error)}",
                "--storage takes a URL such as postgresql://user@host/database or mysql://…",
            ) from None
        settings = json.loads(_identity(config))
        if study.user_attrs.setdefault("settings", settings) != settings:
            raise KftError(
                f"the storage holds a study `{name}` of other settings", "name the folder otherwise: --run"
            )
        study.set_user_attr("settings", settings)
    return Study(folder, config, space, study, storage, storage.get_study_id_from_name(name), url is not None)


def _storage(url: str) -> optuna.storages.BaseStorage:
    sqlite = url.startswith("sqlite")
    options = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}} if sqlite else {"pool_pre_ping": True}
    for tries_left in (2, 1, 0):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except (IntegrityError, ProgrammingError):  # two machines created the tables at the same moment
            if not tries_left:
                raise
            time.sleep(SETTLE_SECONDS)
    raise AssertionError


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Raises KftError: the storage stopped to answer."""
    try:
        yield
    except UNREACHABLE as error:
        if runs.is_full(error):
            raise runs.cannot_write("the study's storage", error) from error
        reason = runs.reason(error.__cause__ or error)
        raise KftError(
            f"the storage does not answer: {reason}", "once it does, the same command goes on"
        ) from error


def check_same(folder: Path, before: Config, now: Config) -> None:
    """Raises KftError: a study was begun with other settings than are asked for now."""
    old, new = (json.loads(_identity(config)) for config in (before, now))
    changed = [
        f"{section}.{key}" if isinstance(old[section], dict) else section
        for section in old
        for key in (old[section] if isinstance(old[section], dict) else [section])
        if (old[section].get(key) if isinstance(old[section], dict) else old[section])
        != (new[section].get(key) if isinstance(new[section], dict) else new[section])
    ]
    if changed or old != new:
        names = ", ".join(changed) or "settings"
        raise KftError(
            f"{folder}: the study was begun with another {names}", "choose another folder with --run"
        )


def _identity(config: Config) -> str:
    """The settings that decide about trials; how many there are, and where, may change."""
    free = {"trials", "workers", "timeout_minutes", "launcher", "cpus_per_trial", "gpus_per_trial"}
    return config.model_dump_json(exclude={"tune": free, "data": {*configs.PATH_KEYS, "source"}})


def trials(opened: Study) -> list[FrozenTrial]:
    """The trials in the order of their numbers, each once (two machines may have made one both)."""
    by_index: dict[int, FrozenTrial] = {}
    for trial in opened.study.get_trials(deepcopy=False):
        if "index" in trial.user_attrs:
            by_index.setdefault(trial.user_attrs["index"], trial)
    return [by_index[index] for index in sorted(by_index)]


def unfinished(opened: Study) -> list[FrozenTrial]:
    return [trial for trial in trials(opened) if not trial.state.is_finished()]


def claim(opened: Study) -> Claim | None:
    """A trial to train: one left behind, else the next; None where all are finished or others'."""
    with locked(opened.folder):
        left = unfinished(opened)
        for trial in sorted(left, key=lambda t: t.state == TrialState.WAITING):
            index, begun = trial.user_attrs["index"], trial.state == TrialState.RUNNING
            lock = _take(opened, trial)
            if lock is None:
                continue
            if not begun and not opened.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                lock.close()
                continue
            attempts = trial.user_attrs.get("attempts", 0) + 1
            claimed = Claim(index, trial._trial_id, lock, attempts)
            settles = begun and opened.shared and trial.user_attrs.get("host") != _host(opened)
            note(opened, claimed, attempts=attempts, host=_host(opened), alive=time.time())
            if settles and not _stays_mine(opened, claimed):
                lock.close()
                continue
            return claimed
    return None


def claimable(opened: Study) -> int:
    """How many trials `claim` would give now, one after the other."""
    with locked(opened.folder):
        locks = [lock for trial in unfinished(opened) if (lock := _take(opened, trial))]
        for lock in locks:
            lock.close()
    return len(locks)


def _stays_mine(opened: Study, claimed: Claim) -> bool:
    """Whether no other machine took the same dead trial at the same moment: the last one has it."""
    time.sleep(SETTLE_SECONDS)
    return opened.storage.get_trial(claimed.id).user_attrs["host"] == _host(opened)


def _take(opened: Study, trial: FrozenTrial) -> IO | None:
    """The lock of a trial; None where another process trains it."""
    if trial.state == TrialState.RUNNING and opened.shared and not _mine_or_dead(opened, trial):
        return None
    return _lock(opened.trial_folder(trial.user_attrs["index"]).with_suffix(".lock"), wait=False)


def note(opened: Study, claimed: Claim, **values: Any) -> None:
    """Writes down something about a trial."""
    for key, value in values.items():
        opened.storage.set_trial_user_attr(claimed.id, key, value)


def suggest(opened: Study, claimed: Claim) -> tuple[optuna.Trial, spaces.Point]:
    """The settings of a claimed trial; of one that was begun before the same as then."""
    # A sampler for each trial, seeded by its number: else every process would begin with the same
    # choices.
    seed = np.random.RandomState([opened.config.tune.seed, claimed.index]).randint(2**31 - 1)
    opened.study.sampler = optuna.samplers.TPESampler(seed=int(seed))
    trial = optuna.Trial(opened.study, claimed.id)
    return trial, {p.name: _decoded(p, _suggest(trial, p)) for p in opened.space}


def decoded(opened: Study, trial: FrozenTrial) -> spaces.Point:
    """The settings of a trial; those that it does not have yet are left out."""
    known = trial.params or trial.system_attrs.get("fixed_params", {})
    return {p.name: _decoded(p, known[p.name]) for p in opened.space if p.name in known}


@contextlib.contextmanager
def alive(opened: Study, claimed: Claim) -> Iterator[None]:
    """Gives signs of life while a trial of a shared storage runs."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(ALIVE_SECONDS):
            # A server that is away for a moment, or a trial that has just ended: the trainer finds
            # out by itself.
            with contextlib.suppress(*UNREACHABLE, optuna.exceptions.UpdateFinishedTrialError):
                note(opened, claimed, alive=time.time())

    if opened.shared:
        threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def locked(folder: Path, name: str = STUDY_LOCK) -> Iterator[None]:
    """One process at a time."""
    with _lock(folder / name, wait=True):
        yield


@contextlib.contextmanager
def shared_lock(folder: Path, name: str) -> Iterator[None]:
    """A lock that any number of processes may hold, and that makes `lockable` false."""
    with _open_lock(folder / name) as opened:
        _system_lock(opened, shared=True, wait=True)
        yield


def lockable(folder: Path, name: str) -> bool:
    """Whether no other process holds a lock."""
    lock = _lock(folder / name, wait=False)
    if lock is not None:
        lock.close()
    return lock is not None


def _open_lock(file: Path) -> IO:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open(
            "a+"
        )  # a shared lock on NFS needs a file that can be read, the other one that can be written
    except OSError as error:
        raise runs.cannot_write(file, error) from None


def _lock(file: Path, wait: bool) -> IO | None:
    """A lock that ends with the file or process; None where another process has it."""
    opened = _open_lock(file)
    if _system_lock(opened, wait=wait):
        return opened
    opened.close()
    return None


def _system_lock(opened: IO, shared: bool = False, wait: bool = False) -> bool:
    """Raises KftError: the file system has no locks, so that processes could not share a study."""
    locked = runs.try_lock(opened, shared, wait)
    if locked is None:
        raise KftError(
            f"{Path(opened.name).parent}: its file system has no locks, which a study needs",
            "choose a folder on another disk with --run (on Lustre, mount it with -o flock)",
        )
    return locked


def _host(opened: Study) -> str:
    return f"{platform.node()}:{opened.folder.resolve()}"


def _mine_or_dead(opened: Study, trial: FrozenTrial) -> bool:
    if trial.user_attrs.get("host") == _host(opened):
        return True
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - trial.user_attrs.get("alive", started) > DEAD_SECONDS


def _pruner(config: Config) -> optuna.pruners.BasePruner:
    tune = config.tune
    chosen = tune.pruner or ("median" if tune.method == "tpe" else "none")
    if chosen == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=tune.prune_after_trials, n_warmup_steps=tune.prune_after_epochs
        )
    return optuna.pruners.SuccessiveHalvingPruner() if chosen == "halving" else optuna.pruners.NopPruner()


def _suggest(trial: optuna.Trial, parameter: Choice | spaces.Range) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(parameter.name, [_encoded(parameter, v) for v in parameter.values])
    step = None if parameter.log else parameter.step
    if parameter.whole:
        return trial.suggest_int(
            parameter.name, parameter.low, parameter.high, step=step or 1, log=parameter.log
        )
    return trial.suggest_float(parameter.name, parameter.low, parameter.high, step=step, log=parameter.log)


def _encoded(parameter: Choice | spaces.Range, value: Any) -> Any:
    """As Optuna keeps it: a choice may be a list or a table, which Optuna takes as text only."""
    return json.dumps(value) if isinstance(parameter, Choice) else value


def _decoded(parameter: Choice | spaces.Range, value: Any) -> Any:
    return json.loads(value) if isinstance(parameter, Choice) else value


def exists(folder: Path) -> bool:
    return os.path.isfile(folder / "study.toml")  # noqa: PTH113 (Path's raises for odd names)
