"""Right answers in a context: how a row's label spells them, what a file may write."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_BEGIN = '{"answers": '


@dataclass(frozen=True)
class Gold:
    """A right answer: its words, and its first character in the context; None where unknown."""

    text: str
    start: int | None = None

    @property
    def end(self) -> int | None:
        """The character after its last one."""
        return None if self.start is None else self.start + len(self.text)

    def stands_in(self, context: str) -> bool:
        """Whether the context has these very words at this place."""
        return self.start is not None and self.start >= 0 and context[self.start : self.end] == self.text


def written(golds: Iterable[Gold]) -> str:
    """The label of a row: {"answers": [[text, start or null], …]}; none is an empty list."""
    return json.dumps({"answers": [[gold.text, gold.start] for gold in golds]}, ensure_ascii=False)


def golds_in(label: str | None) -> list[Gold] | None:
    """The right answers that `written` wrote; None where a label is none."""
    if label is None or not label.startswith(_BEGIN):
        return None
    try:
        return [Gold(text, start) for text, start in json.loads(label)["answers"]]
    except (ValueError, TypeError):
        return None


def located(golds: Iterable[Gold]) -> list[Gold]:
    """Those whose place is known."""
    return [gold for gold in golds if gold.start is not None]


def golds_of(value: Any) -> list[Gold]:
    """The answers of a field, as SQuAD or `datasets` write them, or as plain words.

        [{"text": "Paris", "answer_start": 3}, …]    {"text": ["Paris"], "answer_start": [3]}
        "Paris"    ["Paris", "the town"]    []

    `start` may stand for `answer_start`. None, an empty word and an empty list are no answer.

    Raises:
        ValueError: it holds something else.
    """
    if isinstance(value, dict):
        value = _rows(value)
    if value is None or isinstance(value, str):
        value = [value or ""]
    if not isinstance(value, list):
        raise ValueError(f"answers must be a list, got: {_shown(value)}")
    golds = [_gold(item) for item in value]
    return [gold for gold in golds if gold.text.strip()]


def _rows(value: dict[str, Any]) -> list[Any]:
    """{"text": [a, b], "answer_start": [1, 2]} as a list of objects; one object as it is."""
    texts = value.get("text")
    if not isinstance(texts, list):
        return [value]
    starts = value.get("answer_start", value.get("start", [None] * len(texts)))
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise ValueError(f"answers must have as many starts as texts, got: {_shown(value)}")
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]


def _gold(item: Any) -> Gold:
    if isinstance(item, str):
        return Gold(item)
    if isinstance(item, dict):
        text, start = item.get("text"), item.get("answer_start", item.get("start"))
        if isinstance(start, float) and start.is_integer():
            start = int(start)
        if isinstance(text, str) and (start is None or (isinstance(start, int) and start is not True)):
            return Gold(text, start)
    raise ValueError(f"an answer must be a text with its answer_start, got: {_shown(item)}")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]
