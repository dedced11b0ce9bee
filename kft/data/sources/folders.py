"""Class folders: one sub-folder of text files per class."""

import os
from pathlib import Path

import polars as pl

from kft.config import DataConfig
from kft.data.sources.columns import Pick, listed
from kft.data.sources.texts import decode, read_bytes
from kft.errors import KftError

SPLIT_NAMES = {"train", "validation", "valid", "val", "dev", "test"}


def read_folder(path: Path, name: str, data: DataConfig, pick: Pick) -> pl.DataFrame:
    """Text, label and origin of every file; a class folder has no columns to pick from."""
    del pick
    return read_classes(path, name, data)


def read_classes(
    path: Path, name: str, data: DataConfig, encodings: dict[str, str] | None = None
) -> pl.DataFrame:
    """The .txt files of every sub-folder, whose name is the label, sorted as Keras, at any depth.

    Where no sub-folder holds one, all files are texts, as those of 20 Newsgroups, which have no
    ending.

    Args:
        path: the class folder.
        name: what messages call it.
        data: its encoding is that of the files.
        encodings: "class/name.txt" → encoding, for files that have their own.

    Raises:
        KftError: no sub-folders, sub-folders that are splits, no .txt files, or a file that cannot
        be decoded.
    """
    if data.text_pair is not None:
        raise KftError(
            f"{name}: a class folder holds no pairs, and `data.text_pair` is set",
            "leave out `data.text_pair`, or give a CSV, JSONL or Parquet file",
        )
    classes = sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not classes:
        raise KftError(
            f"{name}: has no sub-folders", "a class folder has one sub-folder of .txt files per class"
        )
    if set(classes) <= SPLIT_NAMES:
        raise KftError(
            f"{name}: its sub-folders are splits ({listed(classes)}), not classes",
            "set `data.train`, `data.validation` and `data.test` to the sub-folders",
        )
    _check_columns(name, data)
    listing = {label: _files(path / label) for label in classes}
    texts = {label: [f for f in files if f.suffix.lower() == ".txt"] for label, files in listing.items()}
    rows = []
    for label, files in (texts if any(texts.values()) else listing).items():
        for file in files:
            origin = file.relative_to(path).as_posix()
            encoding = (encodings or {}).get(origin, data.encoding)
            rows.append((decode(read_bytes(file, origin), origin, encoding), label, origin))
    if not rows:
        raise KftError(f"{name}: no sub-folder holds a file", f"the sub-folders are {listed(classes)}")
    return pl.DataFrame(
        rows, schema={"text": pl.String, "label": pl.String, "origin": pl.String}, orient="row"
    )


def _check_columns(name: str, data: DataConfig) -> None:
    """Raises KftError: the config names columns, which a class folder does not have."""
    for key in ("text", "label"):
        if getattr(data, key) not in (key, 0 if key == "text" else 1):
            raise KftError(
                f"{name}: a class folder has no columns, and `data.{key}` is {getattr(data, key)!r}",
                f"--set data.{key}={key}",
            )


def _files(folder: Path) -> list[Path]:
    files = []
    for root, folders, names in sorted(os.walk(folder, onerror=_unreadable, followlinks=True)):
        del folders
        files += [Path(root, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _unreadable(error: OSError) -> None:
    raise KftError(f"{error.filename}: cannot be read: {error.strerror}", "check the folder's permissions")
