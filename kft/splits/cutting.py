"""Cuts validation and test off train: stratified by label, random, or by the hash of the text."""

import hashlib

import numpy as np
import polars as pl

from kft.config import SplitConfig
from kft.errors import KftError
from kft.splits.cleaning import TOGETHER
from kft.splits.labels import Kind

DEFAULT_FRACTION = 0.1


def fractions(there: set[str], split: SplitConfig) -> dict[str, float]:
    """Validation and test → share of train that is cut off for it.

    Args:
        there: the splits that have rows of their own.
        split: the shares that the user wants.

    Raises:
        KftError: a share for a split that has rows, no validation at all, or nothing left to train on.
    """
    for name in ("validation", "test"):
        if name in there and getattr(split, f"{name}_fraction"):
            raise KftError(
                f"`split.{name}_fraction` is set, and the data has a {name} split of its own",
                f"leave out `split.{name}_fraction`, or `data.{name}`",
            )
    validation, test = split.validation_fraction, split.test_fraction
    if validation is None:
        validation = 0.0 if "validation" in there else DEFAULT_FRACTION
    if test is None:
        test = 0.0 if there & {"validation", "test"} else DEFAULT_FRACTION
    if not validation and "validation" not in there:
        raise KftError(
            "`split.validation_fraction = 0` leaves no validation examples to choose the best epoch by",
            "set `data.validation`, or a share above 0",
        )
    if validation + test >= 1:
        raise KftError(
            f"shares of {validation} for validation and {test} for test leave nothing to train on",
            "set `split.validation_fraction` and `split.test_fraction`",
        )
    return {"validation": validation, "test": test}


def cut(
    train: pl.DataFrame, method: str, seed: int, shares: dict[str, float], shown: str, kind: Kind
) -> dict[str, pl.DataFrame]:
    """Train and the splits with a share → their rows, in file order.

    Rows with the same normalized text stay together, and so do the rows of a question.

    Args:
        train: clean rows with keys.
        method: stratified, random or hash.
        seed: of the order of the groups, or of the hash.
        shares: what `fractions` gave.
        shown: what messages call train.
        kind: of classes, every label keeps a row in train.

    Raises:
        KftError: a split gets no rows.
    """
    groups = train.group_by(TOGETHER, maintain_order=True).agg(
        pl.col("label").first(), pl.col("label").unique().alias("labels"), pl.len().alias("rows")
    )
    if method == "hash":
        places = _by_hash(groups[TOGETHER].to_list(), seed, shares)
    else:
        strata = groups["label"].to_list() if method == "stratified" else [""] * groups.height
        places = _by_quota(strata, groups["rows"].to_list(), seed, shares)
        if kind == "classification":
            places = _keep_labels(places, groups["labels"].to_list())
    placed = groups.select(TOGETHER, pl.Series("_place", places, dtype=pl.String))
    placed = train.join(placed, on=TOGETHER, how="left", maintain_order="left")
    wanted = ["train", *(name for name, share in shares.items() if share)]
    parts = {name: placed.filter(pl.col("_place") == name).drop("_place") for name in wanted}
    _check(parts, method, shown, kind)
    return parts


def _by_hash(keys: list[str], seed: int, shares: dict[str, float]) -> list[str]:
    """The hash of a text alone says where it goes, so that it stays there whatever rows come or go."""
    test, validation = shares["test"], shares["test"] + shares["validation"]
    places = []
    for key in keys:
        digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
        point = int.from_bytes(digest[:8], "big") / 2**64
        places.append("test" if point < test else "validation" if point < validation else "train")
    return places


def _by_quota(strata: list[str], rows: list[int], seed: int, shares: dict[str, float]) -> list[str]:
    """Groups in a random order fill the quotas that validation and test have in each stratum."""
    sizes: dict[str, int] = {}
    for stratum, count in zip(strata, rows, strict=True):
        sizes[stratum] = sizes.get(stratum, 0) + count
    spare = {stratum: size - 1 for stratum, size in sizes.items()}  # one row at least stays in train
    quotas = {}
    for name, share in shares.items():
        quotas[name] = _quotas(sizes, spare, share)
        spare = {stratum: spare[stratum] - quotas[name][stratum] for stratum in spare}
    # RandomState and not default_rng: NumPy promises that its stream never changes. It takes words of 32 bits.
    words = [seed >> shift & 0xFFFFFFFF for shift in range(0, max(seed.bit_length(), 1), 32)]
    places = ["train"] * len(rows)
    for group in np.random.RandomState(words).permutation(len(rows)).tolist():
        for name, quota in quotas.items():
            if rows[group] <= quota[strata[group]]:
                quota[strata[group]] -= rows[group]
                places[group] = name
                break
    return places


def _quotas(sizes: dict[str, int], spare: dict[str, int], share: float) -> dict[str, int]:
    """Stratum → rows, in proportion to its size, by largest remainders; one row in all at least."""
    if not share:
        return dict.fromkeys(sizes, 0)
    total = max(1, round(sum(sizes.values()) * share))
    quotas = {stratum: min(int(size * share), spare[stratum]) for stratum, size in sizes.items()}
    for stratum in sorted(sizes, key=lambda s: (-(sizes[s] * share % 1), -sizes[s], s)):
        if sum(quotas.values()) < total and quotas[stratum] < spare[stratum]:
            quotas[stratum] += 1
    return quotas


def _keep_labels(places: list[str], labels: list[list[str]]) -> list[str]:
    """The places, with the groups in train that have a label which train would otherwise lack."""
    there = {
        label for place, group in zip(places, labels, strict=True) if place == "train" for label in group
    }
    return [
        place if there.issuperset(group) else "train" for place, group in zip(places, labels, strict=True)
    ]


def _check(parts: dict[str, pl.DataFrame], method: str, shown: str, kind: Kind) -> None:
    rows = sum(part.height for part in parts.values())
    for name, part in parts.items():
        if part.is_empty():
            without = ", or do without: `split.test_fraction = 0`" if name == "test" else ""
            raise KftError(
                f"{shown}: cutting {rows} rows (`split.method` = {method}) leaves {name} empty",
                f"set `data.{name}` or other fractions in `split`{without}; rows with one text stay together",
            )
    if kind == "classification":
        known = parts["train"]["label"].unique().implode()
        strange = pl.concat(parts.values()).filter(~pl.col("label").is_in(known))
        if strange.height:
            raise KftError(
                f"{shown}: cutting (`split.method` = {method}) leaves no row of label {strange['label'][0]} in train",
                '`split.method = "stratified"` keeps one of each label there',
            )
