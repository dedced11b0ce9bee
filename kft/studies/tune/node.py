"""What runs on a node of a Ray cluster: a worker, and the scoring of a winner on its node."""

import glob
import os
import platform
import sys
import threading
from pathlib import Path
from types import ModuleType

import ray

import kft
from kft import backend
from kft import config as configs
from kft.config import Config
from kft.errors import KftError
from kft.studies.tune import storage
from kft.studies.tune.storage import Study

SHARED_LOCK = "ray.lock"  # the command holds it: a node that could take it does not share the study's folder


@ray.remote(max_concurrency=2)  # `end` is called while `work` runs
class Worker:
    """A process of the cluster that trains trials of a study."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def work(self, config: Config, folder: Path, url: str | None, version: str) -> None:
        """Trains trials until none is left to claim."""
        opened = _open(config, folder, url, version)
        if not self._stop.is_set() and storage.claimable(opened):
            _working(config).work(opened, self._stop, wait=False)

    def end(self) -> None:
        """Lets `work` save its trial and return."""
        self._stop.set()


@ray.remote
def finish(config: Config, folder: Path, url: str | None, version: str) -> None:
    """Scores the winner on test where its run is; the command reads them from the storage."""
    _working(config).finish(_open(config, folder, url, version))


def _open(config: Config, folder: Path, url: str | None, version: str) -> Study:
    """The study as this node sees it.

    Raises:
        KftError: the node has another kft, lacks the data or the model, or does not share the
        study's folder where it must.
    """
    os.dup2(2, 1)  # Ray hands a worker's standard output to the command's, which is for results
    sys.stdout = sys.stderr
    node = platform.node()
    if version != kft.__version__:
        raise KftError(
            f"{node}: has kft {kft.__version__}, the command has {version}",
            "install the same version on every node",
        )
    settings = [getattr(config.data, key) for key in configs.PATH_KEYS]
    paths = [
        path for setting in settings for path in ([setting] if isinstance(setting, str) else setting or [])
    ]
    paths = [path for path in paths if not glob.has_magic(path)]
    paths += [path for path in (config.model.preset, config.model.from_run) if path and path.startswith("/")]
    for path in paths:
        if path and not os.path.exists(path):  # noqa: PTH110 (Path's raises for odd names)
            raise KftError(
                f"{node}: {path}: no such file or folder",
                "every node of the cluster needs the data and the model at the same path",
            )
    if url is not None:
        return storage.begin(config, folder, url)
    if not storage.exists(folder) or storage.lockable(folder, SHARED_LOCK):
        raise KftError(
            f"{node}: does not share the study's folder {folder} with the command, or its locks do not hold between "
            "machines",
            "put the study on a file system that all nodes share (--run), or its trials into a server's database "
            "(--storage postgresql://user@host/database)",
        )
    return storage.open_study(folder, None)


def _working(config: Config) -> ModuleType:
    backend.select(config.backend)
    from kft.studies.tune import working  # only now: the backend is chosen before Keras is imported

    return working
