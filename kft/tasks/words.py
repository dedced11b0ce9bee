"""Words of a text and the tags on them: where words stand, what tags say, which may follow."""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

OUTSIDE = "O"
PREFIXES = frozenset("BIESLU")
Spans = list[tuple[int, int]]  # of words: first character, the one after the last
Tags = list[str | None]  # of words; None where nobody can say
_AS_IOBES = {"L": "E", "U": "S"}
_CJK = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip
_SPACE, _ALONE, _PART = range(3)


def split(text: str) -> Spans:
    """The words of a text as BERT's pre-tokenizer parts them.

    White space parts them; each punctuation mark and each CJK ideograph is a word of its own.
    """
    spans, start = [], None
    for i, character in enumerate(text):
        kind = _kind(character)
        if kind == _PART:
            start = i if start is None else start
            continue
        if start is not None:
            spans.append((start, i))
            start = None
        if kind == _ALONE:
            spans.append((i, i + 1))
    return spans if start is None else [*spans, (start, len(text))]


@cache
def _kind(character: str) -> int:
    point, category = ord(character), unicodedata.category(character)
    if character.isspace() or category in ("Zs", "Zl", "Zp", "Cc"):
        return _SPACE
    ascii_sign = point < 128 and not character.isalnum()
    cjk = any(low <= point <= high for low, high in _CJK)
    return _ALONE if ascii_sign or category[0] == "P" or cjk else _PART


def joined(words: Sequence[str]) -> tuple[str, Spans]:
    """Words as one text, a space between two, and where each stands in it."""
    spans, end = [], -1
    for word in words:
        start = end + 1
        end = start + len(word)
        spans.append((start, end))
    return " ".join(words), spans


# The columns of a frame: "words" [[first character, the one after the last], …] where a file parts
# the words itself, and "label" {"tags": [tag or null, …]}.


def written_spans(spans: Spans) -> str:
    return json.dumps(spans, separators=(",", ":"))


def spans_of(text: str | None, words: str | None) -> Spans:
    """Where the words of a row stand: as its file parts them, else as `split` does."""
    return split(text or "") if words is None else [(start, end) for start, end in json.loads(words)]


def written_tags(tags: Iterable[str | None]) -> str:
    return json.dumps({"tags": list(tags)}, ensure_ascii=False)


def tags_in(label: str) -> Tags | None:
    """The tags that `written_tags` wrote; None where a label is none."""
    if not label.startswith('{"tags": '):
        return None
    try:
        return json.loads(label)["tags"]
    except (ValueError, KeyError):
        return None


# What tags say.


