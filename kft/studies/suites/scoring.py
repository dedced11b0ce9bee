"""The benchmarks' own metrics, on tables of examples with the columns `target` and `answer`.

`answer` holds a label's name, a value, or the score of a choice; MultiRC, COPA, ReCoRD and AX-g
also read the columns that say which rows belong together. Classes are numbered as the benchmark
does, so F1 is that of its own positive class.
"""

import re
import string
from collections import Counter
from collections.abc import Callable

import numpy as np
import polars as pl

from kft import metrics

Scores = dict[str, float]
Scorer = Callable[[pl.DataFrame, tuple[str, ...]], Scores]


def classes(*names: str) -> Scorer:
    """A scorer by metrics of `kft.metrics` for classes."""

    def score(table: pl.DataFrame, labels: tuple[str, ...]) -> Scores:
        ids = {label: i for i, label in enumerate(labels)}
        targets = np.array([ids[label] for label in table["target"]])
        predictions = np.eye(len(labels))[[ids[label] for label in table["answer"]]]
        return {name: float(metrics.METRICS[name].compute(targets, predictions)) for name in names}

    return score


def correlations(table: pl.DataFrame, labels: tuple[str, ...]) -> Scores:
    """Pearson and Spearman correlation (STS-B)."""
    targets, values = table["target"].cast(pl.Float64).to_numpy(), table["answer"].to_numpy()
    return {name: float(metrics.METRICS[name].compute(targets, values)) for name in ("pearson", "spearman")}


def multirc(table: pl.DataFrame, labels: tuple[str, ...]) -> Scores:
    """F1 over all answers, and the share of questions all right (Khashabi et al. 2018, 5.1)."""
    right = pl.col("target") == pl.col("answer")
    questions = table.group_by("question").agg(right.all().alias("right"))
    return {"f1a": classes("f1")(table, labels)["f1"], "exact_match": questions["right"].mean()}


def chosen(table: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Of each question the first choice with the highest score, in the table's order."""
    return table.group_by(by, maintain_order=True).agg(pl.all().get(pl.col("answer").arg_max()))


def copa(table: pl.DataFrame, labels: tuple[str, ...]) -> Scores:
    """Share of questions whose right choice has the higher score."""
    return {"accuracy": (chosen(table, ["idx"])["target"] == "1").mean()}


def record(table: pl.DataFrame, labels: tuple[str, ...]) -> Scores:
    """Mean over queries of the best token F1 and exact match (Zhang et al. 2018, section 5)."""
    best = chosen(table, ["passage_idx", "query_idx"])
    pairs = list(zip(best["entity"], best["answers"].to_list(), strict=True))
    return {
        "f1": float(
            np.mean([max(_token_f1(entity, answer) for answer in answers) for entity, answers in pairs])
        ),
        "exact_match": float(
            np.mean(
                [any(normal(entity) == normal(answer) for answer in answers) for entity, answers in pairs]
            )
        ),
    }


def normal(answer: str) -> str:
    """Lower case, no punctuation, articles, repeated spaces (SQuAD, Rajpurkar et al. 2016)."""
    bare = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _token_f1(predicted: str, answer: str) -> float:
    got, wanted = normal(predicted).split(), normal(answer).split()
    shared = sum((Counter(got) & Counter(wanted)).values())
    return 2 * shared / (len(got) + len(wanted)) if shared else 0.0


def gender_parity(table: pl.DataFrame, labels: tuple[str, ...]) -> Scores:
    """Accuracy, and the share of pairs with one answer for both genders (Wang et al. 2019).

    A pair are neighbours that differ in a pronoun's gender.
    """
    answers = table["answer"].to_numpy()
    alike = answers[0::2][: len(answers) // 2] == answers[1::2]
    return classes("accuracy")(table, labels) | {"gender_parity": float(np.mean(alike))}
