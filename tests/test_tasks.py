"""The table of tasks: one row and one file each, light until needed, all functions there."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from conftest import assert_not_imported

from kft import metrics
from kft.export import EXPORTERS
from kft.models import losses
from kft.report import charts
from kft.tasks import DEFAULT, TASKS, golds, scoring, words
from kft.tasks.problems import ANSWERS, MULTIPLE_CHOICE, ONE_CLASS, SEVERAL_CLASSES, TOKEN_CLASSES, VALUE
from kft.tasks.questions import numbered
from kft.tasks.record import Learned, Reads, Task
from kft.text import Tokens

FRAMES = {
    "classification": ["x", "y", "x", "y"],
    "multilabel_classification": ['["x"]', "[]", '["x", "y"]', '["y"]'],
    "regression": ["1", "2.5", "-3", "0"],
    "choice": ["1", "0", "0", "1"],
    "token_classification": [words.written_tags([tag]) for tag in ("B-X", "O", "B-Y", "B-X")],
    "question_answering": [golds.written([golds.Gold("a", 0)] if i % 3 else []) for i in range(4)],
}
# [CLS] a [SEP] and so on, with the characters of each token.
ROWS = Tokens(
    ids=np.resize(np.int32([2, 5, 3]), 12),
    offsets=3 * np.arange(5),
    second_starts=np.full(4, 3, np.int32),
    full_lengths=np.full(4, 3, np.int32),
    characters=np.resize(np.int32([[0, 0], [0, 1], [0, 0]]), (12, 2)),
)


@pytest.fixture(params=list(TASKS))
def name(request) -> str:
    return request.param


def frame_of(name: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(4),
            "text": list("abcd"),
            **({"text_pair": ["a"] * 4} if name == "question_answering" else {}),
            "label": FRAMES[name],
            "group": ["p", "p", "q", "q"],
            "origin": "made",
        }
    )


def test_names_and_rules_need_nothing_heavy():
    code = "from kft.tasks import TASKS; assert len(TASKS) == len(list(TASKS)); TASKS.rules"
    assert_not_imported(code, "numpy", "polars", "sklearn", "scipy", "keras")


def test_a_task_is_found_by_hugging_faces_name():
    problems = (ONE_CLASS, SEVERAL_CLASSES, VALUE, MULTIPLE_CHOICE, TOKEN_CLASSES, ANSWERS)
    found = [TASKS.of_problem(problem) for problem in problems]
    assert found == list(FRAMES) and len({*found}) == len(found)
    assert TASKS.of_problem("none of them") is None
    assert DEFAULT == "classification"
    with pytest.raises(KeyError):
        TASKS["tagging"]


def test_what_a_task_names_is_there(name):
    task, rules = TASKS[name], TASKS.rules[name]
    assert isinstance(task, Task)
    assert {*rules.losses} - {"mse"} <= {*losses.LOSSES}
    assert task.divergence in losses.DIVERGENCES
    assert {*task.scoring.metrics, task.scoring.loss} <= {*metrics.METRICS}
    assert {*task.export.formats} <= {*EXPORTERS}
    assert rules.stratified == (task.labels.names is not None)
    assert any(metrics.METRICS[metric].interval for metric in scoring.names(name))


def test_from_labels_to_scores(name):
    """A nearly sure model gets the best score, and its table is read back."""
    task, frame = TASKS[name], frame_of(name)
    learned = task.learn(frame)
    pairs = name == "question_answering"  # of which the first token is read too
    rows = dataclasses.replace(ROWS, second_starts=np.full(4, 1, np.int32)) if pairs else ROWS
    reads, places = task.reads(frame, rows, learned), task.places(frame, rows)
    assert isinstance(reads, Reads) and reads.counts.tolist() == [1 + pairs] * 4
    np.testing.assert_array_equal(places.places, reads.places)
    questions = numbered(frame) if task.grouped else None
    truths = task.truths(frame["label"], learned)
    outputs = outputs_for(name, truths, learned)
    predictions = task.predictions(outputs, learned, places)
    table = frame.drop("label", "origin").with_columns(
        task.target_column(frame["label"], truths).alias("target"), *task.columns(predictions, learned)
    )
    np.testing.assert_allclose(numbers(task.read(table, learned)), numbers(predictions))
    scored = task.scored(truths, predictions, learned, questions)
    values = scoring.scores(name, *scored, list(learned.labels))
    best = values[scoring.main_metric(name)]
    assert best == pytest.approx(1.0)
    assert all(isinstance(value, float) for value in values.values())
    if task.scoring.right:
        assert task.scoring.right(*scored).all()
    mistakes = task.worst(table, list(learned.labels), 3)
    assert len(mistakes.rows) == (3 if task.scoring.right is None else 0)
    assert {*mistakes.charts} <= {*charts.OF_PREDICTIONS}
    compared = task.compared(predictions[0], learned)
    assert isinstance(task.words(compared), str)
    line = task.answer(table.row(0, named=True), learned)
    assert task.answered in line
    both = task.mean([predictions, predictions], learned, questions)
    np.testing.assert_allclose(numbers(both), numbers(predictions))


def numbers(predictions: np.ndarray) -> np.ndarray:
    """Predictions, those of tagged words and of answers all in one."""
    if predictions.dtype == object and hasattr(predictions[0], "scores"):
        return np.concatenate([[*own.scores, own.none] for own in predictions])
    return np.concatenate(list(predictions)) if predictions.dtype == object else predictions


def outputs_for(name: str, truths: np.ndarray, learned: Learned) -> np.ndarray:
    """Outputs of the head [N, C] of a model that is right."""
    if name == "classification":
        return 9.0 * np.eye(len(learned.labels))[truths]
    if name == "multilabel_classification":
        return np.where(truths == 1, 9.0, -9.0)
    if name == "regression":
        return ((truths - learned.mean) / learned.scale)[:, None]
    if name == "token_classification":
        return 9.0 * np.eye(len(learned.labels))[[learned.labels.index(tag) for (tag,) in truths]]
    if name == "question_answering":  # of each row the first token, and that of its context
        return np.array([[side, side] for own in truths for side in ((0.0, 9.0) if own else (9.0, 0.0))])
    return np.where(truths, 9.0, -9.0)[:, None]


def test_records_are_frozen(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASKS[name].order = "other"
