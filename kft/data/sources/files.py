"""Which files a setting names (path, list, pattern, folder), and what their endings say."""

import glob
import os
from pathlib import Path

from kft.config import DataConfig
from kft.config.reading import display_path
from kft.data.sources import addresses
from kft.data.sources.arrow import is_saved_dataset, is_saved_splits
from kft.data.sources.columns import listed
from kft.data.sources.compressed import plain_name
from kft.errors import KftError, did_you_mean

SPLITS = ("train", "validation", "test")
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
}
# How the files and folders of a split are called.
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def of_splits(data: DataConfig) -> dict[str, list[Path]]:
    """The files of train, validation and test, in that order, as far as `data` names them.

    Of a folder with files or folders for each split, `data.train` takes all splits that no setting
    names.

    Raises:
        KftError: a pattern that no file has, or a folder whose files are of several formats.
    """
    paths: dict[str, list[Path]] = {}
    for split in SPLITS:
        setting = getattr(data, split)
        for name in [setting] if isinstance(setting, str) else setting or []:
            paths.setdefault(split, []).extend(expanded(name, split))
    if isinstance(data.train, str) and (parts := _parts(Path(data.train))):
        paths = {split: files for split, files in parts.items() if files} | paths
    return {split: paths[split] for split in SPLITS if split in paths}


def expanded(name: str | Path, split: str | None = None) -> list[Path]:
    """The files that one path, address or pattern names; of a folder of splits those of `split`.

    Raises:
        KftError: a pattern that no file has, a folder whose files are of several formats, or an
        address that cannot be read.
    """
    if addresses.is_address(name):
        return addresses.fetched(str(name))
    path = Path(name)
    if glob.has_magic(str(name)) and not os.path.lexists(name):
        matches = [Path(match) for match in sorted(glob.glob(str(name), recursive=True))]  # noqa: PTH207 (takes absolute patterns)
        if not matches:
            raise KftError(
                f"{display_path(path)}: no file has a name like this", "quote patterns: 'data/*.csv'"
            )
        return matches
    parts = _parts(path)
    if split is not None and parts.get(split):
        return parts[split]
    return _shards(path) or [path]


def format_of(path: str | Path) -> str | None:
    """The format that a file's ending says (not a compressed one's); "folder" for a folder."""
    path = Path(path)
    if path.is_dir():
        if is_saved_dataset(path):
            return "arrow"
        shards = _shards(path)
        return format_of(shards[0]) if shards else "folder"
    return ENDINGS.get(ending(path))


def ending(path: str | Path) -> str:
    """The ending of a name or address, that of a compressed file aside."""
    if addresses.is_address(path):
        path = addresses.name_in(str(path))
    return Path(plain_name(Path(path))).suffix


def display_names(files: dict[str, list[Path]]) -> dict[Path, str]:
    """What messages call the files: addresses or names, with the folder where two are alike."""
    paths = list(dict.fromkeys(path for part in files.values() for path in part))
    names = [path.name for path in paths]
    return {
        path: addresses.address_of(path)
        or (path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}")
        for path in paths
    }


def check_readable(path: Path) -> None:
    """Raises KftError: there is no such file, or it may not be read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        folder = path.parent
        if not folder.is_dir():
            raise KftError(
                f"{display_path(path)}: no such file", f"there is no folder {display_path(folder)} either"
            ) from None
        siblings = sorted(entry.name for entry in folder.iterdir())
        raise KftError(
            f"{display_path(path)}: no such file{did_you_mean(path.name, siblings)}",
            f"{folder.name} holds {listed(siblings) if siblings else 'nothing'}",
        ) from None
    except (OSError, ValueError) as error:
        raise KftError(
            f"{display_path(path)}: cannot be read: {getattr(error, 'strerror', None) or error}",
            "check the path and its permissions",
        ) from None
    if not os.access(path, os.R_OK):
        raise KftError(
            f"{display_path(path)}: cannot be read: permission denied", "check the file's permissions"
        )


def _parts(path: Path) -> dict[str, list[Path]]:
    """Of a folder that holds a data set by splits, the files of each; {} of anything else.

    Such are the folders that `datasets` saves, and those whose files are called
    train-00000-of-00002.parquet and so on.
    """
    if is_saved_splits(path):
        folders = {split: [path / name for name in names] for split, names in SPLIT_NAMES.items()}
        return {split: [f for f in options if f.is_dir()][:1] for split, options in folders.items()}
    shards = _shards(path)
    named = {split: [file for file in shards if _split_of(file) == split] for split in SPLITS}
    return named if named["train"] and len(shards) > len(named["train"]) else {}


def _split_of(file: Path) -> str | None:
    """The split that a file's name begins with."""
    stem = file.name.lower()
    return next(
        (
            split
            for split, names in SPLIT_NAMES.items()
            if any(stem.startswith(name) and not stem[len(name) : len(name) + 1].isalpha() for name in names)
        ),
        None,
    )


def _shards(path: Path) -> list[Path]:
    """The data files of a folder of nothing else to read, sorted; none of a class folder."""
    if not os.path.isdir(path) or is_saved_dataset(path) or is_saved_splits(path):  # noqa: PTH112 (Path's raises for odd names)
        return []
    files = sorted(
        entry
        for entry in path.iterdir()
        if entry.is_file() and ENDINGS.get(ending(entry)) and entry.name[0] != "."
    )
    endings = sorted({ending(file) for file in files})
    if len(endings) > 1:
        raise KftError(
            f"{display_path(path)}: holds files of several formats ({', '.join(endings)})",
            f"name those of one format: '{display_path(path)}/*{endings[0]}'",
        )
    return files