def parts(tag: str) -> tuple[str, str]:
    """(prefix, type): ("B", "PER") of B-PER, ("O", "") of O, ("", "PER") without a prefix."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if tag[:1] in PREFIXES and tag[1:2] in ("-", ""):
        return tag[0], tag[2:] or "_"
    return "", tag


def normal(tag: str, plain: str) -> str:
    """A tag with a prefix of IOBES: L and U become E and S, and tags without one get `plain`."""
    prefix, kind = parts(tag)
    return OUTSIDE if prefix == OUTSIDE else f"{_AS_IOBES.get(prefix, prefix) or plain}-{kind}"


def types(tags: Iterable[str]) -> set[str]:
    """The types of entity that tags name."""
    return {parts(tag)[1] for tag in tags} - {""}


def plain_prefix(tags: Iterable[str]) -> str:
    """What stands for the prefix of tags without one: "I" or "S".

    "I" where words lie outside entities, so that neighbours of one type are one entity, else
    "S", each word by itself (parts of speech).
    """
    return "I" if OUTSIDE in tags else "S"


def scheme_of(rows: Sequence[Sequence[str | None]]) -> str | None:
    """The scheme of tagged sentences: "IOB2", "IOB1", "IOBES", "BILOU", or None without prefixes.

    IOB1 begins an entity with I, and with B only where one of its type ends just before.
    """
    prefixes = {parts(tag)[0] for row in rows for tag in row if tag is not None} - {OUTSIDE}
    if not prefixes - {""}:
        return None
    if prefixes & {"L", "U"}:
        return "BILOU"
    if prefixes & {"E", "S"}:
        return "IOBES"
    return "IOB1" if "I" in prefixes and not any(map(_begins_alone, rows)) else "IOB2"


def _begins_alone(row: Sequence[str | None]) -> bool:
    """Whether some B tag follows no entity of its type."""
    before = ("O", "")
    for tag in row:
        now = parts(tag or OUTSIDE)
        if now[0] == "B" and before[1] != now[1]:
            return True
        before = now
    return False


def misplaced(tags: Sequence[str | None], scheme: str | None) -> Iterator[int]:
    """The places of tags that cannot follow the tag before them.

    The end of a row is place len(tags), where an entity must not be left open.
    """
    if scheme is None or scheme == "IOB1":  # where everything may follow
        return
    closing = scheme != "IOB2"  # whether the last word of an entity has a prefix of its own
    opened: str | None = None  # type of the entity that may go on
    for i, tag in enumerate([*tags, OUTSIDE]):
        if tag is None:
            opened = None
            continue
        prefix, kind = parts(tag)
        inside = prefix in ("I", "E", "L")
        if (inside and kind != opened) or (not inside and opened is not None and closing):
            yield i
        opened = kind if prefix in ("B", "I") else None


# Entities as characters → tags.


@dataclass(frozen=True)
class Entity:
    """A part of a text: its first character, the one after its last, and its type."""

    start: int
    end: int
    label: str

    def words(self) -> str:
        return f"{self.label} from {self.start} to {self.end}"


def entities_in(value: Any) -> list[Entity]:
    """The entities of a field: objects with start, end, label, or lists of these, or three lists.

    Raises:
        ValueError: it holds something else.
    """
    if value is None:
        return []
    if isinstance(value, dict):
        columns = [value.get(key) for key in ("start", "end", "label")]
        if not all(isinstance(column, list) for column in columns):
            raise ValueError("no lists start, end and label")
        value = [list(item) for item in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise ValueError("no list")
    return [_entity(item) for item in value]


def _entity(item: Any) -> Entity:
    values = item
    if isinstance(item, dict):
        names = item.get("labels")  # Label Studio's list of one
        label = names[0] if isinstance(names, list) and len(names) == 1 else item.get("label")
        values = [item.get("start"), item.get("end"), label]
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"an entity that is no (start, end, label): {json.dumps(item, ensure_ascii=False)}")
    start, end, label = values
    whole = all(isinstance(place, int) and not isinstance(place, bool) for place in (start, end))
    if not whole or not isinstance(label, str) or not label.strip():
        raise ValueError(f"an entity that is no (start, end, label): {json.dumps(item, ensure_ascii=False)}")
    return Entity(start, end, label.strip())


def tags_of_entities(spans: Spans, entities: Sequence[Entity]) -> tuple[Tags, list[tuple[str, Entity]]]:
    """Tags in IOB2, and (what is wrong, entity) for those that overlap or cut a word.

    The words that such an entity touches have no tag.
    """
    touched = [
        [i for i, (start, end) in enumerate(spans) if start < entity.end and end > entity.start]
        for entity in entities
    ]
    owners = [0] * len(spans)
    for places in touched:
        for i in places:
            owners[i] += 1
    tags: Tags = [OUTSIDE] * len(spans)
    problems = []
    for entity, places in zip(entities, touched, strict=True):
        if not places:
            problems.append(("holds no word", entity))
        elif any(owners[i] > 1 for i in places):
            problems.append(("overlaps another", entity))
        elif spans[places[0]][0] < entity.start or spans[places[-1]][1] > entity.end:
            problems.append(("cuts a word", entity))
        else:
            tags[places[0]] = f"B-{entity.label}"
            for i in places[1:]:
                tags[i] = f"I-{entity.label}"
            continue
        for i in places:
            tags[i] = None
    return tags, problems
