"""The files of a run by name; making, opening and ending a run."""

import hashlib
import json
import os
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kft.config import PATH_KEYS, Config, of_run
from kft.errors import KftError
from kft.runs.files import COPY_HINT, cannot_write, file_sha256, read_json, reason, write_json
from kft.runs.lock import LOCK, user_of

RUN_FORMAT = 2  # raised when an older kft could not read a new run
RUN_FORMATS = (1, RUN_FORMAT)  # those that are read, see `kft.runs.model`
RUN_HINT = "choose another folder with --run"
ENSEMBLE_CONFIG = "ensemble.toml"  # of a folder that holds several runs


@dataclass(frozen=True)
class RunDir:
    """The files of one run, by name."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def labels(self) -> Path:
        return self.path / "labels.json"

    @property
    def model(self) -> Path:
        """Architecture: what rebuilds the model without its preset."""
        return self.path / "model.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def vocabulary(self) -> Path:
        """Of a run of format 1, in place of `tokenizer`."""
        return self.path / "vocabulary.txt"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def weights(self) -> Path:
        return self.path / "model.weights.h5"

    @property
    def adapters(self) -> Path:
        """Low-rank adapters by themselves; the weights have them merged in."""
        return self.path / "adapters.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def details(self) -> Path:
        return self.path / "details.json"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def done(self) -> Path:
        return self.path / "DONE"

    def split(self, name: str) -> Path:
        """The rows of the validation or test split."""
        return self.path / "splits" / f"{name}.parquet"

    def predictions(self, name: str) -> Path:
        return self.path / f"predictions.{name}.parquet"


class Configured(Protocol):
    """A folder with settings."""

    @property
    def config(self) -> Path: ...


def create(path: str | Path) -> RunDir:
    """An empty run folder, created with its parents.

    A folder that failed before its first step (it has no checkpoint and no weights) is emptied and
    used again.

    Raises:
        KftError: the folder holds a run or other files, or cannot be written.
    """
    run = _run_dir(path)
    try:
        if run.path.exists():
            _check_unused(run, path)
            for entry in _entries(run):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        run.path.mkdir(parents=True, exist_ok=True)
        probe = run.path / ".writable"
        probe.write_text("can this be written?")  # not empty: on a full disk an empty file can still be made
        probe.unlink()
    except OSError as error:
        raise KftError(cannot_write(path, error).message, RUN_HINT) from None
    return run


def _entries(run: RunDir) -> list[Path]:
    """What stands in a run's folder, the lock of the process that trains it aside."""
    return [entry for entry in run.path.iterdir() if entry.name != LOCK]


def _check_unused(run: RunDir, path: str | Path) -> None:
    if not run.path.is_dir():
        raise KftError(f"{path}: is a file, not a folder", RUN_HINT)
    if run.done.exists():
        raise KftError(f"{path}: holds a finished run, which is never overwritten", RUN_HINT)
    if run.weights.exists() or checkpoint_files(run):
        raise KftError(f"{path}: holds an unfinished run", f"go on with it: kft train --resume {path}")
    if not run.config.exists() and _entries(run):
        raise KftError(f"{path}: is not empty and holds no run", RUN_HINT)


def open_run(path: str | Path, *, finished: bool = True) -> RunDir:
    """The run in a folder; with `finished`, one whose files are as its training left them.

    Raises:
        KftError: there is no such folder, it holds no run, only part of one or a changed one, or a
        newer kft wrote it.
    """
    run = _run_dir(path)
    try:
        if not run.path.exists():
            raise KftError(f"{path}: no such run folder", "`kft train` makes one and prints its name")
        if not run.path.is_dir():
            raise KftError(
                f"{path}: is a file, not a run folder", "`kft train` makes one and prints its name"
            )
        if not run.config.exists() and (run.path / ENSEMBLE_CONFIG).exists():
            raise KftError(
                f"{path}: holds several runs, over seeds or folds, and one is needed",
                "take one of the run folders in it; `kft evaluate`, `predict` and `compare` take them all together",
            )
        if not run.config.exists():
            raise KftError(
                f"{path}: holds no run (config.toml is missing)",
                "`kft train` makes one and prints its name; a copied run needs all its files",
            )
    except OSError as error:
        raise KftError(f"{path}: cannot be read: {reason(error)}", "check the folder's permissions") from None
    if run.model.exists():
        written = read_json(run.model, "format")["format"]
        if written not in RUN_FORMATS:
            raise KftError(
                f"{run.model}: run format {written!r}, this kft reads formats up to {RUN_FORMAT}",
                "use the kft that wrote the run",
            )
    if finished:
        if not run.done.exists():
            if user := user_of(run.path):
                raise KftError(f"{path}: is still in use by {user}", "wait until its training is over")
            raise KftError(f"{path}: training has not finished", f"go on with it: kft train --resume {path}")
        _check_whole(run, path)
    return run


