"""Knows the name of every file of a run, and writes each whole or not at all."""

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kft.errors import KftError

FORMAT = 1  # raised when an older kft could not read a new run


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
    def vocabulary(self) -> Path:
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


def create(path: str | Path) -> RunDir:
    """An empty run folder, made with its parents.

    A folder that failed before its first step (it has no checkpoint and no weights) is emptied and used again.

    Raises:
        KftError: the folder holds a run or other files, or cannot be written.
    """
    run = RunDir(Path(path).expanduser().resolve())
    if run.path.exists():
        if not run.path.is_dir():
            raise KftError(f"{path}: is a file, not a folder", "choose another folder with --run")
        entries = {p.name for p in run.path.iterdir()}
        if run.done.exists():
            raise KftError(
                f"{path}: holds a finished run, which is never overwritten",
                "choose another folder with --run",
            )
        if run.weights.exists() or checkpoint_files(run):
            raise KftError(f"{path}: holds an unfinished run", f"go on with it: kft train --resume {path}")
        if entries and not run.config.exists():
            raise KftError(f"{path}: is not empty and holds no run", "choose another folder with --run")
    try:
        if run.path.exists():
            for entry in run.path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        run.path.mkdir(parents=True, exist_ok=True)
        write_text(run.path / ".writable", "")
        (run.path / ".writable").unlink()
    except OSError as error:
        raise KftError(
            f"{path}: cannot be written: {error.strerror}", "choose another folder with --run"
        ) from None
    return run


def open_run(path: str | Path, *, finished: bool = True) -> RunDir:
    """The run in a folder; with `finished`, one whose training is over.

    Raises:
        KftError: there is no such folder, it holds no run or only part of one, or a newer kft wrote it.
    """
    run = RunDir(Path(path).expanduser().resolve())
    if not run.path.is_dir():
        raise KftError(f"{path}: no such run folder", "`kft train` makes one and prints its name")
    if not run.config.exists():
        raise KftError(
            f"{path}: holds no run (config.toml is missing)", "`kft train` makes one and prints its name"
        )
    if run.model.exists():
        written = read_json(run.model).get("format")
        if written != FORMAT:
            raise KftError(
                f"{run.model}: run format {written!r}, this kft reads format {FORMAT}",
                "use the kft that wrote the run",
            )
    if finished:
        needed = (run.model, run.vocabulary, run.labels, run.weights, run.done)
        missing = [file.name for file in needed if not file.exists()]
        if missing == ["DONE"] or (missing and checkpoint_files(run)):
            raise KftError(f"{path}: training has not finished", f"go on with it: kft train --resume {path}")
        if missing:
            raise KftError(
                f"{path}: the run is not whole, missing {', '.join(missing)}",
                "copy the whole folder, or train again",
            )
    return run


def checkpoint_files(run: RunDir) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(run.checkpoints.glob("step-*.safetensors"))


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with a temporary path beside `path`, then renames it: `path` is whole or absent.

    The temporary name keeps the suffix of `path`, since several libraries choose the format by it.

    Raises:
        KftError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        write(aside)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise KftError(
            f"{path}: cannot be written: {reason}", "free some space, or choose another folder"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_whole(path, lambda aside: aside.write_text(text, "utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Strict JSON: a number that is not finite becomes null."""
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Raises KftError: the file is missing or not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise KftError(f"{path}: is missing", "copy the whole run folder, or train again") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise KftError(f"{path}: is damaged: {error}", "copy the run folder again, or train again") from None


def finite(value: Any) -> Any:
    """`value` with every float that is not finite replaced by None, at any depth."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
