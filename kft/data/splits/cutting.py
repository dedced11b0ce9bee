"""Cuts validation and test off train: stratified by label, random, or by the hash of the text."""

import hashlib
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import polars as pl

from kft.config import SplitConfig
from kft.data.splits.cleaning import TOGETHER
from kft.data.splits.labels import Kind
from kft.errors import KftError

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
    if split.folds is not None:
        if "validation" in there:
            raise KftError(
                "`split.folds` makes each part of train validation once, and the data has a validation split of its own",
                "leave `split.folds` out",
            )
        return {"validation": 1 / split.folds, "test": test or 0.0}
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
    train: pl.DataFrame,
    method: str,
    seed: int,
    shares: dict[str, float],
    shown: str,
    kind: Kind,
    folds: int | None = None,
    fold: int = 1,
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
        folds: parts that what test leaves is dealt into, alike for every `fold`.
        fold: the part, from 1, that is validation.

    Raises:
        KftError: a split gets no rows.
    """
    groups = train.group_by(TOGETHER, maintain_order=True).agg(
        pl.col("label").first(), pl.col("label").unique().alias("labels"), pl.len().alias("rows")
    )
    strata = groups["label"].to_list() if method == "stratified" else [""] * groups.height
    keys, rows = groups[TOGETHER].to_list(), groups["rows"].to_list()
    if folds is not None:
        tested = {"validation": 0.0, "test": shares["test"]}
        places = _by_hash(keys, seed, tested) if method == "hash" else _by_quota(strata, rows, seed, tested)
        parts_of = _hash_folds(keys, seed, folds) if method == "hash" else _dealt(strata, rows, seed, folds)
        places = [
            "validation" if place == "train" and part == fold - 1 else place
            for place, part in zip(places, parts_of, strict=True)
        ]
    elif method == "hash":
        places = _by_hash(keys, seed, shares)
    else:
        places = _by_quota(strata, rows, seed, shares)
    if method != "hash" and kind == "classification":
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
    points = (_point(f"{seed}\0{key}") for key in keys)
    return ["test" if point < test else "validation" if point < validation else "train" for point in points]


def _hash_folds(keys: list[str], seed: int, folds: int) -> list[int]:
    return [int(_point(f"{seed}\0fold\0{key}") * folds) for key in keys]


def _point(key: str) -> float:
    """A number from 0 to 1 that the key alone decides."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _dealt(strata: list[str], rows: list[int], seed: int, folds: int) -> list[int]:
    """Fold of each group, from 0: in a random order, each to the fold that has least of its stratum, then of all."""
    sizes = {stratum: [0] * folds for stratum in strata}
    totals = [0] * folds
    dealt = [0] * len(rows)
    for group in _order(len(rows), seed):
        own = sizes[strata[group]]
        dealt[group] = min(range(folds), key=lambda fold: (own[fold], totals[fold], fold))
        own[dealt[group]] += rows[group]
        totals[dealt[group]] += rows[group]
    return dealt


def _by_quota(strata: list[str], rows: list[int], seed: int, shares: dict[str, float]) -> list[str]:
    """Groups in a random order fill the quotas that validation and test have in each stratum."""
    sizes: dict[str, int] = {}
    for stratum, count in zip(strata, rows, strict=True):
        sizes[stratum] = sizes.get(stratum, 0) + count
    quotas = _quotas(sizes, shares, _ranks(sizes, seed))
    places = ["train"] * len(rows)
    for group in _order(len(rows), seed):
        for name, quota in quotas.items():
            if rows[group] <= quota[strata[group]]:
                quota[strata[group]] -= rows[group]
                places[group] = name
                break
    return places


def _order(count: int, seed: int, stream: int = 0) -> list[int]:
    """A random order of so many groups; another one for each stream of a seed."""
    # RandomState and not default_rng: NumPy promises that its stream never changes. It takes words of 32 bits.
    words = [seed >> shift & 0xFFFFFFFF for shift in range(0, max(seed.bit_length(), 1), 32)]
    return np.random.RandomState(words + [stream] * (stream > 0)).permutation(count).tolist()


def _ranks(strata: Iterable[str], seed: int) -> dict[str, int]:
    """Strata → their places in a random order, which decides between equal claims to a row."""
    names = sorted(strata)
    return dict(zip(names, _order(len(names), seed, stream=1), strict=True))


def _quotas(
    sizes: dict[str, int], shares: dict[str, float], ranks: dict[str, int]
) -> dict[str, dict[str, int]]:
    """Validation and test → stratum → rows, in proportion to its size, by largest remainders.

    A split has one row in all at least, and one row at least of each stratum stays in train. A stratum without a row in
    validation keeps that claim for test, so that of many small classes other ones are scored in test.
    """
    spare = {stratum: size - 1 for stratum, size in sizes.items()}
    left = dict.fromkeys(sizes, Fraction(0))
    quotas = {}
    for name in ("validation", "test"):
        # Exact fractions, since the remainders of equal claims differ in the last bit of a float.
        share = Fraction(shares[name]).limit_denominator(10**6)
        claims = {stratum: left[stratum] + size * share for stratum, size in sizes.items()}
        quotas[name] = _largest_remainders(claims, spare, _rows_of(sizes, share), ranks)
        for stratum, count in quotas[name].items():
            spare[stratum] -= count
            left[stratum] = claims[stratum] if count == 0 else Fraction(0)
    return quotas


def _rows_of(sizes: dict[str, int], share: Fraction) -> int:
    return max(1, round(sum(sizes.values()) * share)) if share else 0


def _largest_remainders(
    claims: dict[str, Fraction], spare: dict[str, int], total: int, ranks: dict[str, int]
) -> dict[str, int]:
    """Stratum → rows, `total` in all where there are as many: those with the largest claims, each less by 1 for each row it has.

    These are whole claims, and then one row more for the largest remainders.
    """
    quotas = {stratum: max(0, min(int(claim), spare[stratum])) for stratum, claim in claims.items()}
    by_remainder = sorted(claims, key=lambda s: (quotas[s] - claims[s], ranks[s]))
    missing = total - sum(quotas.values())
    for stratum in by_remainder if missing > 0 else by_remainder[::-1]:
        if missing > 0 and quotas[stratum] < spare[stratum]:
            quotas[stratum], missing = quotas[stratum] + 1, missing - 1
        elif missing < 0 < quotas[stratum]:
            quotas[stratum], missing = quotas[stratum] - 1, missing + 1
    return quotas


def _keep_labels(places: list[str], labels: list[list[str]]) -> list[str]:
    """The places, with the groups in train that have a label which train would otherwise lack.

    Those of validation come first, so that test stays the same for all folds wherever it can.
    """
    for left in ("validation", "test"):
        there = {
            label for place, group in zip(places, labels, strict=True) if place == "train" for label in group
        }
        places = [
            "train" if place == left and not there.issuperset(group) else place
            for place, group in zip(places, labels, strict=True)
        ]
    return places


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
