"""Searches settings: a grid, random ones, or ones that Optuna guides; any number of processes share a study.

`space` and `storage` need no Keras; `working` trains.
"""

import importlib.util

from kft.errors import KftError

__all__ = ["need"]


def need(package: str, extra: str) -> None:
    """Raises KftError: a package that an extra brings is not installed."""
    if importlib.util.find_spec(package) is None:
        raise KftError(f"this needs the package {package}", f"pip install 'kft[{extra}]'")
