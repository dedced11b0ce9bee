"""Choice: the right one of the rows of a question; the rows of a question compete."""

from functools import partial
from typing import Any

import numpy as np
import polars as pl
from scipy.special import softmax

from kft import metrics
from kft.errors import KftError, clipped
from kft.metrics import bootstrap
from kft.tasks import labels as checks
from kft.tasks.classification import mistakes_note
from kft.tasks.labels import SHOWN_PROBLEMS
from kft.tasks.questions import by_question, chosen, numbered, places
from kft.tasks.record import (
    Export,
    Labels,
    Learned,
    Loss,
    Mistakes,
    Reads,
    Scoring,
    Task,
    read_first,
)

RIGHT, WRONG = ("1", "true"), ("0", "false")  # labels of a question's choices
CHOICE_LENGTH = 80  # characters printed of a choice


def check_questions(frame: pl.DataFrame) -> None:
    """Raises KftError: questions of one choice, or without exactly one right; names all."""
    strange = frame.filter(~pl.col("label").is_in([*RIGHT, *WRONG]).fill_null(False))
    checks.refuse(
        frame,
        strange.rename({"label": "_name"}),
        lambda name: f"label must be 1 for the right choice or 0, got: {name!r}",
        "`data.label` names the column; `data.label_names` gives other labels these names",
    )
    questions = frame.group_by("group", maintain_order=True).agg(
        pl.col("id", "origin").first(), rows=pl.len(), right=pl.col("label").is_in(RIGHT).sum()
    )
    wrong = questions.filter((pl.col("right") != 1) | (pl.col("rows") < 2))
    if wrong.height:
        lines = [
            f"{origin}, row {row + 1}: question {group} has {rows} choice{'' if rows == 1 else 's'}, {right} of them right"
            for group, row, origin, rows, right in wrong.head(SHOWN_PROBLEMS).iter_rows()
        ]
        more = wrong.height - SHOWN_PROBLEMS
        raise KftError(
            "\n".join(lines + ([f"and {more} more such questions"] if more > 0 else [])),
            "a question has two choices or more, and the label of exactly one is 1; `data.group` names the column that "
            "the rows of one question share",
        )


def _check(frames: dict[str, pl.DataFrame], name: str) -> None:
    for frame in frames.values():
        check_questions(frame)


def _describe(frame: pl.DataFrame) -> dict[str, Any]:
    counts = frame["group"].value_counts()["count"]
    most = counts.max() or 0
    return {"questions": {"count": len(counts), "choices_mean": counts.mean() or 0.0, "choices_max": most}}


def _lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    q = described["questions"]
    counts = f"{q['count']:,}, of {q['choices_mean']:.3g} choices each, {q['choices_max']:,} at most"
    return [("questions", counts)]


def _right(labels: pl.Series, learned: Learned) -> np.ndarray:
    return labels.is_in(RIGHT).to_numpy()


def _reads(
    frame: pl.DataFrame, rows: Any, learned: Learned, class_weight: str | dict[str, float] | None = None
) -> Reads:
    check_questions(frame)
    right = _right(frame["label"], learned)
    return read_first(
        len(frame),
        targets=right.astype(np.int32)[:, None],
        weights=right.astype(np.float32),
        rivals="question",
        questions=numbered(frame),
    )


def _predictions(outputs: np.ndarray, learned: Learned, reads: Reads) -> np.ndarray:
    """Of choices [N, 3]: score, probability in the question, and 1 where that is the highest."""
    score, questions = outputs.astype(np.float64)[:, 0], reads.questions
    index = places(questions)
    table = np.full((index[0].max(initial=-1) + 1, index[1].max(initial=0) + 1), -np.inf)
    table[index] = score
    return np.stack([score, softmax(table, axis=1)[index], chosen(score, questions)], axis=1)


def _mean(predictions, learned: Learned, questions: np.ndarray) -> np.ndarray:
    averaged = np.mean(predictions, axis=0)
    averaged[:, 2] = chosen(averaged[:, 1], questions)
    return averaged


def _columns(predictions: np.ndarray, learned: Learned) -> list[pl.Series]:
    score, probability, best = predictions.T
    return [
        pl.Series("score", score, pl.Float64),
        pl.Series("probability", probability, pl.Float64),
        pl.Series("chosen", best > 0, pl.Boolean),
    ]


