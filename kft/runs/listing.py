"""The runs below a folder: what each is, how far it is, what it scored, and what of it could go."""

import contextlib
import os
import shutil
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kft.errors import KftError
from kft.runs.files import read_json, reason
from kft.runs.folder import RunDir
from kft.runs.lock import only_writer, user_of

DEEPEST = 5  # folders below the one that is asked for


def list_runs(folder: str | Path) -> list[dict[str, Any]]:
    """The runs in a folder and its sub-folders, the oldest first.

    Returns:
        [{"run": path, "data": name, "task", "state": "finished", "unfinished" or "in use",
        "started": local time, "split": of the scores or None, "metrics": {metric: score}, "bytes":
        of all files, "spare_bytes": of checkpoints that a finished run does not need}].

    Raises:
        KftError: there is no such folder.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise KftError(f"{folder}: no such folder", "`kft train` makes runs in the folder runs")
    return sorted((_describe(run) for run in _find(root)), key=lambda row: (row["started"], row["run"]))


def clean(rows: list[dict[str, Any]]) -> int:
    """Removes the checkpoints of the finished runs in `list_runs`' rows; returns the bytes freed.

    Raises:
        KftError: a folder cannot be removed, or somebody has begun to write in a run.
    """
    freed = 0
    for row in rows:
        if row["state"] != "finished" or not row["spare_bytes"]:
            continue
        run = RunDir(Path(row["run"]))
        with only_writer(run.path, "leave it out"):
            try:
                shutil.rmtree(run.checkpoints)
            except OSError as error:
                raise KftError(
                    f"{run.checkpoints}: cannot be removed: {reason(error)}", "check its permissions"
                ) from None
        freed += row["spare_bytes"]
    return freed


def _find(root: Path) -> Iterator[RunDir]:
    for place, folders, files in os.walk(root):
        inside = len(Path(place).relative_to(root).parts)
        # A study or suite has a config too; a run has an environment.
        if {"config.toml", "environment.json"} <= set(files):
            folders.clear()
            yield RunDir(Path(place))
        elif inside >= DEEPEST:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _describe(run: RunDir) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):  # a config that was spoilt by hand
        settings = tomllib.loads(run.config.read_text("utf-8"))
    done = run.done.exists()
    state = "in use" if user_of(run.path) else "finished" if done else "unfinished"
    split, scores = _scores(run) if done else (None, {})
    return {
        "run": str(run.path),
        "data": _data(settings.get("data", {})),
        "task": settings.get("task"),
        "state": state,
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.environment.stat().st_mtime)),
        "split": split,
        "metrics": scores,
        "bytes": _size(run.path),
        "spare_bytes": _size(run.checkpoints) if state == "finished" else 0,
    }


def _data(settings: dict[str, Any]) -> str | None:
    train = settings.get("train")
    first = train[0] if isinstance(train, list) and train else train
    if settings.get("source") or not isinstance(first, str):
        return settings.get("source")
    path = Path(first)
    return f"{path.parent.name}/{path.name}" if path.stem == "train" else path.name


def _scores(run: RunDir) -> tuple[str | None, dict[str, float | None]]:
    with contextlib.suppress(KftError):
        scores = read_json(run.metrics)
        split = next((name for name in ("test", "validation") if scores.get(name)), None)
        return split, scores.get(split, {})
    return None, {}


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; those that go meanwhile count nothing."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118
    return total
