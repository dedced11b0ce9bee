"""Cuts validation and test off train: stratified, random, by the text's hash, or by time."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import polars as pl

from kft.config import SplitConfig
from kft.data.splits import blocks, iterative, times
from kft.errors import KftError
from kft.tasks.record import Labels

DEFAULT_FRACTION = 0.1


@dataclass(frozen=True)
class Method:
    """One way to cut.

    Attributes:
        place: (units, section `split`, shares, whether rows have several labels to stratify by) →
            "train", "validation" or "test" of each unit, a block of rows that stay together.
        deal: (units, section `split`, the same) → fold of each unit, from 0; None where a cut has
            no folds.
        mended: whether a unit may go elsewhere, so that each label has a row in train and no split
            is empty.
    """

    place: Callable[[pl.DataFrame, SplitConfig, dict[str, float], bool], list[str]]
    deal: Callable[[pl.DataFrame, SplitConfig, bool], list[int]] | None = None
    mended: bool = True


def fractions(present: set[str], split: SplitConfig) -> dict[str, float]:
    """Validation and test → share of train that is cut off for it.

    Args:
        present: the splits that have rows of their own.
        split: the shares that the user wants.

    Raises:
        KftError: a share for a split that has rows, no validation at all, or nothing left to train
        on.
    """
    for name in ("validation", "test"):
        if name in present and getattr(split, f"{name}_fraction"):
            raise KftError(
                f"`split.{name}_fraction` is set, and the data has a {name} split of its own",
                f"leave out `split.{name}_fraction`, or `data.{name}`",
            )
    validation, test = split.validation_fraction, split.test_fraction
    if split.folds is not None:
        if "validation" in present:
            raise KftError(
                "`split.folds` makes each part of train validation once, and the data has a validation split of its own",
                "leave `split.folds` out",
            )
        return {"validation": 1 / split.folds, "test": test or 0.0}
    if validation is None:
        validation = 0.0 if "validation" in present else DEFAULT_FRACTION
    if test is None:
        test = 0.0 if present & {"validation", "test"} else DEFAULT_FRACTION
    if not validation and "validation" not in present:
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
    split: SplitConfig,
    method: str,
    shares: dict[str, float],
    train_name: str,
    rules: Labels,
) -> dict[str, pl.DataFrame]:
    """Train and the splits with a share → their rows, in file order.

    Rows with the same normalized text stay together, and so do the rows of a question and of a
    group.

    Args:
        train: clean rows with keys.
        split: seed, and folds of a cross-validation, into which what test leaves is dealt alike for
            every fold.
        method: a key of `METHODS`.
        shares: what `fractions` gave.
        train_name: what messages call train.
        rules: of labels; of names, each keeps a row in train.

    Raises:
        KftError: a split gets no rows.
    """
    units = blocks.blocks(train)
    if rules.names:
        names = {label: list(rules.names(label)) for label in train["label"].unique()}
        sets = [[name for label in block for name in names[label]] for block in units["labels"].to_list()]
        units = units.with_columns(pl.Series("labels", sets, pl.List(pl.String)))
    if method != "stratified":
        units = units.with_columns(label=pl.lit(""), strata=pl.col("labels").list.eval(pl.lit("")))
    several, kind = rules.several and method == "stratified", METHODS[method]
    if split.folds:
        places = _folded(units, split, kind, shares["test"], several)
    else:
        places = kind.place(units, split, shares, several)
    if kind.mended and rules.names:
        places = _keep_labels(places, units["labels"].to_list())
    if kind.mended:
        places = _fill(places, units, shares, split.seed)
    placed = units.select(blocks.BLOCK, pl.Series("_place", places, dtype=pl.String))
    placed = train.with_columns(blocks.block_of(train)).join(
        placed, on=blocks.BLOCK, how="left", maintain_order="left"
    )
    wanted = ["train", *(name for name, share in shares.items() if share)]
    parts = {name: placed.filter(pl.col("_place") == name).drop("_place", blocks.BLOCK) for name in wanted}
    _check(parts, split, method, train_name, rules)
    return parts


def _folded(units: pl.DataFrame, split: SplitConfig, method: Method, test: float, several: bool) -> list[str]:
    """Place of each block where one fold is validation."""
    tested = method.place(units, split, {"validation": 0.0, "test": test}, several)
    fold = (split.fold or 1) - 1
    return [
        "validation" if place == "train" and part == fold else place
        for place, part in zip(tested, method.deal(units, split, several), strict=True)
    ]


def _by_label(units: pl.DataFrame, split: SplitConfig, shares: dict[str, float], several: bool) -> list[str]:
    if split.group is None and not several:
        return _by_quota(units["label"].to_list(), units["rows"].to_list(), split.seed, shares)
    names = ["train", *(name for name, share in shares.items() if share)]
    sizes = [1 - sum(shares.values()), *(share for share in shares.values() if share)]
    parts = _spread(units, split, sizes, several)
    return [names[part] for part in parts]


def _folds_by_label(units: pl.DataFrame, split: SplitConfig, several: bool) -> list[int]:
    if split.group is None and not several:
        return _dealt(units["label"].to_list(), units["rows"].to_list(), split.seed, split.folds)
    return _spread(units, split, [1 / split.folds] * split.folds, several)


def _spread(units: pl.DataFrame, split: SplitConfig, shares: list[float], several: bool) -> list[int]:
    """Part of each block, so that every label is near its share."""
    order = _order(units.height, split.seed)
    if several:
        return iterative.spread(_strata(units), units["rows"].to_list(), shares, order)
    return blocks.balanced(_strata(units), shares, order)


def _strata(units: pl.DataFrame) -> list[list[str]]:
    return units["strata" if "strata" in units.columns else "labels"].to_list()


def _fill(places: list[str], units: pl.DataFrame, shares: dict[str, float], seed: int) -> list[str]:
    """The places, with a block of train of fitting size in each split that has none.

    A block stays in train where a label would be without any row there.
    """
    total = units["rows"].sum()
    for name, share in shares.items():
        if not share or name in places:
            continue
        labels = [set(block) for block in units["labels"].to_list()]
        counts = Counter(
            label for place, own in zip(places, labels, strict=True) if place == "train" for label in own
        )
        spare = [
            block
            for block in _order(units.height, seed, stream=2)
            if places[block] == "train" and all(counts[label] > 1 for label in labels[block])
        ]
        if spare:
            best = min(spare, key=lambda block: abs(units["rows"][block] - total * share))
            places = [name if block == best else place for block, place in enumerate(places)]
    return places


def _by_hash(units: pl.DataFrame, split: SplitConfig, shares: dict[str, float], several: bool) -> list[str]:
    """The hash of a text alone says where it goes, whatever rows come or go."""
    test, validation = shares["test"], shares["test"] + shares["validation"]
    points = (_point(f"{split.seed}\0{key}") for key in units["key"])
    return ["test" if point < test else "validation" if point < validation else "train" for point in points]


def _folds_by_hash(units: pl.DataFrame, split: SplitConfig, several: bool) -> list[int]:
    return [int(_point(f"{split.seed}\0fold\0{key}") * split.folds) for key in units["key"]]


def _point(key: str) -> float:
    """A number from 0 to 1 that the key alone decides."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _dealt(strata: list[str], rows: list[int], seed: int, folds: int) -> list[int]:
    """Fold of each group, from 0, at random to the fold with least of its stratum, then of all."""
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
    # RandomState and not default_rng: NumPy promises that its stream never changes. It takes words
    # of 32 bits.
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

    A split has one row in all at least, and one row at least of each stratum stays in train. A
    stratum without a row in validation keeps that claim for test, so that of many small classes
    other ones are scored in test.
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
    """Stratum → rows, `total` if there are as many: those with the largest claims.

    A claim is less by 1 for each row that its stratum has.

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
        in_train = {
            label for place, group in zip(places, labels, strict=True) if place == "train" for label in group
        }
        places = [
            "train" if place == left and not in_train.issuperset(group) else place
            for place, group in zip(places, labels, strict=True)
        ]
    return places


def _check(
    parts: dict[str, pl.DataFrame], split: SplitConfig, method: str, train_name: str, rules: Labels
) -> None:
    rows = sum(part.height for part in parts.values())
    together = "rows with one text stay together"
    if split.group is not None:
        together += f", and so do rows of one `{split.group}` (`split.group`)"
    for name, part in parts.items():
        if part.is_empty():
            without = ", or do without: `split.test_fraction = 0`" if name == "test" else ""
            raise KftError(
                f"{train_name}: cutting {rows} rows (`split.method` = {method}) leaves {name} empty",
                f"set `data.{name}` or other fractions in `split`{without}; {together}",
            )
    if rules.names:
        known = {name for label in parts["train"]["label"].unique() for name in rules.names(label)}
        others = pl.concat(parts.values())["label"].unique(maintain_order=True)
        strange = [name for label in others for name in rules.names(label) if name not in known]
        if strange:
            hint = '`split.method = "stratified"` keeps one of each label there'
            if method == "time":
                hint = "no model learns a label that appears later: leave such rows out, or cut without `split.time`"
            raise KftError(
                f"{train_name}: cutting (`split.method` = {method}) leaves no row of label {strange[0]} in train",
                hint,
            )


def _by_time(units: pl.DataFrame, split: SplitConfig, shares: dict[str, float], several: bool) -> list[str]:
    return times.by_time(units["moment"].to_list(), units["rows"].to_list(), shares)


METHODS = {
    "stratified": Method(_by_label, _folds_by_label),
    "random": Method(_by_label, _folds_by_label),  # as if all rows had one label
    "hash": Method(_by_hash, _folds_by_hash, mended=False),
    "time": Method(_by_time, mended=False),
}
