"""Questions whose right answers are probably wrong, by confident learning."""

from typing import Any

import numpy as np
import polars as pl

from kft.metrics import answers
from kft.tasks.question_answering import golds
from kft.tasks.question_answering.candidates import Candidates, read, right_probability
from kft.tasks.record import Doubt, Learned

LEAST_AGREED = 0.5  # share of answers, as sure, that must agree before others are doubted


def issues(table: pl.DataFrame, learned: Learned) -> list[Doubt]:
    """The doubtful questions, those whose right answers have the least probability first.

    In the manner of confident learning (Northcutt et al. 2021); cleanlab has no such search. The
    answers that share a word with a right one agree with the file, and so does none where there is
    none. A question is doubtful where the model does not agree, and is as sure as it is on average
    where it does: of an answer among answers, of none among none. A model that is wrong in most
    answers of which it is as sure doubts nothing.
    """
    given, truths = read(table, learned), golds.truths(table["target"], learned)
    right = [right_probability(*pair) for pair in zip(given, truths, strict=True)]
    # Of all candidates with the words of the answer, as that of the right ones.
    sure = np.array([right_probability(own, (own.answer,)) for own in given], np.float64)
    agrees = np.array([answers.f1(c.answer, own) > 0 for c, own in zip(given, truths, strict=True)], bool)
    empty = np.array([not own.answer for own in given], bool)
    doubtful: list[int] = []
    for kind in (empty, ~empty):
        if (kind & agrees).any():
            as_sure = kind & (sure >= sure[kind & agrees].mean())
            if agrees[as_sure].mean() >= LEAST_AGREED:
                doubtful += np.flatnonzero(as_sure & ~agrees).tolist()
    ranked = sorted(doubtful, key=lambda n: (right[n], n))
    return [_doubt(n, table["target"][n], given[n], right[n]) for n in ranked]


def _doubt(row: int, target: str, own: Candidates, probability: float) -> Doubt:
    start, end = own.spans[0] if own.answered else (None, None)
    more: dict[str, Any] = {"label": golds.said(target), "start": start, "end": end}
    return Doubt(row, own.answer or golds.NONE, probability, more)
