"""The folder of an ensemble, runs of one command over seeds and folds: files and plan."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kft.errors import KftError
from kft.runs.files import COPY_HINT, read_json, write_json
from kft.runs.folder import ENSEMBLE_CONFIG, RUN_HINT, RunDir
from kft.runs.lock import LOCK

PLAN_FORMAT = 1


@dataclass(frozen=True)
class EnsembleDir:
    """The files of an ensemble, by name; each of its runs is a folder in it."""

    path: Path

    @property
    def config(self) -> Path:
        """The settings that the runs share. Not config.toml, which makes a folder a run."""
        return self.path / ENSEMBLE_CONFIG

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def results(self) -> Path:
        return self.path / "ensemble.json"

    @property
    def page(self) -> Path:
        return self.path / "ensemble.html"

    @property
    def out_of_fold(self) -> Path:
        return self.path / "predictions.out-of-fold.parquet"

    @property
    def lock(self) -> Path:
        return self.path / LOCK


@dataclass(frozen=True)
class Variation:
    """What an ensemble varies: seeds (none for the config's own), and the folds, or None."""

    seeds: tuple[int, ...]
    folds: int | None


@dataclass(frozen=True)
class Member:
    """One run of an ensemble; None for what the ensemble does not vary. Folds count from 1."""

    run: RunDir
    seed: int | None
    fold: int | None


def is_ensemble(path: str | Path) -> bool:
    """Whether a folder holds an ensemble."""
    return os.path.isfile(_ensemble_dir(path).config)  # noqa: PTH113 (Path's raises for odd names)


def open_ensemble(path: str | Path) -> EnsembleDir:
    """The ensemble in a folder.

    Raises:
        KftError: the folder holds none.
    """
    if not is_ensemble(path):
        raise KftError(
            f"{path}: holds no ensemble (ensemble.toml is missing)",
            "`kft train --seeds 1,2,3` makes one; a copied one needs all its files",
        )
    return _ensemble_dir(path)


def new_ensemble(path: str | Path) -> EnsembleDir:
    """The ensemble that a folder holds or is to hold.

    Raises:
        KftError: the folder holds something else.
    """
    folder = _ensemble_dir(path)
    if folder.path.exists() and not is_ensemble(path):
        if not folder.path.is_dir():
            raise KftError(f"{path}: is a file, not a folder", RUN_HINT)
        if any(entry not in (folder.plan, folder.lock) for entry in folder.path.iterdir()):
            raise KftError(f"{path}: is not empty and holds no runs over seeds or folds", RUN_HINT)
    return folder


def write_plan(folder: EnsembleDir, plan: Variation) -> None:
    write_json(folder.plan, {"format": PLAN_FORMAT, "seeds": list(plan.seeds), "folds": plan.folds})


def read_plan(folder: EnsembleDir) -> Variation:
    """Raises KftError: plan.json is missing, damaged or of a newer kft."""
    content = read_json(folder.plan, "format", "seeds", "folds")
    if content["format"] != PLAN_FORMAT:
        raise KftError(
            f"{folder.plan}: format {content['format']!r}, this kft reads format {PLAN_FORMAT}",
            "use the kft that wrote it",
        )
    seeds, folds = content["seeds"], content["folds"]
    if not isinstance(seeds, list) or not all(isinstance(n, int) for n in [*seeds, folds or 1]):
        raise KftError(f"{folder.plan}: is damaged", COPY_HINT)
    return Variation(tuple(seeds), folds)


def members(folder: EnsembleDir) -> list[Member]:
    """The runs of an ensemble, finished or not: seed by seed, and of each all folds."""
    plan = read_plan(folder)
    folds = range(1, plan.folds + 1) if plan.folds else [None]
    return [
        Member(RunDir(folder.path / _name(seed, fold)), seed, fold)
        for seed in plan.seeds or [None]
        for fold in folds
    ]


def finished_members(folder: EnsembleDir) -> list[Member]:
    """All runs of an ensemble.

    Raises:
        KftError: one is not finished.
    """
    all_members = members(folder)
    left = [member.run.path.name for member in all_members if not member.run.done.exists()]
    if left:
        raise KftError(
            f"{folder.path}: {len(left)} of {len(all_members)} runs are not finished: {', '.join(left)}",
            f"go on with them: kft train --resume {folder.path}",
        )
    return all_members


def share_rows(runs: Sequence[RunDir], split: str) -> bool:
    """Whether runs were all made with a split, and with the same rows in it."""
    parts = [read_json(run.data, "splits")["splits"].get(split, {}) for run in runs]
    return all(part.get("examples") for part in parts) and len({part["sha256"] for part in parts}) == 1


def _name(seed: int | None, fold: int | None) -> str:
    return "-".join(f"{what}-{n}" for what, n in (("seed", seed), ("fold", fold)) if n is not None)


def _ensemble_dir(path: str | Path) -> EnsembleDir:
    return EnsembleDir(Path(os.path.realpath(os.path.expanduser(path))))  # noqa: PTH111 (as for runs)
