"""What stands beside a data file: the files of its splits."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from kft.config import DataConfig
from kft.data import sources
from kft.errors import KftError
from kft.guess.tables import TABLE_ENDINGS, Table, from_objects, read_table

# Words in file names: that of train, and what validation and test files have in its place.
SPLIT_WORDS = {"validation": ("validation", "valid", "val", "dev", "eval"), "test": ("test",)}
TRAIN_WORDS = ("train", "training")
NAMED_ROWS = 2_000


@dataclass(frozen=True)
class Place:
    """Where the examples are.

    Attributes:
        name: of the data set, for the config's file name.
        files: setting of `[data]` (train, validation, test, source, data_dir) → its value.
        table: the beginning of train.
        classes: whether it is a class folder, which has no columns.
        reasons: setting → why.
    """

    name: str
    files: dict[str, str]
    table: Table
    classes: bool = False
    reasons: dict[str, str] = field(default_factory=dict)


def look(data: str, data_dir: str | None = None) -> Place:
    """Finds the files of a file, folder or name of TFDS, and reads the beginning of train.

    Raises:
        KftError: there is no such thing, or nothing in it to train on.
    """
    if sources.is_address(data):
        place = _file(sources.expanded(data)[0])
        return replace(place, files={"train": data})
    path = Path(data).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return _file(path)
    if path.suffix.lower() in TABLE_ENDINGS or data.count("/") > 1 or data.startswith("."):
        sources.read_file(path, DataConfig(train=data))  # raises with the names that exist
    return _named(data, data_dir)


def _file(path: Path) -> Place:
    stem = path.name.split(".")[0]
    files, reasons = {"train": str(path)}, {}
    word = next((word for word in TRAIN_WORDS if re.search(rf"(^|[\W_]){word}([\W_]|$)", stem, re.I)), None)
    if word:
        for split, words in SPLIT_WORDS.items():
            names = [re.sub(word, other, path.name, count=1, flags=re.I) for other in words]
            beside = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
            if beside:
                files[split] = str(beside)
                reasons[split] = f"it stands beside {path.name}"
    of_split = stem.lower() in {*TRAIN_WORDS, *(word for words in SPLIT_WORDS.values() for word in words)}
    name = path.resolve().parent.name if of_split else stem
    return Place(name, files, read_table(path), reasons=reasons)


def _folder(path: Path) -> Place:
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    folders = {entry.name.lower(): entry for entry in entries if entry.is_dir()}
    train = next((folders[word] for word in TRAIN_WORDS if word in folders), None)
    if train is not None and any(entry.is_dir() for entry in train.iterdir()):
        files, reasons = {"train": str(train)}, {}
        for split, words in SPLIT_WORDS.items():
            beside = next((folders[word] for word in words if word in folders), None)
            if beside is not None:
                files[split] = str(beside)
                reasons[split] = f"the folder has a sub-folder {beside.name}"
        return Place(path.resolve().name, files, _classes(train), True, reasons)
    tables = [entry for entry in entries if entry.is_file() and sources.format_of(entry)]
    if folders and not tables:
        return Place(path.resolve().name, {"train": str(path)}, _classes(path), True)
    named = [file for file in tables if re.search(r"(^|[\W_])train", file.name, re.I)]
    tables = tables or [
        entry for entry in entries if entry.suffix == ".txt" and "train" in entry.name.lower()
    ]
    chosen = named or (tables if len(tables) == 1 else [])
    if not chosen:
        listed = ", ".join(entry.name for entry in entries[:8]) or "nothing"
        raise KftError(
            f"{path}: which of its files is to train on does not show",
            f"give the file; the folder holds {listed}",
        )
    return _file(chosen[0])


def _classes(path: Path) -> Table:
    frame = sources.read_file(path, DataConfig(train=str(path), max_examples=NAMED_ROWS))
    return Table(["text", "label"], [list(row) for row in frame.select("text", "label").iter_rows()])


def _named(name: str, data_dir: str | None) -> Place:
    """A data set of TFDS, or a built-in one."""
    data = DataConfig(source=name, data_dir=data_dir)
    files = {"source": name} | ({"data_dir": data_dir} if data_dir else {})
    columns, rows = from_objects(sources.first_rows(data, NAMED_ROWS))
    return Place(name.replace("/", "-"), files, Table(columns, rows))
