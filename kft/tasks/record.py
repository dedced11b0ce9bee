"""What a task is: records of plain data and functions, free of Keras and TensorFlow.

Letters: N examples (rows of a frame), M read places, C outputs of the head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Learned:
    """What a task takes from the train split; with the weights it turns outputs into answers.

    Attributes:
        labels: the C label names in id order; none for scores and choices.
        mean, scale: a score is `output * scale + mean`.
        thresholds: of each label, the probability from which it is predicted; none where nothing is
            compared.
        positive: of two classes the label that precision, recall and f1 are of; None takes the
            second.
        none_above: of answers in a context, how much likelier none must be than the best one (a
            log-ratio) to be given; None where every question of train has an answer.
        longest: tokens of such an answer at most.
    """

    labels: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    thresholds: tuple[float, ...] = ()
    positive: str | None = None
    none_above: float | None = None
    longest: int = 30


@dataclass(frozen=True)
class Inputs:
    """What a run reads of a row.

    Attributes:
        paired: whether an example has a second text.
        spans: the marked words, as in the config.
        grouped: whether rows belong to questions.
        max_length: tokens of an example at most.
        located: whether tokens are told with their characters, since words are answered.
        stride: tokens that a row of a longer text shares with the one before; None truncates.
        windows: "mean" or "max": what the answers of these rows become, where a text has one.
    """

    paired: bool
    spans: tuple[tuple[str, str | int, str | int], ...]
    grouped: bool
    max_length: int
    located: bool = False
    stride: int | None = None
    windows: str = "mean"


@dataclass(frozen=True)
class Items:
    """What the read places answer where that is not examples: words, or windows of a context.

    Attributes:
        offsets: int64 [N + 1]; example i has the items offsets[i]:offsets[i + 1].
        of: int64 [M], the item of each place.
        characters: int32 [M, 2] where places are answers themselves: each one's first character
            in its context and the one after its last; 0, 0 for the place of no answer.
        contexts: of the N examples; with `characters`.
    """

    offsets: np.ndarray
    of: np.ndarray
    characters: np.ndarray | None = None
    contexts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reads:
    """The places of N examples that the head reads, each with a target and a weight.

        one class       [CLS] good film [SEP]       places [0]       targets [1]
        several labels  [CLS] good film [SEP]       places [0]       targets [[0 1 1]]
        token classes   [CLS] Ann met Bo [SEP]      places [1 2 3]   targets [2 0 2]

    Attributes:
        offsets: int64 [N + 1]; example i is read at places[offsets[i]:offsets[i + 1]].
        places: int32 [M], position in the example.
        targets: [M, …]; None in prediction.
        weights: float32 [M], of each place in the loss; None in prediction.
        rivals: "example" or "question" where the loss compares all places of one; None where each
            stands alone.
        questions: int64 [N], number of each example's question, from 0 and without gaps; only where
            rivals is "question".
        items: what the places answer, where it is neither the example nor the question.
        windows: int64 [N], where several rows are windows of one example: the example of each. The
            first window stands for the example in the loss, the others have no weight.
    """

    offsets: np.ndarray
    places: np.ndarray
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    rivals: str | None = None
    questions: np.ndarray | None = None
    items: Items | None = None
    windows: np.ndarray | None = None

    @property
    def groups(self) -> np.ndarray | None:
        """int64 [N], number of what must stand in one step; None where examples stand alone."""
        return self.windows if self.questions is None else self.questions

    @property
    def counts(self) -> np.ndarray:
        """Places of each example, int64 [N]."""
        return np.diff(self.offsets)

    def with_targets(self, targets: np.ndarray, weights: np.ndarray) -> "Reads":
        """The same places with targets [M, …] and weights [M]."""
        return replace(self, targets=targets, weights=weights.astype(np.float32))

    @property
    def example_weights(self) -> np.ndarray:
        """The sum of the weights of each example's places, float64 [N]."""
        sums = np.concatenate([[0.0], np.cumsum(self.weights, dtype=np.float64)])
        return np.diff(sums[self.offsets])


def read_first(count: int, **more: Any) -> Reads:
    """The first token of each of so many examples; `more` are other fields of `Reads`."""
    return Reads(np.arange(count + 1, dtype=np.int64), np.zeros(count, np.int32), **more)


