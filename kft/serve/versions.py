"""Which version of a model is served: the newest that loads, looked for again and again."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kft.errors import KftError
from kft.serve.model import Model, load
from kft.serve.refusal import Refused

LOG = logging.getLogger("kft.serve")


@dataclass(frozen=True)
class State:
    """A version's state and error as TensorFlow Serving names them."""

    state: str
    error_code: str = "OK"
    error_message: str = ""


class Versions:
    """The versions of one model; `refresh` looks for a newer one, in one thread at a time.

    Whoever holds a Model may go on calling it: a version that was swapped out lives until its last
    call is done.
    """

    def __init__(self, folder: Path, name: str, load: Callable[[Path], Model] = load):
        self.name = name
        self.current: Model | None = None
        self._folder = folder
        self._load = load
        self._states: dict[int, State] = {}
        self._broken: dict[int, tuple] = {}

    def refresh(self) -> None:
        """Serves the newest version that loads.

        One that does not is logged, and tried again when its files change.
        """
        for version in sorted(on_disk(self._folder), reverse=True):
            if self.current and version == self.current.version:
                return
            path = self._folder / str(version)
            files = _fingerprint(path)
            if self._broken.get(version) == files:
                continue
            self._states[version] = State("LOADING")
            try:
                model = self._load(path)
            except Exception as error:
                self._broken[version] = files
                self._states[version] = State("END", "UNKNOWN", _one_line(error))
                LOG.error("%s version %d does not load: %s", self.name, version, _one_line(error))
                continue
            self._swap(model)
            return

    def get(self, version: int | None) -> Model:
        """The model of a version, or the one served.

        Raises:
            Refused: 404, the version is not served; 503, none is.
        """
        current = self.current
        if current is None:
            raise Refused(503, "no version is loaded", {"Retry-After": "1"})
        if version is not None and version != current.version:
            raise Refused(404, f"Servable not found for request: Specific({self.name}, {version})")
        return current

    def status(self, version: int | None) -> dict[str, Any]:
        """What `GET /v1/models/NAME` answers.

        Raises:
            Refused: 404, there is no such version.
        """
        states = dict(self._states)
        if version is not None and version not in states:
            raise Refused(404, f"Could not find version {version} of model {self.name}")
        return {
            "model_version_status": [
                {
                    "version": str(number),
                    "state": state.state,
                    "status": {"error_code": state.error_code, "error_message": state.error_message},
                }
                for number, state in sorted(states.items(), reverse=True)
                if version in (None, number)
            ]
        }

    def _swap(self, model: Model) -> None:
        old, self.current = self.current, model
        self._states[model.version] = State("AVAILABLE")
        if old:
            self._states[old.version] = State("END")
        LOG.info("%s version %d is served", self.name, model.version)


def on_disk(folder: Path) -> list[int]:
    """The versions that a folder holds."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    return [int(e.name) for e in entries if _is_number(e.name) and (e / "saved_model.pb").is_file()]


def check(folder: Path) -> None:
    """Raises KftError: the folder holds no version of a SavedModel."""
    if not folder.is_dir():
        raise KftError(
            f"{folder}: no such folder", "kft export RUN --to savedmodel --output FOLDER makes one"
        )
    if (folder / "saved_model.pb").is_file():
        raise KftError(
            f"{folder}: is one version of a model", f"serve the folder above it: {folder.resolve().parent}"
        )
    if not on_disk(folder):
        raise KftError(
            f"{folder}: holds no version of a SavedModel (a folder such as 1/ with saved_model.pb)",
            "kft export RUN --to savedmodel --output FOLDER makes one",
        )


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and str(int(name)) == name


def _fingerprint(path: Path) -> tuple:
    """Changes when a file of the folder does: a broken version may be in the making."""
    try:
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    except OSError:
        return ()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
