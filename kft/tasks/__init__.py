"""What is predicted: one file for each task, and the one table of them."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from kft.tasks.problems import ANSWERS, MULTIPLE_CHOICE, ONE_CLASS, SEVERAL_CLASSES, TOKEN_CLASSES, VALUE
from kft.tasks.rules import Rules

if TYPE_CHECKING:
    from kft.tasks.record import Task


class Tasks(Mapping):
    """Name → `Task`, from the file of that name, which is loaded when it is first needed.

    The rules of all tasks are loaded at once: `kft --help` and mistakes of settings wait for no
    NumPy, no polars and no scikit-learn.
    """

    def __init__(self, **rules: Rules):
        self.rules = rules

    def __getitem__(self, name: str) -> "Task":
        if name not in self.rules:
            raise KeyError(name)
        return import_module(f"{__name__}.{name}").TASK

    def of_problem(self, problem: str) -> str | None:
        """The name of the task that Hugging Face calls so."""
        return next((name for name, rules in self.rules.items() if rules.problem == problem), None)

    def __contains__(self, name: object) -> bool:
        return name in self.rules

    def __iter__(self) -> Iterator[str]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)


_NO_QUESTIONS = {
    "data.group": "a task of questions (`split.group` keeps the rows of an author or a document together)"
}
_ONE_LABEL = dict.fromkeys(
    ("data.labels", "data.label_separator", "train.thresholds"), "a task of several labels"
)
_NO_CLASSES = {
    "train.label_smoothing": "classes",
    "train.class_weight": "classes",
    "data.positive": "two classes",
}
_NO_WORDS = dict.fromkeys(("data.tokens", "data.tags", "data.entities"), "a task of tagged words")
_NO_CONTEXT = dict.fromkeys(
    ("data.question", "data.context", "data.answers", "data.key", "train.max_answer_tokens"),
    "a task of answers in a context",
)
_NO_ITEMS = _NO_WORDS | _NO_CONTEXT

TASKS = Tasks(
    classification=Rules(
        ONE_CLASS,
        losses=("cross_entropy", "focal"),
        stratified=True,
        refuses=_NO_QUESTIONS | _ONE_LABEL | _NO_ITEMS,
    ),
    regression=Rules(
        VALUE,
        losses=("mse",),
        refuses=_NO_QUESTIONS | _ONE_LABEL | _NO_CLASSES | _NO_ITEMS | {"data.label_names": "classes"},
    ),
    multilabel_classification=Rules(
        SEVERAL_CLASSES,
        losses=("binary_cross_entropy",),
        stratified=True,
        refuses=_NO_QUESTIONS
        | _NO_ITEMS
        | {"train.label_smoothing": "one class for each row", "data.positive": "two classes"},
    ),
    choice=Rules(
        MULTIPLE_CHOICE,
        losses=("cross_entropy",),
        needs={"data.group": "the column that the choices of one question share"},
        refuses=_ONE_LABEL | _NO_CLASSES | _NO_ITEMS,
    ),
    token_classification=Rules(
        TOKEN_CLASSES,
        losses=("cross_entropy",),
        refuses=_NO_QUESTIONS
        | _ONE_LABEL
        | _NO_CONTEXT
        | {
            "data.text_pair": "a task of pairs",
            "data.spans": "one answer for each row",
            "data.positive": "two classes",
            "model.pooling": "one answer for each row",
            "model.windows": "one answer for each row",
        },
        columns={"tokens": "tokens", "tags": "tags"},
        instead=("entities",),
        written=("conll",),
    ),
    question_answering=Rules(
        ANSWERS,
        losses=("cross_entropy",),
        refuses=_NO_QUESTIONS
        | _ONE_LABEL
        | _NO_CLASSES
        | _NO_WORDS
        | dict.fromkeys(("data.text", "data.text_pair", "data.label"), "a task of other columns")
        | {
            "data.label_names": "classes",
            "data.spans": "one answer for each row",
            "model.pooling": "one answer for each row",
            "model.windows": "one answer for each row",
        },
        columns={"question": "question", "context": "context", "answers": "answers", "key": "id"},
        window=384,
        written=("squad", "squad-none"),
    ),
)
DEFAULT = next(iter(TASKS))
