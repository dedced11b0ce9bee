"""A table → what kft would take for text, label and task, with reasons and alternatives."""

import re
from dataclasses import dataclass, field
from typing import Any

from kft.errors import KftError
from kft.guess.columns import LABEL_NAMES, TEXT_NAMES, Column, columns_of, label_score
from kft.guess.tables import Table
from kft.tasks import TASKS
from kft.tasks import words as tagging
from kft.tasks.problems import ANSWERS, MULTIPLE_CHOICE, ONE_CLASS, SEVERAL_CLASSES, TOKEN_CLASSES, VALUE

LEAST_MARKS = 3  # columns of 0 and 1 that are labels of a row, and no accident
STAR_SCALE = range(3, 12)  # as many whole numbers in a row may also be a scale
PAIRS = (
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("query", "passage"),
    ("query", "document"),
    ("text", "text_pair"),
    ("text", "text2"),
    ("sentence", "sentence2"),
)

# What the columns of answers in a context are called.
IN_CONTEXT = {
    "question": ("query",),
    "context": ("passage", "paragraph", "document"),
    "answers": ("answer",),
}

# What columns of words and of their tags are called, the likeliest first.
OF_WORDS = ("tokens", "words")
OF_TAGS = ("ner_tags", "tags", "ner", "labels", "entities", "pos_tags", "pos", "upos")


@dataclass(frozen=True)
class Decision:
    """One setting of the config.

    Attributes:
        setting: dotted name.
        value: None where the default or nothing is right.
        reason: why, in words.
        others: (setting, value, what it would mean) that may be meant instead; where there are any,
            it is unsure.
    """

    setting: str
    value: Any
    reason: str
    others: tuple[tuple[str, Any, str], ...] = ()


