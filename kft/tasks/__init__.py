"""What is predicted: one file for each task, and the one table of them."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kft.tasks.record import Task


class Tasks(Mapping):
    """Name → `Task`, which stands in the file of that name.

    A file is loaded when its task is first asked for: `kft --help` and mistakes of settings wait for no polars and no
    scikit-learn.
    """

    def __init__(self, *names: str):
        self._names = names

    def __getitem__(self, name: str) -> "Task":
        if name not in self._names:
            raise KeyError(name)
        return import_module(f"{__name__}.{name}").TASK

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


TASKS = Tasks(
    "classification",
    "regression",
    "choice",
)
DEFAULT = next(iter(TASKS))
