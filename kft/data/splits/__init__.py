"""Cleans, deduplicates, finds leaks and cuts the splits; says what it dropped and why."""

import hashlib
from dataclasses import dataclass
from typing import Any

import polars as pl

from kft.config import CleanConfig, SplitConfig
from kft.data.splits import cleaning, cutting, times
from kft.data.splits.cleaning import are_numbers as are_numbers
from kft.data.splits.cleaning import with_groups as with_groups
from kft.data.splits.cleaning import without_nan as without_nan
from kft.data.splits.listed import unlisted
from kft.errors import KftError
from kft.tasks import TASKS
from kft.tasks.record import Labels

SPLITS_FORMAT = 1
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """The rows to train on, to choose by and to test on, in the order of their files.

    The frames have the columns of `sources`. `test` has no rows where there is no test split.

    `account` is what `data.json` holds. All counts are of rows. `read`, `dropped` and `moved` say
    how a split came about, everything else describes the rows that are left: `examples` =
    `read` - sum of `dropped` + `moved`. Where rows belong to questions (`data.group`), a question
    is dropped and counted with all its rows, as a duplicate only if another has the same rows.

        {"format": 1,
         "splits": {name: {
            "origins":   files; of class folders the classes ("sports/*.txt")
            "read":      rows of the split's own files
            "dropped":   {reason: rows}; a row counts for the first of these that holds
                empty_text, empty_text_pair   nothing in it that can be seen
                missing_label                 null, empty, NaN where labels are numbers
                other_class                   a class that `clean.classes` or
                                              `clean.exclude_classes` leaves out
                unlabelled                    a row of a test file without any label
                …                             what the task cannot train on (`Labels.unusable`)
                leak                          a train row that also stands in validation or test
                conflicting_label             a train row whose text came before, with another label
                duplicate                     a train row whose text came before
            "moved":     rows that were cut off train: above 0 in validation and test, below 0 in
                         train
            "examples":  rows that are left
            "labels":    {label: rows}, for classes
            "values":    {"mean", "std", "min", "max"}, for scores; std is the population's; {}
                         without rows
            "questions": {"count", "choices_mean", "choices_max"}, for choices
            "duplicates": {
                "exact":              rows whose text (and pair) came before in the split
                "normalized":         the same but for case, spaces, Unicode form and invisible
                                      characters, exact ones included
                "conflicting_labels": rows whose normalized text stands in the split with another
                                      label too}
            "sha256":    of text, text_pair (if there are pairs), label, group and the columns of
                         marked words (if there are any) of each row in order, each written as
                         its length in UTF-8 bytes, ":", the bytes, ","}},
         "leaks": {"validation", "test": train rows whose normalized text also stands in the file
                                         of that split,
                   "dropped_from_train": those of them that were dropped,
                   "groups": with `split.group`, {split: groups of its file with rows in train}},
         "cut": {"method", "seed", "validation_fraction", "test_fraction",
                 of a cross-validation "folds" and "fold", of a cut by groups their column "group",
                 of one by time its column "time" and "beginnings": of validation and test the
                 first time ("from") and how many rows have it ("rows_of_that_time")},
                or null where kft cut nothing}
    """

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    account: dict[str, Any]


