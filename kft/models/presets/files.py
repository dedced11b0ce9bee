"""Single files of a preset, each checked as it is read; every error names the preset."""

import json
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes  # noqa: F401  teaches numpy, and so safetensors, bfloat16
import safetensors

from kft.errors import KftError
from kft.models.families.settings import ANOTHER_HINT, WHOLE_HINT, damaged

__all__ = [
    "ANOTHER_HINT",
    "WHOLE_HINT",
    "check_readable",
    "damaged",
    "open_h5",
    "open_safetensors",
    "read_json",
    "read_json_or_empty",
]


def read_json(name: str, path: Path, hint: str = WHOLE_HINT) -> dict[str, Any]:
    """The object in a JSON file."""
    check_readable(name, path, hint)
    try:
        content = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(name, f"{path.name} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise damaged(name, f"{path.name} is damaged: it must hold a JSON object")
    return content


def read_json_or_empty(name: str, path: Path) -> dict[str, Any]:
    """The object in a JSON file, an empty one where there is no file."""
    return read_json(name, path) if path.exists() else {}


def open_h5(name: str, path: Path) -> h5py.File:
    check_readable(name, path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise damaged(name, f"{path.name} is damaged: {error}") from None


def open_safetensors(name: str, path: Path) -> safetensors.safe_open:
    check_readable(name, path)
    try:
        return safetensors.safe_open(path, "np")
    except (safetensors.SafetensorError, OSError) as error:
        raise damaged(name, f"{path.name} is damaged: {error}") from None


def check_readable(name: str, path: Path, hint: str = WHOLE_HINT) -> None:
    """Raises KftError: the file is missing, cannot be read, or is only a pointer to the file."""
    try:
        with path.open("rb") as opened:
            start = opened.read(100)
    except FileNotFoundError:
        raise KftError(f"{name}: {path.name} is missing", hint) from None
    except OSError as error:
        raise KftError(f"{name}: {path.name} cannot be read: {error.strerror}", hint) from None
    if start.startswith(b"version https://git-lfs"):
        raise KftError(f"{name}: {path.name} is a Git LFS pointer, not the file itself", "git lfs pull")
