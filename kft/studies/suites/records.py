"""The tasks of GLUE and SuperGLUE as records: config, metrics, splits, what is submitted.

A new task is a record here and a config file.
"""

from dataclasses import dataclass

import polars as pl

from kft.config import DataConfig
from kft.studies.suites import scoring
from kft.studies.suites.scoring import Scorer, Scores


@dataclass(frozen=True)
class Submission:
    """A file for the benchmark's server: split, name, form (`submission.FORMS`), rows."""

    split: str
    file: str
    form: str
    rows: int


@dataclass(frozen=True)
class Task:
    """One task of a suite.

    Attributes:
        name: as the user writes it.
        title: as the benchmark writes it.
        config: built-in config; of a task without training the one whose columns it has.
        score: the benchmark's metrics.
        labels: names in the benchmark's order; none for scores and choices.
        splits: those that are scored; the part after "validation" goes to the metrics' names.
        submissions: the files of the server.
        by: the task whose models answer this one, which has no training data; its `source` is this
            task's.
        source: TFDS name of a task with `by`.
        columns: text and text_pair of a task with `by`.
        from_mnli: whether published recipes start it from an MNLI model.
        counts: whether it counts in the average.
    """

    name: str
    title: str
    config: str
    score: Scorer
    labels: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("validation",)
    submissions: tuple[Submission, ...] = ()
    by: str | None = None
    source: str | None = None
    columns: tuple[str, str] | None = None
    from_mnli: bool = False
    counts: bool = True

    def data(self, trained: DataConfig) -> DataConfig:
        """Where its examples are, from the data that its model is trained on."""
        if self.source is None:
            return trained
        text, pair = self.columns
        return trained.model_copy(update={"source": self.source, "text": text, "text_pair": pair})

    def scored(self, table: pl.DataFrame, split: str) -> Scores:
        """A split's scores by their names in the suite, over its labelled rows; {} without any."""
        labelled = table.filter(pl.col("target").is_not_null())
        if not len(labelled):
            return {}
        suffix = split.removeprefix("validation").removeprefix("test")
        return {name + suffix: value for name, value in self.score(labelled, self.labels).items()}


ENTAILMENT = ("entailment", "not_entailment")
NLI = ("entailment", "neutral", "contradiction")
YES = ("False", "True")
ACCURACY, F1, MATTHEWS = (
    scoring.classes("accuracy"),
    scoring.classes("f1", "accuracy"),
    scoring.classes("matthews_correlation"),
)


def _test(file: str, form: str, rows: int, split: str = "test") -> tuple[Submission, ...]:
    return (Submission(split, file, form, rows),)


GLUE = (
    Task(
        "cola", "CoLA", "glue/cola", MATTHEWS, ("unacceptable", "acceptable"),
        submissions=_test("CoLA.tsv", "tsv_ids", 1063),
    ),
    Task(
        "sst2", "SST-2", "glue/sst2", ACCURACY, ("negative", "positive"),
        submissions=_test("SST-2.tsv", "tsv_ids", 1821),
    ),
    Task(
        "mrpc", "MRPC", "glue/mrpc", F1, ("not_equivalent", "equivalent"),
        submissions=_test("MRPC.tsv", "tsv_ids", 1725), from_mnli=True,
    ),
    Task(
        "stsb", "STS-B", "glue/stsb", scoring.correlations,
        submissions=_test("STS-B.tsv", "tsv_scores", 1379), from_mnli=True,
    ),
    Task(
        "qqp", "QQP", "glue/qqp", F1, ("not_duplicate", "duplicate"),
        submissions=_test("QQP.tsv", "tsv_ids", 390965),
    ),
    Task(
        "mnli", "MNLI", "glue/mnli", ACCURACY, NLI, ("validation_matched", "validation_mismatched"),
        (
            Submission("test_matched", "MNLI-m.tsv", "tsv_labels", 9796),
            Submission("test_mismatched", "MNLI-mm.tsv", "tsv_labels", 9847),
        ),
    ),
    Task("qnli", "QNLI", "glue/qnli", ACCURACY, ENTAILMENT, submissions=_test("QNLI.tsv", "tsv_labels", 5463)),
    Task(
        "rte", "RTE", "glue/rte", ACCURACY, ENTAILMENT,
        submissions=_test("RTE.tsv", "tsv_labels", 3000), from_mnli=True,
    ),
    Task(
        "wnli", "WNLI", "glue/wnli", ACCURACY, ("not_entailment", "entailment"),
        submissions=_test("WNLI.tsv", "tsv_ids", 146),
    ),
    Task(
        "ax", "AX", "glue/mnli", MATTHEWS, NLI, ("test",), _test("AX.tsv", "tsv_labels", 1104),
        by="mnli", source="glue/ax", columns=("premise", "hypothesis"), counts=False,
    ),
)  # fmt: skip
SUPERGLUE = (
    Task("boolq", "BoolQ", "superglue/boolq", ACCURACY, YES, submissions=_test("BoolQ.jsonl", "json_lower", 3245)),
    Task(
        "cb", "CB", "superglue/cb", scoring.classes("f1_macro", "accuracy"), ("entailment", "contradiction", "neutral"),
        submissions=_test("CB.jsonl", "json_labels", 250),
    ),
    Task("copa", "COPA", "superglue/copa", scoring.copa, submissions=_test("COPA.jsonl", "json_choices", 500)),
    Task(
        "multirc", "MultiRC", "superglue/multirc", scoring.multirc, YES,
        submissions=_test("MultiRC.jsonl", "json_multirc", 9693),
    ),
    Task(
        "record", "ReCoRD", "superglue/record", scoring.record,
        submissions=_test("ReCoRD.jsonl", "json_entities", 10000),
    ),
    Task("rte", "RTE", "superglue/rte", ACCURACY, ENTAILMENT, submissions=_test("RTE.jsonl", "json_labels", 3000)),
    Task("wic", "WiC", "superglue/wic", ACCURACY, YES, submissions=_test("WiC.jsonl", "json_lower", 1400)),
    Task("wsc", "WSC", "superglue/wsc", ACCURACY, YES, submissions=_test("WSC.jsonl", "json_labels", 146)),
    Task(
        "axb", "AX-b", "superglue/rte", MATTHEWS, ENTAILMENT, ("test",), _test("AX-b.jsonl", "json_labels", 1104),
        by="rte", source="super_glue/axb", columns=("sentence1", "sentence2"), counts=False,
    ),
    Task(
        "axg", "AX-g", "superglue/rte", scoring.gender_parity, ENTAILMENT, ("test",),
        _test("AX-g.jsonl", "json_labels", 356),
        by="rte", source="super_glue/axg", columns=("premise", "hypothesis"), counts=False,
    ),
)  # fmt: skip
SUITES: dict[str, tuple[Task, ...]] = {"glue": GLUE, "superglue": SUPERGLUE}