def finish(run: RunDir) -> None:
    """Ends a run: DONE says that it is whole, and what its files must be."""
    files = {file.relative_to(run.path).as_posix(): file for file in _sealed_files(run) if file.exists()}
    write_json(
        run.done, {"format": RUN_FORMAT, "sha256": {name: _sha256(file) for name, file in files.items()}}
    )


def had_split(run: RunDir, name: str) -> bool:
    """Whether training wrote the rows of a split, which a copy may lack."""
    file = run.split(name)
    return file.exists() or file.relative_to(run.path).as_posix() in _sealed(run)


def _sealed(run: RunDir) -> dict[str, str]:
    sealed = read_json(run.done, "sha256")["sha256"]
    if not isinstance(sealed, dict):
        raise KftError(f"{run.done}: is damaged: `sha256` must be an object", COPY_HINT)
    return sealed


def _check_whole(run: RunDir, path: str | Path) -> None:
    """Raises KftError: a file is not as training left it, or a necessary one is missing."""
    sealed = _sealed(run)
    needed = (run.config, run.model, run.labels, _tokenizer_file(run), run.weights)
    missing = [file.name for file in needed if not file.exists()]
    changed = [
        name
        for name, sha256 in sealed.items()
        if (run.path / name).exists() and _sha256(run.path / name) != sha256
    ]
    problems = [f"missing {', '.join(missing)}"] if missing else []
    problems += [f"damaged or changed since training {', '.join(changed)}"] if changed else []
    if problems:
        raise KftError(f"{path}: the run is not whole: {'; '.join(problems)}", COPY_HINT)


def _tokenizer_file(run: RunDir) -> Path:
    """Where the tokenizer stands: tokenizer.json, of format 1 vocabulary.txt."""
    old = run.vocabulary.exists() and not run.tokenizer.exists()
    return run.vocabulary if old else run.tokenizer


def _sealed_files(run: RunDir) -> list[Path]:
    """The files that later commands read."""
    tables = [run.split(name) for name in ("validation", "test")]
    tables += [run.predictions(name) for name in ("validation", "test")]
    return [
        run.config, run.data, run.labels, run.model, _tokenizer_file(run), run.weights, run.adapters, run.metrics,
        run.details, *tables
    ]  # fmt: skip


def settings_sha256(run: RunDir) -> str:
    """Of the settings in config.toml, less those that may change: paths of data, the backend."""
    return _sha256(run.config)


def _sha256(file: Path) -> str:
    """Of the bytes; of config.toml see `settings_sha256`."""
    try:
        if file.suffix == ".toml":
            settings = tomllib.loads(file.read_text("utf-8"))
            settings.pop("backend", None)
            for key in ("source", *PATH_KEYS) if isinstance(settings.get("data"), dict) else ():
                settings["data"].pop(key, None)
            return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
        return file_sha256(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return ""
    except OSError as error:
        raise KftError(f"{file}: cannot be read: {reason(error)}", "check the file's permissions") from None


def checkpoint_files(run: RunDir) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(run.checkpoints.glob("step-*.safetensors"))


def read_config(run: Configured) -> Config:
    """The settings of a run, or those that the runs of an ensemble share.

    Raises:
        KftError: config.toml is missing, damaged or changed to what is no config.
    """
    try:
        return of_run(run.config)
    except KftError as error:
        raise KftError(error.message, f"put {run.config.name} back as it was: {COPY_HINT}") from None


def read_labels(run: RunDir) -> list[str]:
    """The label names of a run in id order; none for scores.

    Raises:
        KftError: labels.json is missing or damaged.
    """
    labels = read_json(run.labels, "labels")["labels"]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise KftError(f"{run.labels}: is damaged: `labels` must be a list of strings", COPY_HINT)
    if len(set(labels)) < len(labels):
        raise KftError(f"{run.labels}: is damaged: `labels` names one label twice", COPY_HINT)
    return labels


def _run_dir(path: str | Path) -> RunDir:
    # os.path and not Path, whose expanduser and resolve raise for odd names: they are reported when
    # they are used.
    return RunDir(Path(os.path.realpath(os.path.expanduser(path))))  # noqa: PTH111
