"""Questions whose right answers are probably wrong, by confident learning."""

from typing import Any

import numpy as np
import polars as pl

from kft.metrics import answers
from kft.tasks.question_answering import golds
from kft.tasks.question_answering.candidates import Candidates, read, right_probability
from kft.tasks.record import Doubt, Learned


def issues(table: pl.DataFrame, learned: Learned) -> list[Doubt]:
    """The doubtful questions, those whose right answers have the least probability first.

    Confident learning (Northcutt et al. 2021) for two kinds of questions, with an answer and
    without; cleanlab has no such search. A question is doubtful where the model answers otherwise,
    and is as sure of it as it is on average of the right answers of such questions. One that the
    file gives an answer to, not in the context, is doubtful like any other.
    """
    given, truths = read(table, learned), golds.truths(table["target"], learned)
    right = np.array([right_probability(*pair) for pair in zip(given, truths, strict=True)], np.float64)
    # Of all candidates with the words of the answer, as that of the right ones.
    sure = [right_probability(own, (own.answer,)) for own in given]
    empty = np.array([answers.right_ones(own) == [""] for own in truths], bool)
    # Of a kind without rows nothing is known, so that it is never suggested.
    usual = {kind: right[empty == kind].mean() if (empty == kind).any() else np.inf for kind in (False, True)}
    doubtful = [
        n
        for n, (own, gold) in enumerate(zip(given, truths, strict=True))
        if sure[n] >= usual[not own.answer] and not answers.exact_match(own.answer, gold)
    ]
    ranked = sorted(doubtful, key=lambda n: right[n])
    return [_doubt(n, table["target"][n], given[n], float(right[n])) for n in ranked]


def _doubt(row: int, target: str, own: Candidates, probability: float) -> Doubt:
    start, end = own.spans[0] if own.answered else (None, None)
    more: dict[str, Any] = {"label": golds.said(target), "start": start, "end": end}
    return Doubt(row, own.answer or golds.NONE, probability, more)