@dataclass(frozen=True)
class Loss:
    """A loss by its name in `kft.models.losses`, and its options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """What the labels of a task are, for the splits.

    Attributes:
        check: (clean splits, what messages call train) → raises KftError for labels that the task
            cannot have.
        describe: frame → what data.json says of a split's labels; {name: rows} of "labels", where
            they have names.
        lines: what `describe` gave → (title, words) of the lines that `kft data` prints of it,
            beside the counts of "labels".
        unusable: reason → (labels → bool [N], whether a row cannot be trained on for it); such rows
            are dropped from train and counted.
        method: how splits are cut unless the user says.
        names: label of a row → the names in it; None where labels are no names.
        several: whether a row may have several names, or none: splits are then stratified by all of
            them at once.
    """

    check: Callable[[dict[str, pl.DataFrame], str], None]
    describe: Callable[[pl.DataFrame], dict[str, Any]]
    method: str
    names: Callable[[str], tuple[str, ...]] | None = None
    several: bool = False
    lines: Callable[[dict[str, Any]], list[tuple[str, str]]] = lambda described: []
    unusable: Mapping[str, Callable[[pl.Series], pl.Series]] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistakes:
    """What a report shows of the wrong predictions of a split.

    Attributes:
        title, note: of the list.
        rows: the worst first: {"id", "text", "text_pair"?, "verdict": [(style, words, small words
            or None)]}.
        charts: names of charts over the predictions, see `kft.report.charts`.
    """

    title: str
    note: str
    rows: list[dict[str, Any]]
    charts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Doubt:
    """A label that is probably wrong.

    Attributes:
        row: number in the table of predictions.
        suggested: what else the label should be.
        probability: of the given one.
        more: what else is known of it, such as "label" and "text" where it is of a part of the row.
    """

    row: int
    suggested: str
    probability: float
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scoring:
    """How predictions are scored. Targets and predictions are as the task's `scored` gives them.

    Attributes:
        metrics: names in `kft.metrics.METRICS`; the first decides which epoch is best.
        loss: the metric that is the task's loss on a split.
        checked: (targets, predictions, number of labels) → both as arrays; ValueError for other
            shapes.
        details: (targets, predictions, labels, generator, resamples) → what stands behind the
            scores, for JSON.
        resampled: (targets, predictions, counts [S, N]) → {metric: scores [S]} of S resamples.
        alike: predictions → int [N, …], on which alone (with the targets) the resampled scores
            depend; None where they depend on the predictions themselves.
        numbers: predictions → [N, …], which must be finite.
        right: (targets, predictions) → bool [N], whether an example is answered right, for
            McNemar's test; None where there is no right or wrong.
        unit: what is counted.
    """

    metrics: tuple[str, ...]
    loss: str
    checked: Callable[..., tuple[np.ndarray, np.ndarray]]
    details: Callable[..., dict[str, Any]]
    resampled: Callable[..., dict[str, np.ndarray]]
    alike: Callable[[np.ndarray], np.ndarray] | None = None
    numbers: Callable[[Any], np.ndarray] = lambda predictions: predictions
    right: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    unit: str = "example"


@dataclass(frozen=True)
class Export:
    """How artefacts answer for a task.

    Attributes:
        formats: keys of `kft.export.EXPORTERS` that can hold it.
        signature: TensorFlow Serving's "classify" or "regress"; None where none fits.
        in_graph: (tensorflow, outputs [N, C], learned) → named answers [N, …].
        numbers: the answer of it that is compared with the run's predictions.
        compared: predictions → the numbers that are compared.
        decided: the answer of it that says what is decided; None where nothing is.
        decisions: (predictions, learned) → the same of the run, [N] or [N, C].
        ties: (predictions, learned, tolerance) → bool [N], whether a decision hangs on twice the
            tolerance.
        every_token: whether artefacts answer every token, [N, T, C] logits; then `compared`,
            `decisions` and `ties` are of tokens, not of examples.
        tried: (outputs of every token, learned, reads) → what is compared of them, where the task's
            own predictions need more than tokens.
        pipeline: what hubs call models of the task; None where they have no name for it.
        served: field of `Task.answer` → its JSON schema, where `kft serve` answers with these
            fields; none where it does with what `in_graph` gives.
    """

    formats: tuple[str, ...]
    signature: str | None
    in_graph: Callable[..., dict[str, Any]]
    numbers: str
    compared: Callable[[np.ndarray], np.ndarray] = lambda predictions: predictions
    decided: str | None = None
    decisions: Callable[[np.ndarray, Learned], np.ndarray] | None = None
    ties: Callable[[np.ndarray, Learned, float], np.ndarray] | None = None
    every_token: bool = False
    tried: Callable[..., np.ndarray] | None = None
    pipeline: str | None = "text-classification"
    served: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A format of `kft predict` besides those of all tasks.

    Attributes:
        row: (row of a table of predictions, learned) → its part of the file.
        begin, between, end: what stands before all parts, between two, and after them.
        key: such a row → what no other row may share, for the message; None where rows may be
            alike.
    """

    row: Callable[[dict[str, Any], Learned], str]
    begin: str = ""
    between: str = ""
    end: str = ""
    key: Callable[[dict[str, Any]], str] | None = None


