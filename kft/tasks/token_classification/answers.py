"""Answers: the entities of a text, and their lines for conlleval."""

from typing import Any

import numpy as np

from kft.metrics import entities
from kft.tasks import words
from kft.tasks.record import Learned

# Of an answer's fields, for those who read it as JSON.
SCHEMA = {
    "entities": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "start": {"type": "integer", "description": "its first character, counted from 0"},
                "end": {"type": "integer", "description": "the character after its last"},
                "label": {"type": "string"},
                "text": {"type": "string"},
                "score": {"type": "number", "description": "mean probability of its words' tags"},
            },
        },
    }
}


def entities_of(
    text: str, given: str | None, tags: list[str], scores: list[float], labels: Any
) -> list[dict[str, Any]]:
    """The entities of a text, in its order, as conlleval reads the tags.

    Args:
        text: of the row.
        given: the column "words" of the row, None where the file does not part the words.
        tags, scores: of each word.
        labels: all tags that there are.

    Returns:
        [{"start", "end", "label", "text", "score"}], the score being the mean of the words'; with
        given words also "words", the first one's number from 0 and the one after the last.
    """
    spans, plain = words.spans_of(text, given), words.plain_prefix(labels)
    result = []
    for kind, first, last in entities.lenient([words.normal(tag, plain) for tag in tags]):
        start, end = spans[first][0], spans[last][1]
        entity = {
            "start": start,
            "end": end,
            "label": kind,
            "text": text[start:end],
            "score": float(np.mean(scores[first : last + 1])),
        }
        result.append(entity | ({} if given is None else {"words": [first, last + 1]}))
    return result


def answer(row: dict[str, Any], learned: Learned) -> dict[str, Any]:
    columns = (row["text"] or "", row.get("words"), row["tags"], row["scores"])
    return {"entities": entities_of(*columns, learned.labels)}


def conll(row: dict[str, Any], learned: Learned) -> str:
    """A line for each word, as conlleval wants it, parted by spaces.

    It has the word, its right tag where the row has one, and the predicted tag.
    """
    text = row["text"] or ""
    gold = words.tags_in(row.get("label") or "")
    columns = [[text[a:b] for a, b in words.spans_of(text, row.get("words"))]]
    columns += [[tag or words.OUTSIDE for tag in gold]] if gold is not None else []
    lines = zip(*columns, row["tags"], strict=True)
    return "".join(" ".join(map(_column, line)) + "\n" for line in lines) + "\n"


def _column(value: str) -> str:
    """A value without the spaces that part columns."""
    return "\u00a0".join(value.split()) or "_"


def in_words(answer: dict[str, Any]) -> str:
    return ", ".join(answer["entities"]) or "no entity"
