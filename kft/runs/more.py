"""More epochs for a finished run: the settings of a new run that goes on from its weights."""

from collections.abc import Sequence
from pathlib import Path

from kft import config as configs
from kft.config import Config
from kft.errors import KftError
from kft.progress import note
from kft.runs.folder import open_run, read_config


def more_epochs(path: str | Path, overrides: Sequence[str]) -> Config:
    """The config of a new run that trains a finished one for further epochs.

    It starts from the weights of the best epoch, with a new optimizer and its own schedule, since a
    finished run keeps no optimizer; `model.from_run` in its settings and its model.json name the
    old run, which stays as it is.

    Args:
        path: the finished run.
        overrides: of --set: `train.epochs`, of both runs together, and other settings of `train`.

    Raises:
        KftError: the run is not finished, the epochs are not more, or other settings than those of
        `train` are changed.
    """
    run = open_run(path)
    before = read_config(run)
    now = configs.load(run.config, list(overrides))
    others = [name for name in configs.differences(before, now) if not name.startswith("train.")]
    if others:
        raise KftError(
            f"{path}: more epochs of a run are of the same data and model, and {', '.join(others)} differs",
            f"a new run may start from its weights: kft train CONFIG --set model.from_run={path}",
        )
    more = now.train.epochs - before.train.epochs
    if more < 1:
        raise KftError(
            f"{path}: `train.epochs` is {now.train.epochs}, and the run has had {before.train.epochs}",
            f"give more, such as --set train.epochs={before.train.epochs + 2}",
        )
    note(
        f"{path}: had {before.train.epochs} epochs; a new run trains its weights for {more} more, with a new optimizer"
    )
    return configs.change(
        now,
        {
            "train.epochs": more,
            "train.unfreeze_every_epochs": None,  # its layers have been thawed
            "model.from_run": str(run.path),
            "model.reinit_layers": 0,
        },
    )
