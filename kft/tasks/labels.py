"""What tasks with labels share: order, spelling, rows that messages name, unknown labels."""

import json
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation

import polars as pl

from kft.errors import KftError, closest, did_you_mean
from kft.tasks import words
from kft.tasks.record import Learned

SHOWN_LABELS = 10
SHOWN_PROBLEMS = 5


def ordered(labels: pl.Series) -> list[str]:
    """The different labels: numbers by value and then by spelling, else all by code point.

    The order is total and depends on the set of labels alone, since it says what a class id means.
    """
    names = labels.drop_nulls().unique().to_list()
    numbers = [_number(name) for name in names]
    if None in numbers:
        return sorted(names)
    return [name for _, name in sorted(zip(numbers, names, strict=True))]


def spelled(names: Iterable[str]) -> str:
    """A set of labels in its one spelling: {"joy", "love"} → '["joy", "love"]'."""
    return json.dumps(sorted({name for name in map(str.strip, names) if name}), ensure_ascii=False)


def names_in(label: str) -> list[str] | None:
    """The names in a set that `spelled` wrote, or the tags of words and their types; else None."""
    tags = words.tags_in(label)
    if tags is not None:
        known = {tag for tag in tags if tag is not None}
        return sorted(known | words.types(known))
    if not label.startswith("["):
        return None
    try:
        names = json.loads(label)
    except ValueError:
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _number(name: str) -> Decimal | None:
    """The exact value of a number: different ones stay so; None for NaN, which has no order."""
    try:
        number = Decimal(name)
    except InvalidOperation:
        return None
    return None if number.is_nan() else number


def positive_of(names: Sequence[str], positive: str | None, renamed: dict[str, str]) -> str | None:
    """The label that `data.positive` names.

    Args:
        names: of the classes.
        positive: what the config says.
        renamed: `data.label_names`; a label as the files hold it is taken for its new name.

    Raises:
        KftError: there are not two classes, or it is none of them.
    """
    if positive is None:
        return None
    label = positive if positive in names else renamed.get(positive, positive)
    if len(names) != 2:
        raise KftError(
            f"`data.positive` = {positive!r} needs two classes, the data has {len(names)}",
            "leave it out: f1_macro and the table of classes have each class",
        )
    if label not in names:
        raise KftError(
            f"`data.positive`: {positive!r} is no label{did_you_mean(positive, list(names))}",
            f"the labels are {' and '.join(names)}",
        )
    return label


def where(frame: pl.DataFrame, rows: pl.DataFrame) -> str:
    """The first of the rows as messages name it: by its file, and its number in that."""
    origin, row, origins = rows["origin"][0], rows["id"][0] + 1, frame["origin"].n_unique()
    if 1 < origins == frame.height:
        return origin
    return f"{origin}, row {row}{' of all files' if origins > 1 else ''}"


def more(rows: pl.DataFrame) -> str:
    return f" ({rows.height} such rows)" if rows.height > 1 else ""


def check_differ(values: pl.Series, what: str, train: pl.DataFrame, name: str) -> None:
    """Raises KftError: all labels of train are alike."""
    if values.n_unique() == 1:
        raise KftError(
            f"{name}: every row has the {what} {train['label'][0]}, so there is nothing to learn",
            "`data.label` names the column; `data.max_examples` takes the first rows, which may all be of one class",
        )


def check_known(frames: dict[str, pl.DataFrame], names: Callable[[str], tuple[str, ...]]) -> None:
    """Raises KftError: validation or test has labels that train has not; `names` as in `Labels`."""
    known = ordered(_names(frames["train"], names)["_name"])
    problems = []
    for split, frame in frames.items():
        if split == "train":
            continue
        named = _names(frame, names)
        strange = named.filter(~pl.col("_name").is_in(known))
        for name in strange["_name"].unique(maintain_order=True):
            problems.append(_strange(frame, strange.filter(pl.col("_name") == name), known))
    if problems:
        rest = len(problems) - SHOWN_PROBLEMS
        left = [f"and {rest} more labels that train does not have"] if rest > 0 else []
        raise KftError(
            "\n".join(problems[:SHOWN_PROBLEMS] + left),
            "no model learns a label that train does not have: mend the rows, or set `data.label_names`",
        )


def _names(frame: pl.DataFrame, names: Callable[[str], tuple[str, ...]]) -> pl.DataFrame:
    """A row for each name of each row: the columns id, origin and `_name`."""
    sets = {label: names(label) for label in frame["label"].unique()}
    lists = pl.Series("_name", [sets[label] for label in frame["label"]], pl.List(pl.String))
    return frame.select("id", "origin").with_columns(lists).explode("_name").drop_nulls("_name")


def _strange(frame: pl.DataFrame, rows: pl.DataFrame, known: list[str]) -> str:
    name = rows["_name"][0]
    near = closest(name, known)
    options = ", ".join(known[:SHOWN_LABELS]) + (", …" if len(known) > SHOWN_LABELS else "")
    suggestion = f", did you mean `{near}`?" if near else ""
    return f"{where(frame, rows)}: label must be one of {options}, got: {name}{more(rows)}{suggestion}"


def check_each(frame: pl.DataFrame, learned: Learned, names: Callable[[str], tuple[str, ...]]) -> None:
    """Raises KftError: rows to score have no label, or unknown ones; names all of them."""
    known = set(learned.labels)
    wrong = {
        label: [None] if label is None else [name for name in names(label) if name not in known]
        for label in frame["label"].unique()
    }
    lists = pl.Series("_name", [wrong[label] for label in frame["label"]], pl.List(pl.String))
    bad = frame.select("id", "origin").with_columns(lists).filter(pl.col("_name").list.len() > 0)
    options = ", ".join(learned.labels[:20]) + (", …" if len(learned.labels) > 20 else "")
    refuse(
        frame,
        bad.explode("_name"),
        lambda name: f"label must be one of {options}, got: {name}",
        "mend the rows, or leave them out",
        lambda name: did_you_mean(name, list(learned.labels)),
    )


def refuse(
    frame: pl.DataFrame,
    bad: pl.DataFrame,
    words: Callable[[str], str],
    hint: str,
    near: Callable[[str], str] = lambda name: "",
) -> None:
    """Raises KftError for rows whose labels cannot be: each mistake once, with first row and count.

    Args:
        frame: all rows.
        bad: the columns id, origin and `_name`, what is wrong of a row's label; null where it is
            missing.
        words: such a name → what is wrong with it.
        hint: what to do; how to leave out rows without a label is added.
        near: such a name → what else may be meant.
    """
    if not bad.height:
        return
    lines, counts = [], []
    for name in bad["_name"].unique(maintain_order=True):
        rows = bad.filter(pl.col("_name").eq_missing(pl.lit(name, pl.String)))
        what = "the label is missing" if name is None else words(name)
        lines.append(f"{where(frame, rows)}: {what}{more(rows)}{'' if name is None else near(name)}")
        counts.append(f"{rows.height} missing" if name is None else f"{name} {rows.height}")
    if len(lines) > 1:
        listing = ", ".join(counts[:SHOWN_LABELS]) + (", …" if len(counts) > SHOWN_LABELS else "")
        count = bad.select("id", "origin").n_unique()
        lines = [f"{bad['origin'][0]}: {count} rows cannot be scored: {listing}", *lines[:SHOWN_PROBLEMS]]
        left = len(counts) - SHOWN_PROBLEMS
        lines += [f"and {left} more such labels"] if left > 0 else []
    skip = "; --skip-unlabelled leaves out those without a label" if bad["_name"].null_count() else ""
    raise KftError("\n".join(lines), hint + skip)