@dataclass(frozen=True)
class Task:
    """One kind of problem.

    Attributes:
        labels: what its labels are, for the splits.
        learn: (train frame, class ids that a run already has or None, the section `train`) → what
            it takes from train.
        tune: (learned, the section `train`, truths and predictions of validation) → what validation
            adds to it.
        outputs: learned → C, the units of the head.
        check: (frame, learned) → raises KftError for a row that cannot be scored; names the row.
        truths: (labels of rows, learned) → what they say, [N, …]: class ids, scores, or whether a
            choice is right.
        reads: (train frame, tokens, learned, `train.class_weight`) → what the head reads, with
            targets and weights.
        places: (frame, tokens) → the same without targets, for prediction; where rows belong to
            questions with their numbers.
        located: whether it needs the characters of tokens.
        loss: (the section `train`, reads, learned) → the loss.
        bias: reads → what the bias of a new head starts with, [C]; None where it is 0.
        divergence: its name in `kft.models.losses.DIVERGENCES`.
        predictions: (outputs [M, C], learned, reads without targets) → predictions [N, …].
        scored: (truths, predictions, learned, question numbers or None) → both as the metrics take
            them.
        target_column: (labels of rows, truths) → the column "target" of a table of predictions.
        columns: (predictions, learned) → the columns that they add to such a table.
        read: (such a table, learned) → the predictions again.
        mean: (predictions of several models, learned, question numbers or None) → their mean.
        answer: (row of such a table, learned) → the fields of one line of `kft predict`.
        texts: what such a line calls "text" and "text_pair", where they have other names.
        answered: the field of it that a benchmark takes for the answer.
        written: name → format of `kft predict` besides those of all tasks.
        compared: (prediction of a row, learned) → the same in a comparison.
        said: a row's label, as people read it.
        words: such an answer → in a few words.
        differ: predictions of M models [M, N, …] → whether they differ, bool [N] (None where all
            do), and the order, least first, in which people should see rows.
        order: that order in words.
        worst: (table of predictions, labels, most) → the mistakes.
        issues: (table of predictions, learned) → the labels that are probably wrong, by cleanlab,
            the likeliest first. None where it finds no errors.
        scoring, export: see their classes.
        grouped: whether the rows of a question are predicted together, so that steps hold whole
            questions.
        counted: what disagreements count.
    """

    labels: Labels
    learn: Callable[..., Learned]
    outputs: Callable[[Learned], int]
    check: Callable[[pl.DataFrame, Learned], None]
    truths: Callable[[pl.Series, Learned], np.ndarray]
    reads: Callable[..., Reads]
    loss: Callable[..., Loss]
    divergence: str
    predictions: Callable[..., np.ndarray]
    scored: Callable[..., tuple[np.ndarray, np.ndarray]]
    columns: Callable[[np.ndarray, Learned], list[pl.Series]]
    read: Callable[[pl.DataFrame, Learned], np.ndarray]
    answer: Callable[[dict[str, Any], Learned], dict[str, Any]]
    answered: str
    compared: Callable[[Any, Learned], dict[str, Any]]
    words: Callable[[dict[str, Any]], str]
    differ: Callable[[np.ndarray, Learned], tuple[np.ndarray | None, np.ndarray]]
    worst: Callable[[pl.DataFrame, list[str], int], Mistakes]
    scoring: Scoring
    export: Export
    target_column: Callable[[pl.Series, np.ndarray], pl.Series] = lambda labels, truths: labels
    places: Callable[..., Reads] = lambda frame, tokens: read_first(len(frame))
    bias: Callable[[Reads], np.ndarray] | None = None
    tune: Callable[..., Learned] = lambda learned, settings, truths, predictions: learned
    mean: Callable[..., np.ndarray] = lambda predictions, learned, questions=None: np.mean(
        predictions, axis=0
    )
    issues: Callable[[pl.DataFrame, Learned], list[Doubt]] | None = None
    written: Mapping[str, Written] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    said: Callable[[str], str] = lambda label: label
    grouped: bool = False
    located: bool = False
    counted: str = "example"
    order: str = "surest"