def prepare(
    frames: dict[str, pl.DataFrame],
    split: SplitConfig,
    clean: CleanConfig,
    task: str,
    spans: list[list[str | int]] | None = None,
) -> Splits:
    """Clean, complete splits.

    Rows with the same text (see "normalized" above) never stand on both sides of a cut that kft
    makes, nor do the rows of one question. No text is changed, so offsets into it stay right.

    Args:
        frames: what `sources.read` gave; train, and validation and test if there are files of them.
        split: how missing splits are cut off train.
        clean: what else is dropped from train.
        task: a key of `TASKS`, which says what labels are.
        spans: the marked words, as in the config.

    Raises:
        KftError: labels that the task cannot have, a split without rows, or settings that
        contradict the files.
    """
    rules = TASKS[task].labels
    display_names = {name: _display_name(frame, name) for name, frame in frames.items()}
    for key, column in (("group", cleaning.GROUP), ("time", cleaning.TIME)):
        if getattr(split, key) is not None and column not in frames["train"].columns:
            raise KftError(
                f"{display_names['train']}: has no columns for `split.{key}`",
                "give a CSV, JSONL or Parquet file",
            )
    frames = {name: with_groups(frame) for name, frame in frames.items()}
    if rules.names is not None and not rules.several:
        frames = unlisted(frames, display_names)
    numbers = are_numbers(frames["train"]["label"], rules)
    excluded = []
    if clean.classes is not None or clean.exclude_classes is not None:
        if rules.names is None or rules.several:
            raise KftError(
                f"`clean.classes` and `clean.exclude_classes` need classes, and `task` is {task}",
                "leave them out",
            )
        excluded = cleaning.unwanted(frames, clean)
    files, dropped = {}, {}
    for name, frame in frames.items():
        files[name], dropped[name] = cleaning.clean(cleaning.with_keys(frame, spans), name, numbers, excluded)
        if name == "train" and rules.unusable:
            files[name], unusable = cleaning.drop_unusable(files[name], rules)
            dropped[name] |= unusable
        if name != "test":
            _check_left(files[name], display_names[name], dropped[name])
    leaks: dict[str, Any] = dict(cleaning.leaks(files))
    files["train"], repeats = cleaning.drop_repeats(files, clean)
    dropped["train"] |= repeats
    _check_left(files["train"], display_names["train"], dropped["train"])
    if split.group is not None:
        leaks["groups"] = cleaning.shared_groups(files)
    rules.check(files, display_names["train"])

    present = {name for name, frame in files.items() if frame.height}
    fractions = cutting.fractions(present, split)
    cut = None
    parts = {"train": files["train"]}
    if any(fractions.values()):
        method = "time" if split.time is not None else split.method or rules.method
        train = files["train"]
        if method == "time":
            train = times.with_moments(train, split.time, display_names["train"])
        parts = cutting.cut(train, split, method, fractions, display_names["train"], rules)
        cut = {"method": method, "seed": split.seed} | {
            f"{name}_fraction": f for name, f in fractions.items()
        }
        if split.folds is not None:
            cut |= {"folds": split.folds, "fold": split.fold or 1}
        if split.group is not None:
            cut |= {"group": str(split.group)}
        if method == "time":
            cut |= {"time": str(split.time), "beginnings": times.beginnings(parts)}

    final = {name: (files | parts)[name] for name in SPLITS if name in files or name in parts}
    account = {
        "format": SPLITS_FORMAT,
        "splits": {
            name: _history(name, frames, dropped, parts) | _description(frame, rules)
            for name, frame in final.items()
        },
        "leaks": leaks | {"dropped_from_train": dropped["train"].get("leak", 0)},
        "cut": cut,
    }
    own = (*cleaning.KEYS, cleaning.TIME, cleaning.MOMENT)  # the groups stay, for intervals
    final = {name: frame.drop(own, strict=False) for name, frame in final.items()}
    return Splits(final["train"], final["validation"], final.get("test", final["train"].clear()), account)


def _display_name(frame: pl.DataFrame, split: str) -> str:
    """What messages call a frame; a class folder has as many origins as rows."""
    return split if frame["origin"].n_unique() > 1 else frame["origin"][0]


def _check_left(frame: pl.DataFrame, name: str, dropped: dict[str, int]) -> None:
    if frame.is_empty():
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise KftError(
            f"{name}: no row is left after cleaning, dropped: {reasons}",
            "`data.text`, `data.text_pair` and `data.label` name the columns, `clean` says what is dropped",
        )


def _history(
    name: str,
    frames: dict[str, pl.DataFrame],
    dropped: dict[str, dict[str, int]],
    parts: dict[str, pl.DataFrame],
) -> dict[str, Any]:
    """How a split came about."""
    moved = {part: frame.height for part, frame in parts.items() if part != "train"}
    sources = [frames[name]] if name in frames else []
    if name in moved:
        sources.append(frames["train"])
    return {
        "origins": [origin for frame in sources for origin in _origins(frame)],
        "read": frames[name].height if name in frames else 0,
        "dropped": dropped.get(name, {}),
        "moved": -sum(moved.values()) if name == "train" else moved.get(name, 0),
    }


def _origins(frame: pl.DataFrame) -> list[str]:
    names = frame["origin"].unique(maintain_order=True)
    if len(names) > 1:
        names = (names.str.replace(r"/.*$", "") + "/*.txt").unique(maintain_order=True)
    return names.to_list()


def _description(frame: pl.DataFrame, rules: Labels) -> dict[str, Any]:
    """What a split is now."""
    unit, answer = pl.col(cleaning.UNIT), pl.col(cleaning.ANSWER)
    twice = frame.select(
        exact=(unit != unit.first().over(cleaning.EXACT)).sum(),
        normalized=(unit != unit.first().over(cleaning.NORMAL)).sum(),
        conflicting_labels=(answer.n_unique().over(cleaning.NORMAL) > 1).sum(),
    )
    content = {"examples": frame.height} | rules.describe(frame)
    return content | {"duplicates": twice.row(0, named=True), "sha256": _sha256(frame)}


def _sha256(frame: pl.DataFrame) -> str:
    own = ("id", "origin", *cleaning.KEYS, cleaning.GROUP, cleaning.TIME, cleaning.MOMENT)
    columns = [pl.col(c).cast(pl.String) for c in frame.columns if c not in own]
    cells = [part for c in columns for part in (c.str.len_bytes(), pl.lit(":"), c, pl.lit(","))]
    digest = hashlib.sha256()
    for row in frame.select(pl.concat_str(cells)).to_series():
        digest.update(row.encode())
    return digest.hexdigest()
