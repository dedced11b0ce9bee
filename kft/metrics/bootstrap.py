"""Scores of many bootstrap resamples at once, each equal to its namesake in `METRICS`.

S is the number of resamples, N of examples, C of classes, Z of occupied cells of a confusion
matrix.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kft.later import Later

sparse, stats = Later("scipy.sparse"), Later("scipy.stats")
MIN_UNITS = 10  # of fewer examples the resamples are too much alike
INTERVAL = (2.5, 97.5)  # percentiles of the resampled scores
CHUNK_CELLS = 2_000_000  # numbers in memory at a time


@dataclass(frozen=True)
class Draws:
    """How resamples are drawn.

    Attributes:
        seed: of the draws.
        resamples: S.
        groups: number of each example's group from 0 without gaps, int [N]: whole groups are drawn,
            since examples of one group are not independent (Davison and Hinkley 1997, section 3.8,
            whose first strategy this is); None where each example stands alone.
    """

    seed: int = 0
    resamples: int = 1000
    groups: np.ndarray | None = None


def drawn(kinds: np.ndarray, draws: Draws) -> Iterator[np.ndarray]:
    """How often resamples hold examples of each kind, [s, Z] at a time, S in all.

    Args:
        kinds: number of each example's kind from 0 without gaps, int [N]; examples of one kind are
            alike in all that is scored.
        draws: see there.
    """
    generator, total, count = np.random.default_rng(draws.seed), len(kinds), int(kinds.max(initial=-1)) + 1
    if draws.groups is None:
        shares = np.bincount(kinds) / total
        for size in chunks(draws.resamples, count):
            yield generator.multinomial(total, shares, size=size)
        return
    groups = int(draws.groups.max(initial=-1)) + 1
    members = sparse.csr_array((np.ones(total), (draws.groups, kinds)), shape=(groups, count))
    for size in chunks(draws.resamples, count + groups):
        yield generator.multinomial(groups, np.full(groups, 1 / groups), size=size) @ members


def intervals(
    resampled: dict[str, np.ndarray], units: int, right: int | None = None
) -> dict[str, list[float | None]]:
    """{metric: the ends of its 95 % percentile interval}, None where the resamples give none.

    They cannot where no resample has the score, where all have the same one, and of fewer than
    MIN_UNITS examples. A share of right answers then still has its exact interval (Clopper and
    Pearson 1934): of 40 right ones of 40, 0.91 to 1.

    Args:
        resampled: scores [S] of resamples.
        units: number of examples, questions or groups that were drawn.
        right: how many of them are answered right, where accuracy is among the scores.
    """
    result = {}
    for name, values in resampled.items():
        defined = values[np.isfinite(values)]
        known = units >= MIN_UNITS and len(defined) and defined.min() < defined.max()
        result[name] = np.percentile(defined, INTERVAL).tolist() if known else [None, None]
        if not known and right is not None and name == "accuracy" and units:
            result[name] = list(map(float, stats.binomtest(right, units).proportion_ci(method="exact")))
    return result


def chunks(resamples: int, cells: int) -> Iterator[int]:
    """Sizes that add up to `resamples`, of which one times `cells` fits in memory."""
    size = max(1, CHUNK_CELLS // max(cells, 1))
    yield from (min(size, resamples - done) for done in range(0, resamples, size))


def resampled(
    score: Callable[[np.ndarray], dict[str, np.ndarray]], total: int, cells: int, generator, resamples: int
) -> dict[str, np.ndarray]:
    """Scores [S] of resampled rows; {} without rows.

    Args:
        score: how often s resamples hold each row, float64 [s, N] → scores [s] by their names.
        total: N.
        cells: numbers that a resample takes in memory.
        generator: of the draws.
        resamples: S.
    """
    parts = []
    for size in chunks(resamples, cells) if total else ():
        counts = generator.multinomial(total, np.full(total, 1 / total), size=size).astype(np.float64)
        parts.append(score(counts))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def resampled_classes(
    targets: np.ndarray, predicted: np.ndarray, classes: int, generator, resamples: int
) -> dict[str, np.ndarray]:
    """Scores of resampled examples, from the confusion matrix, whose cells are multinomial.

    Args:
        targets, predicted: class ids [N].
        classes: C.
        generator: of the draws.
        resamples: S.
    """
    total = len(targets)
    if not total:
        return class_scores(*np.zeros((3, 0, classes)))
    cells, counts = np.unique(targets * classes + predicted, return_counts=True)
    rows, columns = np.divmod(cells, classes)  # [Z] cells that can be drawn
    frequencies = counts / total
    # [Z, 2C]: cell → its target and its predicted class, so that one product sums rows and columns.
    cell = np.arange(len(rows))
    sums = sparse.csr_array(
        (np.ones(2 * len(rows)), (np.r_[cell, cell], np.r_[rows, columns + classes])),
        shape=(len(rows), 2 * classes),
    )
    diagonal = rows == columns
    parts = []
    for size in chunks(resamples, len(rows) + 3 * classes):
        drawn = generator.multinomial(total, frequencies, size=size)  # [S, Z]
        support, chosen = np.split(drawn @ sums, 2, axis=1)  # each [S, C]
        right = np.zeros((size, classes))
        right[:, rows[diagonal]] = drawn[:, diagonal]
        parts.append(class_scores(right, support, chosen))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def class_scores(right: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [S] from the right predictions, targets and predictions of each class, each [S, C]."""
    total = support.sum(axis=1)
    occurs = support + predicted
    f1 = np.divide(2 * right, occurs, out=np.zeros_like(right), where=occurs > 0)
    # Matthews correlation of C classes (Gorodkin 2004), 0 where one side is constant, as in
    # scikit-learn.
    covariance = total * right.sum(axis=1) - (support * predicted).sum(axis=1)
    spread = (total**2 - (support**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    scores = {
        "accuracy": right.sum(axis=1) / total,
        "f1": f1[:, -1],
        "f1_macro": f1.sum(axis=1) / (occurs > 0).sum(axis=1),
        "matthews_correlation": np.divide(
            covariance, np.sqrt(spread), out=np.zeros_like(total), where=spread > 0
        ),
    }
    return {name: values for name, values in scores.items() if name != "f1" or right.shape[1] == 2}


def resampled_regression(targets, values, generator, resamples: int) -> dict[str, np.ndarray]:
    """Scores of resampled examples. A resample is a count for each example: no more sorting."""
    total = len(targets)
    if not total:
        return {name: np.array([]) for name in ("spearman", "pearson", "root_mean_squared_error")}
    parts = []
    for size in chunks(resamples, total):
        drawn = generator.integers(total, size=(size, total)) + total * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * total).reshape(size, total)
        parts.append(value_scores(targets, values, counts.astype(np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def value_scores(targets: np.ndarray, values: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [S] of resamples with counts [S, N] of the examples; nan where a side is constant."""
    total = counts.sum(axis=1)
    a, b = (
        _resampled_ranks(targets, counts),
        _resampled_ranks(values, counts),
    )  # centred at 0, exact in floats
    spread = (counts * a * a).sum(axis=1) * (counts * b * b).sum(axis=1)
    spearman = np.divide(
        (counts * a * b).sum(axis=1), np.sqrt(spread), out=np.full(len(total), np.nan), where=spread > 0
    )
    x, y = ((side - side.mean()) / (side.std() or 1) for side in (targets, values))
    x_mean, y_mean = counts @ x / total, counts @ y / total
    x_spread = np.maximum(counts @ (x * x) / total - x_mean**2, 0)
    y_spread = np.maximum(counts @ (y * y) / total - y_mean**2, 0)
    covariance = counts @ (x * y) / total - x_mean * y_mean
    pearson = np.full(len(total), np.nan)
    np.divide(
        covariance, np.sqrt(x_spread * y_spread), out=pearson, where=(spread > 0) & (x_spread * y_spread > 0)
    )
    return {
        "spearman": spearman,
        "pearson": np.clip(pearson, -1, 1),
        "root_mean_squared_error": np.sqrt(counts @ (targets - values) ** 2 / total),
    }


def _resampled_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mid-ranks [S, N] of the values within each resample, less their mean.

    values 0.1 0.4 0.4 0.9, counts 2 0 1 1:  ranks of 0.1 0.1 0.4 0.9 are 1.5 1.5 3 4, less 2.5: -1
    . 0.5 1.5
    """
    _, group = np.unique(values, return_inverse=True)  # [N] tied values share a group, in rising order
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    size = np.add.reduceat(counts[:, order], starts, axis=1)  # [S, G]
    middle = size.cumsum(axis=1) - (size - 1) / 2
    return (middle - (counts.sum(axis=1, keepdims=True) + 1) / 2)[:, group]


def label_scores(targets: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [S] of resamples with counts [S, N] of the examples; labels 0 or 1, each [N, C]."""
    right, total = targets * predicted, counts.sum(axis=1)
    hits, occurs = counts @ right, counts @ (targets + predicted)  # [S, C]
    sizes = (targets + predicted).sum(axis=1)
    own = np.divide(2 * right.sum(axis=1), sizes, out=np.zeros(len(sizes)), where=sizes > 0)  # [N]
    f1 = np.divide(2 * hits, occurs, out=np.zeros_like(hits), where=occurs > 0)
    both = occurs.sum(axis=1)
    return {
        "f1_micro": np.divide(2 * hits.sum(axis=1), both, out=np.zeros_like(both), where=both > 0),
        "f1_macro": f1.mean(axis=1),
        "f1_samples": counts @ own / total,
        "exact_match": counts @ (targets == predicted).all(axis=1) / total,
    }
