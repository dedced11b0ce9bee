"""What is written of an answer: a line of `kft predict`, and in a few words."""

from typing import Any

import numpy as np

from kft.tasks.question_answering.candidates import is_none, of_row, probability
from kft.tasks.record import Learned


def answer(row: dict[str, Any], learned: Learned) -> dict[str, Any]:
    """The best answer with its characters in the context; an empty one where there is none."""
    own = of_row(row)
    best = [
        {"answer": text, "start": start, "end": end, "score": float(np.exp(score))}
        for text, (start, end), score in zip(own.texts, own.spans, own.scores, strict=True)
    ]
    none = {"answer": "", "start": None, "end": None, "score": probability(own, learned)}
    first = none if is_none(own, learned) else best[0]
    more = {} if learned.none_above is None else {"none_score": float(np.exp(own.none))}
    return first | more | {"best": best}


def in_words(answer: dict[str, Any]) -> str:
    return f"{answer['answer']!r} ({answer['score']:.2f})" if answer["answer"] else "no answer"