def _read(table: pl.DataFrame, learned: Learned) -> np.ndarray:
    return table.select(pl.col("score", "probability", "chosen").cast(pl.Float64)).to_numpy()  # [N, 3]


def _checked(targets: Any, predictions: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    targets, predictions = np.asarray(targets, np.int64), np.asarray(predictions, np.float64)
    if predictions.shape != (len(targets), predictions.shape[-1]):
        raise ValueError(f"predictions must be [{len(targets)}, C], got: {predictions.shape}")
    return targets, predictions


def _details(targets, predictions, labels, generator, resamples: int) -> dict[str, Any]:
    # How often a resample is right is binomial.
    total, right = len(targets), int((predictions.argmax(axis=1) == targets).sum())
    share = right / max(total, 1)
    resampled = {"accuracy": generator.binomial(total, share, resamples) / max(total, 1)}
    return {
        "questions": total,
        "intervals": bootstrap.intervals(resampled, total, right),
        "calibration": metrics.calibration(targets, predictions),
    }


def _resampled(targets, predictions, counts) -> dict[str, np.ndarray]:
    return {"accuracy": counts @ (predictions.argmax(axis=1) == targets) / counts.sum(axis=1)}


def _differ(predictions: np.ndarray, learned: Learned) -> tuple[np.ndarray, np.ndarray]:
    best = predictions[:, :, 2]
    return (best != best[0]).any(axis=0), -np.ptp(predictions[:, :, 1], axis=0)


def _worst(table: pl.DataFrame, labels: list[str], most: int) -> Mistakes:
    """Questions whose chosen row is wrong, the surest first; their choices by the last text."""
    choice = "text_pair" if "text_pair" in table.columns else "text"
    short = partial(clipped, width=CHOICE_LENGTH)
    sides = {"target": pl.col("target").is_in(RIGHT), "label": pl.col("chosen")}
    right, picked = (
        table.filter(side).select(
            "group", "id", "text", pl.col(choice).map_elements(short, pl.String).alias(name), "probability"
        )
        for name, side in sides.items()
    )
    wrong = picked.join(right, on="group", suffix="_right", maintain_order="left")
    wrong = wrong.filter(pl.col("id") != pl.col("id_right"))
    worst = wrong.sort("probability", descending=True, maintain_order=True).head(most)
    rows = [
        {
            "id": row["id"],
            "text": row["text"],
            "verdict": [
                ("chip target", row["target"], f"{row['probability_right']:.1%}"),
                ("muted", "taken for", None),
                ("chip wrong", row["label"], f"{row['probability']:.1%}"),
            ],
        }
        for row in worst.iter_rows(named=True)
    ]
    return Mistakes("Worst mistakes", mistakes_note(len(wrong), len(rows)), rows)


def _words(answer: dict[str, Any]) -> str:
    return f"{'chooses it' if answer['chosen'] else 'does not'} ({answer['probability']:.2f})"


TASK = Task(
    labels=Labels(_check, _describe, "random", lines=_lines),
    learn=lambda train, known=None, settings=None: Learned(),
    outputs=lambda learned: 1,
    check=lambda frame, learned: check_questions(frame),
    truths=_right,
    reads=_reads,
    places=lambda frame, rows: read_first(len(frame), questions=numbered(frame)),
    loss=lambda train, reads, learned: Loss("cross_entropy_among_rivals"),
    divergence="rivals",
    predictions=_predictions,
    scored=lambda truths, predictions, learned, questions: by_question(truths, predictions[:, 1], questions),
    columns=_columns,
    read=_read,
    mean=_mean,
    answer=lambda row, learned: {key: row[key] for key in ("score", "probability", "chosen")},
    answered="score",
    compared=lambda row, learned: {"probability": float(row[1]), "chosen": bool(row[2])},
    words=_words,
    differ=_differ,
    order="farthest apart",
    counted="choice",
    worst=_worst,
    scoring=Scoring(
        metrics=("accuracy", "log_loss", "expected_calibration_error"),
        loss="log_loss",
        checked=_checked,
        details=_details,
        resampled=_resampled,
        alike=lambda probabilities: probabilities.argmax(axis=1),
        right=lambda targets, probabilities: probabilities.argmax(axis=1) == targets,
        unit="question",
    ),
    export=Export(formats=(), signature=None, in_graph=lambda *_: {}, numbers="score"),
    grouped=True,
)
