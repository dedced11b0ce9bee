"""Rows that cannot be used, rows that stand twice, and rows that stand in two splits."""

import hashlib

import polars as pl

from kft.config import CleanConfig
from kft.data.sources import marked_texts
from kft.data.sources.columns import listed
from kft.data.splits.alike import normalized
from kft.errors import KftError, did_you_mean
from kft.tasks.questions import GROUP as GROUP
from kft.tasks.record import Labels

EXACT, NORMAL, TOGETHER, UNIT, ANSWER = KEYS = ("_exact", "_normal", "_together", "_unit", "_answer")
TIME, MOMENT = "split_time", "_moment"  # of `split.time`
Counts = dict[str, int]  # reason → rows
NAN = r"(?i)^[+-]?nan$"


def with_keys(frame: pl.DataFrame, spans: list[list[str | int]] | None = None) -> pl.DataFrame:
    """The frame with what makes rows equal.

    EXACT: text (and pair), marked words included. NORMAL: the same but for case, spaces and what
    `alike` says. TOGETHER: NORMAL without the marks, so that one text never parts between splits.
    UNIT: the row, or the question that it is a choice of.
    ANSWER: its label. A question is equal to another with the same rows in any order, so its rows
    have the keys of all of them.
    """
    texts = [column for column in ("text", "text_pair") if column in frame.columns]
    marked = marked_texts(frame, spans)
    frame = frame.with_columns(
        _joined(marked, texts).alias(EXACT),
        _joined(marked, texts, normalized).alias(NORMAL),
        _joined(frame, texts, normalized).alias(TOGETHER),
        pl.int_range(pl.len()).alias(UNIT),
        pl.col("label").alias(ANSWER),
    )
    if "group" not in frame.columns:
        return frame
    keys = (EXACT, NORMAL, TOGETHER)
    # Digests, since a question's key holds the texts of all its rows and stands in each of them.
    frame = frame.with_columns(frame[key].map_elements(_digest, pl.String).alias(key) for key in keys)
    frame = frame.with_columns(pl.concat_str(EXACT, "label", separator="=", ignore_nulls=True).alias(ANSWER))
    whole = [pl.col(key).sort().str.join(",").over("group").alias(key) for key in (*keys, ANSWER)]
    return frame.with_columns(pl.col("group").alias(UNIT), *whole)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _joined(frame: pl.DataFrame, texts: list[str], change=lambda text: text) -> pl.Series:
    """The texts of each row in one."""
    return frame.select(
        pl.concat_str([change(frame[t]) for t in texts], separator="\0", ignore_nulls=True)
    ).to_series()


def are_numbers(labels: pl.Series, rules: Labels) -> bool:
    """Whether labels are numbers, so that NaN is a missing one, as it is in a column of floats.

    They are where the task takes numbers, and where all names of classes are numbers (but for
    NaN); else NaN is a word.
    """
    if rules.names is None:
        return True
    words = labels.drop_nulls().unique()
    words = words.filter((words != "") & ~words.str.contains(NAN))
    return len(words) > 0 and words.cast(pl.Float64, strict=False).is_not_null().all()


