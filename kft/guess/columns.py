"""What a column looks like: names, scores, texts, lists of labels, numbers of rows."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kft.data.sources import annotated
from kft.guess.tables import Table, is_number

FEW = 150  # classes at most, beyond which a column of words is no label
LABEL_NAMES = (
    "label gold_label label_name label_text labels class category target sentiment intent emotion topic polarity "
    "stars rating score similarity quality is_duplicate stance tag tags y answer"
).split()
ID_NAMES = re.compile(
    r"(^|[\W_])(id|idx|index|guid|uuid|url|date|time|timestamp|version|user|author|row|unnamed.*|#\d id)$",
    re.I,
)
TEXT_NAMES = (
    "text sentence review content body message tweet comment utterance document passage article description "
    "question premise sentence1 question1 text_a text1 query string"
).split()

DATE = re.compile(r"\d{1,4}([-./])\d{1,2}\1\d{1,4}([ T].*)?")
WITH_COMMA = re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?|nan", re.I)
# Columns that annotation programs add of themselves.
OF_PROGRAMS = set(
    "annotator annotation_id created_at updated_at lead_time agreement inner_id total_annotations cancelled_annotations "
    "total_predictions comment_count unresolved_comment_count comments project updated_by file_upload".split()
)


@dataclass(frozen=True)
class Column:
    """One column of a table's beginning.

    Attributes:
        name: its number where there is no header.
        values: one of each row.
        was_list: whether the values stood in lists of one.
        had_comma: whether the values are numbers that were written with a decimal comma.
    """

    name: str | int
    values: list[Any]
    was_list: bool = False
    had_comma: bool = False

    @property
    def word(self) -> str:
        return str(self.name).strip().lower().replace(" ", "_").replace("-", "_")

    @cached_property
    def present(self) -> list[Any]:
        """The values that are not missing."""
        return [value for value in self.values if value is not None and value != ""]

    @cached_property
    def is_list(self) -> bool:
        return bool(self.present) and all(isinstance(value, list) for value in self.present)

    @cached_property
    def unlisted(self) -> "Column":
        """The same of names, where every value is a list of one name or none."""
        if not self.is_list or any(
            len(value) > 1 or isinstance(value[0], list | dict) for value in self.present if value
        ):
            return self
        return Column(self.name, [next(iter(value), None) if value else None for value in self.values], True)

    @cached_property
    def with_points(self) -> "Column":
        """The same of numbers, where they have a decimal comma: "1.234,5" is 1234.5."""
        strings = all(isinstance(value, str) for value in self.present)
        if not strings or not any("," in value for value in self.present) or self.separator:
            return self
        if not all(WITH_COMMA.fullmatch(value.strip()) for value in self.present):
            return self
        values = [value and value.replace(".", "").replace(",", ".") for value in self.values]
        return Column(self.name, values, had_comma=True)

    @cached_property
    def is_plain(self) -> bool:
        """Whether every value is a string, number or boolean."""
        return bool(self.present) and not any(isinstance(value, list | dict) for value in self.present)

    @cached_property
    def is_number(self) -> bool:
        return self.is_plain and all(map(is_number, self.present))

    @cached_property
    def is_date(self) -> bool:
        return bool(self.present) and all(DATE.fullmatch(str(value).strip()) for value in self.present)

    @cached_property
    def is_whole(self) -> bool:
        return self.is_number and all(float(value).is_integer() for value in self.present)

    @cached_property
    def is_text(self) -> bool:
        """Whether it holds words that people wrote, not names of classes or marks."""
        if not self.is_plain or self.is_number or any(not isinstance(value, str) for value in self.present):
            return False
        if ID_NAMES.search(self.word) or not self.has_words:
            return False
        return self.word in TEXT_NAMES or len(self.counts) > 0.3 * len(self.present) or self.length > 60

    @cached_property
    def has_words(self) -> bool:
        """Whether most values are more than one code, such as `edgurhb`, even without spaces."""
        words = sum(" " in value.strip() or not value.isascii() for value in self.present)
        return words > 0.3 * len(self.present)

    @cached_property
    def counts(self) -> Counter:
        """How often each value occurs, spelled as text."""
        return Counter(str(value).strip() for value in self.present)

    @cached_property
    def length(self) -> float:
        """Characters of a value on average."""
        return sum(len(str(value)) for value in self.present) / max(len(self.present), 1)

    @cached_property
    def separator(self) -> str | None:
        """What parts several labels in one string: few parts, in ever other company."""
        if not self.is_plain or any(not isinstance(value, str) for value in self.present):
            return None
        for mark in (",", ";", "|", "#"):
            joined = [value for value in self.counts if mark in value]
            parts = Counter(part.strip() for value in self.counts for part in value.split(mark))
            alone = {value for value in self.counts if mark not in value}
            known = sum(part.strip() in alone for value in joined for part in value.split(mark))
            total = sum(len(value.split(mark)) for value in joined)
            short = all(len(part) <= 40 for part in parts)
            if joined and short and len(parts) <= FEW and known > 0.7 * total:
                return mark
        return None

    @property
    def is_key(self) -> bool:
        """Whether it only numbers the rows."""
        if ID_NAMES.search(self.word):
            return len(self.counts) > FEW or len(self.counts) > 0.5 * len(self.present)
        return self.is_whole and len(self.counts) == len(self.present) > 10

    @property
    def display_name(self) -> str:
        return f"`{self.name}`" if isinstance(self.name, str) else f"column {self.name}"


def columns_of(table: Table) -> list[Column]:
    return [Column(name, _sets(table.column(name))) for name in table.columns]


def _sets(values: list[Any]) -> list[Any]:
    """The values; where some are several choices of an annotation program all as lists."""
    sets = [annotated.choices(value) for value in values]
    if all(names is None for names in sets):
        return values
    missing = (None, "")
    plain = ([value] if value not in missing else None for value in values)
    return [one if names is None else names for one, names in zip(plain, sets, strict=True)]


def label_score(column: Column) -> float:
    """How much a column looks like a label; below 0 it is none."""
    if not column.present or (not column.is_plain and not column.is_list) or column.word in OF_PROGRAMS:
        return -1
    if column.is_date:
        return -1
    named = column.word in LABEL_NAMES
    partly = bool(set(column.word.split("_")) & set(LABEL_NAMES[:16]))
    score = 4 - LABEL_NAMES.index(column.word) / 20 if named else 1.5 if partly else 0
    if column.is_list:
        scalars = all(not isinstance(item, list | dict) for value in column.present for item in value)
        return score + 0.5 if scalars else -1
    if column.is_number and not column.is_whole:
        return score + 1
    distinct, rows = len(column.counts), len(column.present)
    if distinct < 2:
        return -1
    if column.is_key and not named:
        return -1
    if column.is_text and not named and column.separator is None:
        return -1
    if distinct <= max(2, min(FEW, rows / 2)) or column.separator:
        return score + 2 - min(distinct / FEW, 1)
    return score if column.is_number else score - 2
