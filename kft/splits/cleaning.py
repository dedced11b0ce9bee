"""Rows that cannot be used, rows that stand twice, and rows that stand in two splits."""

import polars as pl

from kft.config import CleanConfig
from kft.splits.labels import Kind

EXACT, NORMAL = KEYS = ("_exact", "_normal")
Counts = dict[str, int]  # reason → rows


def with_keys(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with what makes rows equal: text (and pair) exactly, and normalized: but for case and spaces."""
    texts = [column for column in ("text", "text_pair") if column in frame.columns]
    normal = [pl.col(c).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars() for c in texts]
    return frame.with_columns(
        pl.concat_str(texts, separator="\0", ignore_nulls=True).alias(EXACT),
        pl.concat_str(normal, separator="\0", ignore_nulls=True).alias(NORMAL),
    )


def clean(frame: pl.DataFrame, split: str, kind: Kind) -> tuple[pl.DataFrame, Counts]:
    """The rows that have texts and a label, and the count of the others."""
    missing = pl.col("label").is_null() | (pl.col("label") == "")
    if kind == "classification":
        missing |= pl.col("label").is_in(["nan", "NaN"])
    if split == "test" and frame.select(missing.all()).item():
        return frame.clear(), {"unlabelled": frame.height}
    reasons = {f"empty_{c}": _is_empty(c) for c in ("text", "text_pair") if c in frame.columns}
    return _drop(frame, reasons | {"missing_label": missing})


def _is_empty(column: str) -> pl.Expr:
    # White space, and characters without a shape, which the tokenizer drops too.
    return ~pl.col(column).fill_null("").str.contains(r"[^\s\p{Z}\p{Cc}\p{Cf}\p{Co}]")


def leaks(frames: dict[str, pl.DataFrame]) -> Counts:
    """Validation and test → train rows that also stand there."""
    train = frames["train"]
    return {
        name: train.join(frames[name], on=NORMAL, how="semi").height if name in frames else 0
        for name in ("validation", "test")
    }


def drop_repeats(frames: dict[str, pl.DataFrame], config: CleanConfig) -> tuple[pl.DataFrame, Counts]:
    """Train without the leaks and duplicates that the config wants dropped, and their count."""
    reasons = {}
    others = [frame[NORMAL] for name, frame in frames.items() if name != "train"]
    if config.leaks == "drop" and others:
        reasons["leak"] = pl.col(NORMAL).is_in(pl.concat(others).unique().implode())
    if config.duplicates != "keep":
        key = EXACT if config.duplicates == "exact" else NORMAL
        repeated = ~pl.col(key).is_first_distinct()
        reasons["conflicting_label"] = repeated & (pl.col("label") != pl.col("label").first().over(key))
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
