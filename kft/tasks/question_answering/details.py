"""What stands behind the scores: intervals, counts, the worst mistakes."""

from functools import partial
from typing import Any

import numpy as np
import polars as pl

from kft.metrics import answers, bootstrap
from kft.metrics.answers import Answered
from kft.tasks.classification import mistakes_note
from kft.tasks.golds import golds_in
from kft.tasks.question_answering.candidates import of_row
from kft.tasks.question_answering.golds import NONE, said
from kft.tasks.record import Mistakes

SHOWN_CHARACTERS = 600  # of a context in a list of mistakes, around the answers


def details(targets, given: Answered, labels, generator, resamples: int) -> dict[str, Any]:
    total, score = len(given), partial(resampled, targets, given)
    drawn = bootstrap.resampled(score, total, 4 * total, generator, resamples)
    return {
        "examples": total,
        "without_answer": int((~given.has_answer).sum()),
        "intervals": bootstrap.intervals(drawn, total),
    }


def resampled(targets, given: Answered, counts: np.ndarray) -> dict[str, np.ndarray]:
    scores = answers.scores(given, counts)
    return {name: values for name, values in scores.items() if name != "answer_log_loss"}


def worst(table: pl.DataFrame, labels: list[str], most: int) -> Mistakes:
    """The questions answered wrong, those with the worst F1 and the surest answers first."""
    wrong = []
    for row in table.iter_rows(named=True):
        golds = golds_in(row["target"]) or []
        f1 = answers.f1(row["answer"], [gold.text for gold in golds])
        if f1 == 1:
            continue
        own = of_row(row)
        sure = float(own.scores[0]) if row["answer"] else own.none
        verdict = [
            ("chip target", said(row["target"]), None),
            ("muted", "answered with", None),
            ("chip wrong", row["answer"] or NONE, f"{np.exp(sure):.1%}"),
        ]
        places = [gold.start for gold in golds if gold.start is not None] + [a for a, _ in own.spans[:1]]
        context = _around(row["text_pair"] or "", places)
        wrong.append((f1, -sure, row | {"text_pair": context, "verdict": verdict}))
    first = sorted(wrong, key=lambda item: item[:2])[:most]
    return Mistakes("Worst mistakes", mistakes_note(len(wrong), len(first)), [row for *_, row in first])


def _around(context: str, places: list[int]) -> str:
    """The part of a context around some of its characters."""
    if len(context) <= SHOWN_CHARACTERS:
        return context
    middle = (min(places) + max(places)) // 2 if places else 0
    start = min(max(middle - SHOWN_CHARACTERS // 2, 0), len(context) - SHOWN_CHARACTERS)
    part = context[start : start + SHOWN_CHARACTERS]
    return ("…" if start else "") + part + ("…" if start + SHOWN_CHARACTERS < len(context) else "")
