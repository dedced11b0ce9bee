"""Paired tests of two models: McNemar's, the bootstrap of a difference; Holm's correction.

N is the number of examples, M of models, S of resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kft.metrics import bootstrap

EXACT_BELOW = 25  # discordant examples; from there on chi-square is close to the binomial
RESAMPLES = 10_000


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two proportions on the same examples.

    Attributes:
        first_only: examples that only the first model has right.
        second_only: those that only the second one has right.
        statistic: chi-square with one degree of freedom; None of an exact test.
        p_value: two-sided.
    """

    first_only: int
    second_only: int
    statistic: float | None
    p_value: float


@dataclass(frozen=True)
class Difference:
    """A difference of scores, second less first, and what resamples of the examples say of it.

    Attributes:
        value: on all examples.
        interval: 95 % of the resamples are between; (None, None) where they tell nothing.
        p_value: two-sided; None where resamples tell nothing.
    """

    value: float
    interval: tuple[float | None, float | None]
    p_value: float | None


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """Whether two models are right equally often, from where only one of them is (McNemar 1947).

    With fewer than 25 such examples the exact binomial test; else chi-square with Edwards'
    correction, (|b - c| - 1)² / (b + c), 0 where b = c (Edwards 1948; as R's `mcnemar.test`).

    Args:
        first_right, second_right: bool [N].
    """
    first_only = int((first_right & ~second_right).sum())
    second_only = int((second_right & ~first_right).sum())
    either = first_only + second_only
    if either < EXACT_BELOW:
        p_value = stats.binomtest(first_only, either, 0.5).pvalue if either else 1.0
        return McNemar(first_only, second_only, None, float(p_value))
    statistic = max(abs(first_only - second_only) - 1, 0) ** 2 / either
    return McNemar(first_only, second_only, statistic, float(stats.chi2.sf(statistic, 1)))


def difference(first: float, second: float, resampled: np.ndarray, units: int) -> Difference:
    """The difference of two scores, by the paired percentile bootstrap.

    Efron and Tibshirani 1993, chapters 13 and 16.

    The p-value is the smallest level at which the interval leaves out 0: twice the smaller share of
    the resamples on one side of 0, (count + 1) / (S + 1) as Davison and Hinkley 1997, section 4.2,
    so that it is never 0.

    Args:
        first, second: scores on all examples.
        resampled: the same on resamples, float [2, S].
        units: number of examples, questions or groups that were drawn; of fewer than MIN_UNITS
            resamples tell nothing.
    """
    differences = resampled[1] - resampled[0]
    differences = differences[np.isfinite(differences)]
    if not len(differences) or units < bootstrap.MIN_UNITS:
        return Difference(second - first, (None, None), None)
    low, high = np.percentile(differences, bootstrap.INTERVAL)
    sides = [np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0)]
    p_value = min(1.0, 2 * (min(sides) + 1) / (len(differences) + 1))
    return Difference(second - first, (float(low), float(high)), p_value)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values for several tests: any false positive at most at the level (Holm 1979)."""
    known = [i for i, p in enumerate(p_values) if p is not None]
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[i] * (len(known) - rank)))
        corrected[i] = highest
    return corrected
