"""The tags of words: which rows may be, what is learned of them, what a split holds."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from kft.errors import KftError, did_you_mean
from kft.metrics import entities
from kft.tasks import labels as checks
from kft.tasks import words
from kft.tasks.objects import listed
from kft.tasks.record import Learned


def rows_of(labels: pl.Series) -> list[words.Tags]:
    return [words.tags_in(label) or [] for label in labels]


def check(frames: dict[str, pl.DataFrame], source: str) -> None:
    for frame in frames.values():
        _check_tagged(frame)
    train = frames["train"]
    tags = {tag for row in rows_of(train["label"]) for tag in row if tag is not None}
    if len(tags) < 2:
        raise KftError(
            f"{source}: every word has the tag {next(iter(tags), None)}, so there is nothing to learn",
            "`data.tags` names the column of the tags, `data.entities` that of the entities",
        )
    for name, frame in frames.items():
        if name != "train":
            check_types(frame, tags)


def _check_tagged(frame: pl.DataFrame) -> None:
    """Raises KftError: a row has a label that is no tags."""
    wrong = frame.filter(~pl.col("label").str.starts_with('{"tags": '))
    if wrong.height:
        raise KftError(
            f"{checks.where(frame, wrong)}: must hold words with tags, got the label {wrong['label'][0][:40]!r}",
            "`data.tokens` and `data.tags` name columns of lists, or `data.entities` one of entities; "
            '`data.format = "conll"` reads CoNLL files',
        )


def check_types(frame: pl.DataFrame, known: set[str]) -> None:
    """Raises KftError: entities of a type that train does not have; all at once."""
    types = words.types(known)
    rows = [sorted(words.types(tag for tag in row if tag) - types) for row in rows_of(frame["label"])]
    bad = frame.select("id", "origin").with_columns(pl.Series("_name", rows, pl.List(pl.String)))
    checks.refuse(
        frame,
        bad.filter(pl.col("_name").list.len() > 0).explode("_name"),
        lambda name: f"an entity must be of {', '.join(sorted(types)[:20])}, got: {name}",
        "no model learns a type that train does not have: mend the rows, or set `data.label_names`",
        lambda name: did_you_mean(name, sorted(types)),
    )


def check_each(frame: pl.DataFrame, learned: Learned) -> None:
    missing = frame.filter(pl.col("label").is_null()).select("id", "origin", _name=pl.lit(None, pl.String))
    checks.refuse(frame, missing, str, "give a file with tags")
    _check_tagged(frame)
    check_types(frame, set(learned.labels))


def describe(frame: pl.DataFrame) -> dict[str, Any]:
    """Words, entities of each type as conlleval reads them, and misplaced tags."""
    rows = rows_of(frame["label"])
    scheme = words.scheme_of(rows)
    plain = words.plain_prefix({tag for row in rows for tag in row})
    normal = [[words.normal(tag or words.OUTSIDE, plain) for tag in row] for row in rows]
    counts = Counter(kind for row in normal for kind, *_ in entities.lenient(row))
    return {
        "entities": dict(sorted(counts.items())),
        "words": {
            "count": sum(map(len, rows)),
            "scheme": scheme,
            "misplaced_tags": sum(1 for row in rows for _ in words.misplaced(row, scheme)),
            "without_tag": sum(tag is None for row in rows for tag in row),
        },
    }


def lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    counts = ", ".join(f"{kind} {count:,}" for kind, count in described["entities"].items())
    n = described["words"]
    scheme = f"tags in {n['scheme']}" if n["scheme"] else "tags without prefixes"
    amiss = f"{n['misplaced_tags']:,} tags that cannot follow the one before, {n['without_tag']:,} words without a tag"
    return [("entities", counts or "none"), ("words", f"{n['count']:,}, {scheme}; {amiss}")]


def learn(train: pl.DataFrame, known: list[str] | None = None, settings: Any = None) -> Learned:
    tags = {tag for row in rows_of(train["label"]) for tag in row if tag is not None}
    names = checks.ordered(pl.Series(sorted(tags), dtype=pl.String))
    return Learned(labels=tuple(known if known is not None and set(known) == tags else names))


def truths(labels: pl.Series, learned: Learned) -> np.ndarray:
    """Tags of each row, [N] tuples."""
    return listed([tuple(row) for row in rows_of(labels)])
