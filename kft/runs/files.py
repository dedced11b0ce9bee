"""Writes files whole or not at all, reads JSON, and explains what the disk refuses."""

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kft.errors import KftError

COPY_HINT = "copy the whole run folder again, or train again"
ASIDE = re.compile(r"\.[0-9a-f]{8}\..+", re.DOTALL)  # names that `aside_of` gives
FULL = "no space left on the disk"
FULL_WORDS = ("no space left", "quota exceeded", "errno = 28", "os error 28", "disk is full")  # of libraries
# Line ends to some readers of JSONL, as they are in Python's `splitlines`; JSON escapes the others
# by itself.
LINE_BREAKS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with a path beside `path`, then renames it: `path` is whole or absent.

    The temporary name keeps the suffix of `path`, since several libraries choose the format by it.

    Raises:
        KftError: the disk is full or the folder cannot be written.
    """
    if (
        path.exists() and not path.is_file() and not path.is_dir()
    ):  # a device or a pipe: nothing to rename over
        write(path)
        return
    path = Path(os.path.realpath(path))  # through a link, not over it
    aside = aside_of(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except Exception as error:
        if not _is_write_failure(error, path.parent):
            raise
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def write_by_library(path: Path, write: Callable[[Path], None], size: int) -> None:
    """`write_whole` for what a C library writes that crashes on a full disk, as HDF5 does.

    The room for `size` bytes, which must be enough, is claimed by Python and handed over to the
    library.
    """

    def with_room(aside: Path) -> None:
        with aside.open("wb") as file:
            _take_room(file.fileno(), size)
        write(aside)

    write_whole(path, with_room)


def _take_room(file: int, size: int) -> None:
    """Raises OSError: the disk, or the user's share of it, has no room for so many bytes."""
    try:
        os.posix_fallocate(file, 0, size)
    except (OSError, AttributeError) as error:  # not every file system and system can
        if is_full(error):
            raise
        status = os.fstatvfs(file)
        if status.f_bavail * status.f_frsize < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raises KftError: the disk of `path` became full, whoever found out."""
    try:
        yield
    except Exception as error:
        if isinstance(error, KftError) or not is_full(error):
            raise
        raise cannot_write(getattr(error, "filename", None) or path, error) from error


def aside_of(path: Path) -> Path:
    """A new name beside `path`, hidden and with its suffix, which `sweep` knows."""
    return path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")


def is_aside(path: Path) -> bool:
    """Whether a name is one that `aside_of` gives."""
    return ASIDE.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Removes what killed processes left in a folder that nobody else may write in now."""
    for entry in sorted(folder.rglob(".*")) if folder.is_dir() else ():
        if is_aside(entry):
            with contextlib.suppress(OSError):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def check_output(output: str | Path, *read: str | Path) -> None:
    """Raises KftError: a file to write would replace one that is read for it, or a run's."""
    hint = "choose another file with --output"
    whole = Path(os.path.realpath(output))
    for name in read if os.path.exists(output) else ():  # noqa: PTH110
        for file in glob.glob(str(name), recursive=True) or [name]:  # noqa: PTH207 (takes absolute patterns)
            same = os.path.exists(file) and os.path.samefile(output, file)  # noqa: PTH110, PTH121
            inside = os.path.isdir(file) and Path(os.path.realpath(file)) in whole.parents  # noqa: PTH112
            if same or inside:
                raise KftError(f"{output}: is read, and would be lost", hint)
    for folder in whole.parents if os.path.lexists(output) else ():
        if (folder / "config.toml").is_file() and (folder / "model.json").is_file():
            raise KftError(f"{output}: is a file of the run {folder}, and would be lost", hint)


def append_line(path: Path, line: str) -> None:
    """Adds one line to a file.

    Raises:
        KftError: the disk is full or the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path | str, error: Exception) -> KftError:
    """The error of a file that cannot be written."""
    if is_full(error):
        return KftError(f"{path}: cannot be written: {FULL}", "free some space, or choose another folder")
    return KftError(
        f"{path}: cannot be written: {reason(error)}", "choose another folder, or check its permissions"
    )


def _is_write_failure(error: Exception, folder: Path) -> bool:
    """Whether an exception is of the disk; libraries wrap the system's, or lose its number."""
    if isinstance(error, KftError):
        return False
    if isinstance(error, OSError) or is_full(error):
        return True
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < 2**16
    return False


def is_full(error: BaseException) -> bool:
    """Whether an exception says that the disk, or the user's share of it, is full."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    words = str(error).lower()
    return any(phrase in words for phrase in FULL_WORDS)


def write_text(path: Path, text: str) -> None:
    write_whole(path, lambda aside: aside.write_text(text, "utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Strict JSON: a number that is not finite becomes null."""
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def json_line(value: Any) -> str:
    """One line of JSONL, its end included."""
    return json.dumps(value, ensure_ascii=False).translate(LINE_BREAKS) + "\n"


def read_json(path: Path, *fields: str) -> Any:
    """The value in a JSON file; with `fields`, an object that has them.

    Raises:
        KftError: the file is missing, not JSON, or lacks a field.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise KftError(f"{path}: is missing", COPY_HINT) from None
    except (ValueError, RecursionError) as error:  # bytes that are not UTF-8 are a ValueError too
        raise KftError(f"{path}: is damaged: {error}", COPY_HINT) from None
    except OSError as error:
        raise KftError(f"{path}: cannot be read: {reason(error)}", "check the file's permissions") from None
    if fields and not isinstance(value, dict):
        raise KftError(f"{path}: is damaged: must be a JSON object", COPY_HINT)
    lacking = [field for field in fields if field not in value]
    if lacking:
        raise KftError(f"{path}: is damaged: lacks {', '.join(lacking)}", COPY_HINT)
    return value


def file_sha256(file: Path) -> str:
    """Of the bytes, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def finite(value: Any) -> Any:
    """`value` with every float that is not finite replaced by None, at any depth."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def reason(error: BaseException) -> str:
    """What the system says, in a few words."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a folder in its path is a file"
    return getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[0]
