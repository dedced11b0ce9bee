"""Knows the name and the fields of every file of a run, and writes each whole or not at all."""

from kft.rundir.fields import FIELDS
from kft.rundir.files import (
    COPY_HINT,
    append_line,
    cannot_write,
    file_sha256,
    finite,
    read_json,
    reason,
    write_json,
    write_text,
    write_whole,
)
from kft.rundir.folder import (
    FORMAT,
    RunDir,
    checkpoint_files,
    create,
    finish,
    had_split,
    open_run,
    read_config,
    read_labels,
    settings_sha256,
)

__all__ = [
    "COPY_HINT",
    "FIELDS",
    "FORMAT",
    "RunDir",
    "append_line",
    "cannot_write",
    "checkpoint_files",
    "create",
    "file_sha256",
    "finish",
    "finite",
    "had_split",
    "open_run",
    "read_config",
    "read_json",
    "read_labels",
    "reason",
    "settings_sha256",
    "write_json",
    "write_text",
    "write_whole",
]