def with_groups(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, groups in one form: "Ann" and "ann " never part; an empty one is none."""
    if GROUP not in frame.columns:
        return frame
    group = normalized(frame[GROUP])
    return frame.with_columns(pl.select(pl.when(group != "").then(group)).to_series().alias(GROUP))


def without_nan(frame: pl.DataFrame, numbers: bool) -> pl.DataFrame:
    """The frame; a NaN among labels that are numbers as a missing one."""
    nan = pl.col("label").str.contains(NAN)
    return frame.with_columns(label=pl.when(~nan).then("label")) if numbers else frame


def unwanted(frames: dict[str, pl.DataFrame], config: CleanConfig) -> list[str]:
    """The labels whose rows the config leaves out.

    Raises:
        KftError: it names labels that no row has.
    """
    labels = {label for frame in frames.values() for label in frame["label"].drop_nulls().unique()}
    for key in ("classes", "exclude_classes"):
        for name in getattr(config, key) or ():
            if name not in labels:
                known = sorted(labels)
                raise KftError(
                    f"`clean.{key}`: no row has the label {name!r}{did_you_mean(name, known)}",
                    f"the labels are {listed(known)}",
                )
    kept = labels if config.classes is None else set(config.classes)
    return sorted(labels - (kept - set(config.exclude_classes or ())))


def clean(frame: pl.DataFrame, split: str, numbers: bool, excluded: list[str]) -> tuple[pl.DataFrame, Counts]:
    """The rows that have texts and a label, and the count of the others.

    Args:
        frame: of `with_keys`.
        split: its name.
        numbers: whether labels are numbers, so that NaN is a missing one.
        excluded: labels whose rows are left out.
    """
    missing = pl.col("label").is_null() | (pl.col("label") == "")
    if numbers:
        missing |= pl.col("label").str.contains(NAN)
    if split == "test" and frame.select(missing.all()).item():
        return frame.clear(), {"unlabelled": frame.height}
    reasons = {f"empty_{c}": _is_empty(c) for c in ("text", "text_pair") if c in frame.columns}
    reasons |= {"missing_label": missing}
    if excluded:
        reasons |= {"other_class": pl.col("label").is_in(excluded)}
    if "group" in frame.columns:  # a question that lacks a choice is another question
        reasons = {name: holds.any().over(UNIT) for name, holds in reasons.items()}
    return _drop(frame, reasons)


def drop_unusable(frame: pl.DataFrame, rules: Labels) -> tuple[pl.DataFrame, Counts]:
    """The rows that a task can train on, and the count of the others."""
    marked = frame.with_columns(holds(frame["label"]).alias(name) for name, holds in rules.unusable.items())
    kept, counts = _drop(marked, {name: pl.col(name) for name in rules.unusable})
    return kept.drop(*rules.unusable), counts


def _is_empty(column: str) -> pl.Expr:
    # White space, and characters without a shape, which the tokenizer drops too.
    return ~pl.col(column).fill_null("").str.contains(r"[^\s\p{Z}\p{Cc}\p{Cf}\p{Co}]")


def leaks(frames: dict[str, pl.DataFrame]) -> Counts:
    """Validation and test → train rows that are also in it."""
    train = frames["train"]
    return {
        name: train.join(frames[name], on=NORMAL, how="semi").height if name in frames else 0
        for name in ("validation", "test")
    }


def shared_groups(frames: dict[str, pl.DataFrame]) -> dict[str, int]:
    """Validation and test → groups of `split.group` of which train has rows too."""
    groups = {name: frame[GROUP].drop_nulls().unique() for name, frame in frames.items()}
    return {
        name: int(part.is_in(groups["train"].implode()).sum())
        for name, part in groups.items()
        if name != "train"
    }


def drop_repeats(frames: dict[str, pl.DataFrame], config: CleanConfig) -> tuple[pl.DataFrame, Counts]:
    """Train without the leaks and duplicates that the config wants dropped, and their count."""
    reasons = {}
    others = [frame[NORMAL] for name, frame in frames.items() if name != "train"]
    if config.leaks == "drop" and others:
        reasons["leak"] = pl.col(NORMAL).is_in(pl.concat(others).unique().implode())
    if config.duplicates != "keep":
        key = EXACT if config.duplicates == "exact" else NORMAL
        repeated = pl.col(UNIT) != pl.col(UNIT).first().over(key)
        reasons["conflicting_label"] = repeated & (pl.col(ANSWER) != pl.col(ANSWER).first().over(key))
        reasons["duplicate"] = repeated
    return _drop(frames["train"], reasons)


def _drop(frame: pl.DataFrame, reasons: dict[str, pl.Expr]) -> tuple[pl.DataFrame, Counts]:
    """The rows for which no reason holds; the others count for the first that does."""
    if not reasons:
        return frame, {}
    first = pl.coalesce(pl.when(holds).then(pl.lit(name)) for name, holds in reasons.items())
    frame = frame.with_columns(first.alias("_reason"))
    counts = dict(frame["_reason"].drop_nulls().value_counts().iter_rows())
    kept = frame.filter(pl.col("_reason").is_null()).drop("_reason")
    return kept, {name: counts[name] for name in reasons if name in counts}
