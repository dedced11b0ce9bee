"""What is written of an answer: a line of `kft predict`, and in a few words."""

import json
from typing import Any

import numpy as np

from kft.tasks.question_answering.candidates import of_row
from kft.tasks.question_answering.golds import NONE
from kft.tasks.record import Learned, Written

LEAST_DOUBT = -1e9  # JSON has no infinite numbers
_SPAN = {
    "start": "its first character in the context, counted from 0",
    "end": "the character after its last",
}
_BEST = {
    "answer": {"type": "string"},
    **{name: {"type": "integer", "description": meaning} for name, meaning in _SPAN.items()},
    "score": {"type": "number", "description": "its probability"},
}
# Of an answer's fields, for those who read it as JSON.
SCHEMA = {
    "answer": {"type": "string", "description": "empty where the context has none"},
    **{
        name: {"type": ["integer", "null"], "description": f"{meaning}; null without an answer"}
        for name, meaning in _SPAN.items()
    },
    "score": {"type": "number", "description": "probability of the answer, or of none"},
    "none_score": {
        "type": ["number", "null"],
        "description": "probability of no answer; null where the model always gives one",
    },
    "best": {
        "type": "array",
        "description": "the likeliest answers, the likeliest first",
        "items": {"type": "object", "properties": _BEST},
    },
}


def answer(row: dict[str, Any], learned: Learned) -> dict[str, Any]:
    """The best answer with its characters in the context; an empty one where there is none."""
    own = of_row(row)
    best = [
        {"answer": text, "start": start, "end": end, "score": float(np.exp(score))}
        for text, (start, end), score in zip(own.texts, own.spans, own.scores, strict=True)
    ]
    none = {"answer": "", "start": None, "end": None, "score": own.probability}
    first = best[0] if own.answered else none
    more = {} if learned.none_above is None else {"none_score": float(np.exp(own.none))}
    return first | more | {"best": best}


def key(row: dict[str, Any]) -> str:
    """The id of a question: its own, else the number of its row."""
    own = row.get("key")
    return str(row["id"] if own is None else own)


def _pair(row: dict[str, Any], value: Any) -> str:
    return f"{json.dumps(key(row), ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"


def _best(row: dict[str, Any], learned: Learned) -> str:
    return _pair(row, row["answer"])


def _doubt(row: dict[str, Any], learned: Learned) -> str:
    return _pair(row, max(of_row(row).doubt, LEAST_DOUBT))


# What the official scripts of SQuAD take: {id: answer}, and {id: score of no answer}, their option
# --na-prob-file, of which the higher says that there is none.
SQUAD = Written(_best, "{", ",\n", "}\n", key)
SQUAD_NONE = Written(_doubt, "{", ",\n", "}\n", key)


def in_words(answer: dict[str, Any]) -> str:
    return f"{answer['answer']!r} ({answer['score']:.2f})" if answer["answer"] else NONE