@dataclass(frozen=True)
class Guess:
    """What a config for some data would say."""

    decisions: list[Decision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def value(self, setting: str) -> Any:
        return next((d.value for d in self.decisions if d.setting == setting), None)


def guess(table: Table, task: str | None = None) -> Guess:
    """What the columns of a table are for.

    Args:
        table: the beginning of the training data.
        task: the user's own choice, which then counts.

    Raises:
        KftError: no column looks like a text, or none like a label.
    """
    answered = _answers(table, task)
    if answered is not None:
        return answered
    tagged = _tagged(table, task) or _marked(table, task)
    if tagged is not None:
        return tagged
    columns = [column.unlisted.with_points for column in columns_of(table)]
    labels = sorted((c for c in columns if label_score(c) > 0), key=label_score, reverse=True)
    texts = [c for c in columns if c.is_text and not (labels and c is labels[0])]
    if not texts:
        raise KftError(f"no column looks like a text{_seen(columns)}", "write a config by hand: `data.text`")
    marks = _marks(columns, labels, task)
    if marks:
        several = TASKS.of_problem(SEVERAL_CLASSES)
        names = ", ".join(c.display_name for c in marks[:4]) + (", …" if len(marks) > 4 else "")
        reason = f"{len(marks)} columns hold nothing but 0 and 1: {names}"
        texts = [c for c in texts if c not in marks]
        named = Decision("data.labels", [c.name for c in marks], "a row has the labels whose column is 1")
        return Guess([Decision("task", several, reason), *_texts(texts, None), named])
    if not labels:
        raise KftError(
            f"no column looks like a label{_seen(columns)}",
            "a label is a name, a number, or a list of names; a config by hand says which: `data.label`",
        )
    label, label_decision = _label(labels)
    question = _question(columns, label)
    decisions = [_task(label, question, task)]
    chosen = decisions[0].value
    if chosen != TASKS.of_problem(MULTIPLE_CHOICE):
        question = None
    decisions += _texts([c for c in texts if c is not label], question)
    decisions.append(label_decision)
    decisions += _separator(label, chosen)
    if label.had_comma and chosen == TASKS.of_problem(VALUE):
        decisions.append(Decision("data.decimal", ",", "its numbers have a comma before the decimals"))
    if question is not None:
        reason = f"rows with the same value of {question.display_name} are one question: one of them is right"
        decisions.append(Decision("data.group", question.name, reason))
    decisions += _spans(columns, decisions)
    return Guess(decisions, _warnings(columns, label, chosen))


def _answers(table: Table, wanted_task: str | None) -> Guess | None:
    """Columns of questions, contexts and answers, by their names and contents."""
    task = TASKS.of_problem(ANSWERS)
    names = {str(name).lower(): name for name in table.columns}
    columns = {
        key: next((names[n] for n in (key, *more) if n in names), None) for key, more in IN_CONTEXT.items()
    }
    if wanted_task not in (None, task) or None in (
        columns["question"],
        columns["context"],
        columns["answers"],
    ):
        return None
    values = table.column(columns["answers"])
    if wanted_task is None and not all(isinstance(value, list | dict | None) for value in values):
        return None
    own = TASKS.rules[task].columns
    decisions = [Decision("task", task, "questions, contexts, and answers that stand in them")]
    for key in ("question", "context", "answers"):
        reason = "" if columns[key] == own[key] else f"the column is called {columns[key]}"
        decisions.append(Decision(f"data.{key}", columns[key], reason))
    group = names.get("title", columns["context"])
    reason = "the questions on one text never part between splits"
    return Guess([*decisions, Decision("split.group", group, reason)])


def _tagged(table: Table, wanted_task: str | None) -> Guess | None:
    """A column of words and one of their tags: lists that are as long in every row."""
    task = TASKS.of_problem(TOKEN_CLASSES)
    if wanted_task not in (None, task):
        return None
    lists = [column for column in columns_of(table) if column.is_list]
    words = [c for c in lists if all(isinstance(item, str) for value in c.present for item in value)]
    pairs = [(w, t) for w in words for t in lists if t is not w and _as_long(w, t) and _few(t) < _few(w)]
    if not pairs:
        return None
    word, tag = min(pairs, key=lambda pair: (_rank(pair[0], OF_WORDS), _rank(pair[1], OF_TAGS)))
    own = TASKS.rules[task].columns
    kinds = sorted({str(item) for value in tag.present for item in value})
    contents = f"{len(kinds)} tags: {_first(kinds)}"
    others = [t for w, t in pairs if w is word and t is not tag]
    decisions = [Decision("task", task, "each row has words, and a tag for each")]
    if word.name != own["tokens"]:
        decisions.append(Decision("data.tokens", word.name, "its lists hold the words"))
    if tag.name != own["tags"] or others:
        more = tuple(("data.tags", c.name, f"{c.display_name} is as long") for c in others)
        decisions.append(Decision("data.tags", tag.name, contents, more))
    return Guess(decisions)


def _first(kinds: list[str]) -> str:
    """The first few of them, with commas between."""
    return ", ".join(kinds[:6]) + (", …" if len(kinds) > 6 else "")


def _as_long(words: Column, tags: Column) -> bool:
    pairs = zip(words.values, tags.values, strict=True)
    plain = all(isinstance(item, str | int | None) for value in tags.present for item in value)
    longer = any(len(value) > 1 for value in words.present)
    return plain and longer and all(len(w or ()) == len(t or ()) for w, t in pairs)


def _few(column: Column) -> int:
    return len({item for value in column.present for item in value})


def _rank(column: Column, names: tuple[str, ...]) -> int:
    return names.index(column.word) if column.word in names else len(names)


def _marked(table: Table, wanted_task: str | None) -> Guess | None:
    """A text and a column of its entities by their characters."""
    task = TASKS.of_problem(TOKEN_CLASSES)
    if wanted_task not in (None, task):
        return None
    columns = columns_of(table)
    marks = next((column for column in columns if _are_entities(column)), None)
    texts = [column for column in columns if column.is_text]
    if marks is None or not texts:
        return None
    kinds = sorted({e.label for value in marks.present for e in tagging.entities_in(value)})
    reason = f"its lists mark {_first(kinds)} by characters"
    decisions = [Decision("task", task, "entities are marked in a text"), _texts(texts, None)[0]]
    return Guess([*decisions, Decision("data.entities", marks.name, reason)])


def _are_entities(column: Column) -> bool:
    try:
        return max((len(tagging.entities_in(value)) for value in column.present), default=0) > 0
    except ValueError:
        return False


def _seen(columns: list[Column]) -> str:
    def kind(c: Column) -> str:
        if not c.is_plain:
            return "lists" if c.is_list else "objects"
        words = "numbers" if c.is_number else "words"
        return f"{len(c.counts)} different {words}"

    return ": " + ", ".join(f"{c.display_name} ({kind(c)})" for c in columns)


def _marks(columns: list[Column], labels: list[Column], wanted_task: str | None) -> list[Column]:
    """Columns of 0 and 1, one for each label, where no other column is called a label."""
    marks = [c for c in columns if c.is_whole and set(c.counts) == {"0", "1"}]
    if len(marks) < LEAST_MARKS or wanted_task not in (None, TASKS.of_problem(SEVERAL_CLASSES)):
        return []
    return [] if any(c.word in LABEL_NAMES for c in labels) else marks


def _label(labels: list[Column]) -> tuple[Column, Decision]:
    best = labels[0]
    # The same label twice, as a number and as a name: the name reads better.
    named = next((c for c in labels[1:] if best.is_whole and not c.is_number and _same(best, c)), None)
    if named is not None:
        reason = f"its names say the same as the numbers of {best.display_name}"
        return named, Decision("data.label", named.name, reason)
    others = tuple(
        ("data.label", c.name, _contents(c))
        for c in labels[1:4]
        if label_score(c) > label_score(best) - 2.5 and not c.is_list
    )
    return best, Decision("data.label", best.name, _contents(best), others)


def _same(a: Column, b: Column) -> bool:
    """Whether two columns say the same in other words."""
    pairs = set(zip(map(str, a.values), map(str, b.values), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs}) > 1


def _contents(column: Column) -> str:
    if column.is_list:
        return f"lists of {len({str(item) for value in column.present for item in value})} labels"
    if column.is_number and (not column.is_whole or len(column.counts) > 20):
        values = [float(value) for value in column.present]
        return f"numbers from {min(values):g} to {max(values):g}"
    common = [value for value, _ in column.counts.most_common(4)]
    more = ", …" if len(column.counts) > 4 else ""
    return f"{len(column.counts)} different values: {', '.join(common)}{more}"


def _question(columns: list[Column], label: Column) -> Column | None:
    """The column whose equal values make rows the choices of a question with one right row."""
    if not {str(value).lower() for value in label.counts} <= {"0", "1", "true", "false"}:
        return None
    for column in columns:
        if (
            column is label
            or not column.is_plain
            or column.is_text
            and len(column.counts) > 0.6 * len(column.present)
        ):
            continue
        right: dict[str, list[int]] = {}
        for value, given in zip(column.values, label.values, strict=True):
            right.setdefault(str(value), []).append(str(given).lower() in ("1", "true"))
        whole = list(right.values())[:-1] or list(right.values())  # the last may have been cut
        if len(right) > 1 and all(len(rows) > 1 and sum(rows) == 1 for rows in whole):
            return column
    return None


def _task(label: Column, question: Column | None, wanted_task: str | None) -> Decision:
    kinds = {kind: TASKS.of_problem(kind) for kind in (ONE_CLASS, SEVERAL_CLASSES, VALUE, MULTIPLE_CHOICE)}
    contents = f"{label.display_name}: {_contents(label)}"
    if wanted_task:
        return Decision("task", wanted_task, f"you said so ({contents})")
    if question is not None:
        classes = ("task", kinds[ONE_CLASS], "each row for itself")
        return Decision(
            "task", kinds[MULTIPLE_CHOICE], f"one row of each {question.display_name} is right", (classes,)
        )
    if (label.is_list or label.separator) and kinds[SEVERAL_CLASSES]:
        others = (
            () if label.is_list else (("task", kinds[ONE_CLASS], "each combination is a class of its own"),)
        )
        return Decision("task", kinds[SEVERAL_CLASSES], f"a row may have several labels ({contents})", others)
    if label.is_number and not label.is_whole:
        return Decision("task", kinds[VALUE], contents)
    if label.is_number and len(label.counts) > 20:
        others = (("task", kinds[ONE_CLASS], "if the numbers are names of classes"),)
        return Decision("task", kinds[VALUE], contents, others)
    others = ()
    if label.was_list:
        others = (("task", kinds[SEVERAL_CLASSES], "if a row may have several labels"),)
    if label.is_number and len(label.counts) in STAR_SCALE:
        others = (("task", kinds[VALUE], "if the numbers are a scale, such as stars"),)
    return Decision("task", kinds[ONE_CLASS], contents, others)


def _texts(texts: list[Column], question: Column | None) -> list[Decision]:
    """The text, and the second one of a pair."""
    pair = _question_texts(texts, question) if question is not None else _pair(texts)
    if pair is not None:
        (first, second), reason, sure = pair
        others = (
            () if sure else (("data.text_pair", None, f"without it, {first.display_name} is read alone"),)
        )
        return [
            Decision("data.text", first.name, f"the first of two texts: {reason}"),
            Decision("data.text_pair", second.name, "the second", others),
        ]
    named = [c for c in texts if c.word in TEXT_NAMES]
    best = min(named, key=lambda c: TEXT_NAMES.index(c.word)) if named else max(texts, key=lambda c: c.length)
    rest = [c for c in texts if c is not best]
    reason = f"{best.length:.0f} characters on average" + (", the longest" if rest and not named else "")
    others = tuple(
        [
            ("data.text_pair", c.name, f"{c.display_name} is read as well, {c.length:.0f} characters")
            for c in rest[:3]
        ]
        + [("data.text", c.name, f"{c.display_name} is read instead") for c in rest[:3]]
    )
    return [Decision("data.text", best.name, reason, others)]


def _question_texts(texts: list[Column], question: Column) -> tuple[tuple[Column, Column], str, bool] | None:
    """What the rows of a question share, and what differs between them."""

    def is_shared(column: Column) -> bool:
        pairs = set(zip(map(str, question.values), map(str, column.values), strict=True))
        return len(pairs) == len(question.counts)

    sides = [[c for c in texts if is_shared(c) is shared] for shared in (True, False)]
    if not all(sides):
        return None
    first, second = (max(side, key=lambda c: c.length) for side in sides)
    return (first, second), "the rows of a question share it, and differ in the second", True


def _pair(texts: list[Column]) -> tuple[tuple[Column, Column], str, bool] | None:
    by_word = {c.word: c for c in texts}
    for first, second in PAIRS:
        if first in by_word and second in by_word:
            return (by_word[first], by_word[second]), "such names go together", True
    for word, column in by_word.items():
        for one, two in (("1", "2"), ("_a", "_b"), ("a", "b"), ("left", "right")):
            other = by_word.get(re.sub(rf"{one}(?!.*{one})", two, word)) if one in word else None
            if other is not None and other is not column:
                return (column, other), "the names differ in a number alone", True
    if len(texts) == 2 and max(c.length for c in texts) < 2 * min(c.length for c in texts):
        return (texts[0], texts[1]), "there are two, about as long", False
    return None


def _separator(label: Column, task: str) -> list[Decision]:
    if label.is_list or not label.separator or task != TASKS.of_problem(SEVERAL_CLASSES):
        return []
    return [Decision("data.label_separator", label.separator, "it parts the labels of a row")]


def _spans(columns: list[Column], decisions: list[Decision]) -> list[Decision]:
    """Marked words: whole numbers in columns start1, end1, … that lie inside the texts."""
    by_word, spans = {c.word: c for c in columns}, []
    texts = {
        d.setting.removeprefix("data."): d.value
        for d in decisions
        if d.setting in ("data.text", "data.text_pair")
    }
    for number, (role, name) in enumerate(texts.items(), 1):
        ends = [by_word.get(f"start{number}"), by_word.get(f"end{number}")]
        if None in ends or not all(end.is_whole for end in ends):
            return []
        text = next(c for c in columns if c.name == name)
        inside = zip(text.values, *(end.values for end in ends), strict=True)
        if not all(0 <= int(begin) < int(end) <= len(str(value)) for value, begin, end in inside):
            return []
        spans.append([role, *(end.name for end in ends)])
    reason = "the columns hold places in the texts: the words there are read too"
    return [Decision("data.spans", spans, reason)] if spans else []


def _warnings(columns: list[Column], label: Column, task: str) -> list[str]:
    warnings = []
    missing = len(label.values) - len(label.present)
    if missing:
        warnings.append(f"{missing} of {len(label.values)} rows have no label and are left out")
    choices = [
        c.display_name for c in columns if re.fullmatch(r"choice_?\d|ending_?\d|option_?[a-e\d]", c.word)
    ]
    if len(choices) > 1:
        warnings.append(
            f'{", ".join(choices)} look like the choices of one question; task = "{TASKS.of_problem(MULTIPLE_CHOICE)}" wants a '
            "row for each choice, with the question's number in a column (`data.group`)"
        )
    if task == TASKS.of_problem(ONE_CLASS):
        rare = [value for value, count in label.counts.items() if count < 3]
        if rare:
            warnings.append(f"{len(rare)} classes have fewer than 3 rows: {', '.join(rare[:5])}")
    return warnings
