"""The history of a run and the checkpoints that it resumes from."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kft import backend, batches, models, runs
from kft.errors import KftError
from kft.progress import note
from kft.runs import RunDir

backend.select()

import keras  # noqa: E402

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        epoch: epochs finished.
        step: steps done in this one.
        best: best score so far.
        best_epoch: the epoch that it had, from 1.
        logged_step: the step of this epoch that the last line of the history is about.
        logged_loss: mean loss of the epoch up to it, from which the next line goes on.
    """

    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    logged_step: int = 0
    logged_loss: float = 0.0


def append_history(run: RunDir, line: dict[str, Any]) -> None:
    runs.append_line(run.history, json.dumps(runs.finite(line), allow_nan=False))


def cut_history(run: RunDir, steps: int) -> None:
    """Drops the lines after a step: the resumed run writes them again."""
    if not run.history.exists():
        return
    kept = []
    for text in run.history.read_text("utf-8", "replace").splitlines(keepends=True):
        try:
            if json.loads(text)["step"] <= steps:
                kept.append(text)
        except (json.JSONDecodeError, KeyError, TypeError):  # the line that a kill cut short
            break
    runs.write_text(run.history, "".join(kept))


def save_checkpoint(model: models.Classifier, run: RunDir, position: Position, plan: batches.Plan) -> None:
    """Writes the state of training to `checkpoints/step-N.safetensors`; keeps the last two."""
    arrays = {name: np.asarray(keras.ops.convert_to_numpy(v.value)) for name, v in _state(model).items()}
    metadata = {"position": json.dumps(asdict(position)), "settings": runs.settings_sha256(run)}
    step = plan.steps * position.epoch + position.step
    file = run.checkpoints / f"step-{step:09}.safetensors"
    runs.write_whole(file, lambda path: save_file(arrays, path, metadata=metadata))
    for old in runs.checkpoint_files(run)[:-KEPT_CHECKPOINTS]:
        old.unlink()


def best_weights(run: RunDir) -> Path:
    """The weights of the best epoch so far."""
    return run.checkpoints / "best.weights.h5"


def best_adapters(run: RunDir) -> Path:
    """The adapters in them, by themselves."""
    return run.checkpoints / "best.adapters.safetensors"


def drop_checkpoints(run: RunDir) -> None:
    """Removes what only a run that goes on needs."""
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def restore(model: models.Classifier, run: RunDir) -> tuple[Position, list[np.ndarray] | None]:
    """Puts the last whole checkpoint back; returns its position and Keras's metric values."""
    for file in reversed(runs.checkpoint_files(run)):
        try:
            with safe_open(file, "numpy") as stored:
                metadata = stored.metadata()
                position = Position(**json.loads(metadata["position"]))
                arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            note(f"{file}: is damaged, going back to the one before")
            continue
        if metadata.get("settings") != runs.settings_sha256(run):
            raise KftError(
                f"{run.config}: was changed since the run began", "put it back as it was, or train a new run"
            )
        state, arrays = _state(model), _with_mean_loss(arrays)
        if {n: a.shape for n, a in arrays.items()} != {n: tuple(v.shape) for n, v in state.items()}:
            if model.adapters:
                raise KftError(
                    f"{file}: is of an older kft, whose low-rank adapters had another form",
                    "train a new run instead",
                )
            raise KftError(
                f"{file}: is of another model or optimizer", "was config.toml edited? train a new run instead"
            )
        for name, variable in state.items():
            variable.assign(arrays[name])
        losses = [arrays[name] for name in state if name.startswith("metrics/")]
        return position, losses if position.step else None
    return Position(), None


def _with_mean_loss(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint of before losses were weighed by step, with today's metric."""
    if "metrics/0002" in arrays:
        return arrays
    return arrays | {f"metrics/{i + 2:04}": arrays[f"metrics/{i:04}"] for i in range(2)}


def _state(model: models.Classifier) -> dict[str, Any]:
    """Every variable that training changes, numbered: Keras's names depend on the process."""
    parts = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{part}/{i:04}": variable
        for part, variables in parts.items()
        for i, variable in enumerate(variables)
    }
