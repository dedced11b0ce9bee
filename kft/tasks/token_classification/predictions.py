"""Probabilities of each word: out of outputs, scored, into tables and back, side by side."""

from typing import Any

import numpy as np
import polars as pl
from scipy.special import softmax

from kft.metrics import entities
from kft.metrics.entities import Tagged
from kft.tasks import words
from kft.tasks.objects import listed
from kft.tasks.record import Learned, Reads


def predictions(outputs: np.ndarray, learned: Learned, reads: Reads) -> np.ndarray:
    items = reads.items
    flat = np.zeros((int(items.offsets[-1]), len(learned.labels)))
    flat[items.of] = softmax(outputs.astype(np.float64), axis=1)
    return listed([flat[begin:end] for begin, end in zip(items.offsets[:-1], items.offsets[1:], strict=True)])


def chosen(probabilities: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    """The tag of each word; O for one that was not read."""
    read = probabilities.any(axis=1)
    best = probabilities.argmax(axis=1).tolist()
    return [labels[i] if seen else words.OUTSIDE for i, seen in zip(best, read, strict=True)]


def scored(truths: np.ndarray, predictions: np.ndarray, learned: Learned, questions=None):
    labels, plain = learned.labels, words.plain_prefix(learned.labels)
    ids = {tag: i for i, tag in enumerate(labels)}
    gold, tags, losses = [], [], np.zeros(len(truths))
    read, lost = np.zeros((2, len(truths)), np.int64)
    for n, (right, probabilities) in enumerate(zip(truths, predictions, strict=True)):
        answered = chosen(probabilities, labels)
        gold.append([words.normal(tag or words.OUTSIDE, plain) for tag in right])
        tags.append(
            [
                words.normal(tag, plain) if true else words.OUTSIDE
                for tag, true in zip(answered, right, strict=True)
            ]
        )
        own = np.array([ids.get(tag, -1) for tag in right], np.int64)
        seen = probabilities.any(axis=1)
        known = (own >= 0) & seen
        likelihood = probabilities[known, own[known]]
        losses[n] = -np.log(np.maximum(likelihood, 1e-15)).sum()
        read[n], lost[n] = known.sum(), (~seen).sum()
    prefixes = {words.parts(tag)[0] for row in (*gold, *tags) for tag in row}
    scheme = "IOBES" if prefixes & {"E", "S"} else words.scheme_of(gold) or "IOB2"
    return truths, Tagged(gold, tags, losses, read, lost, scheme)


def columns(predictions: np.ndarray, learned: Learned) -> list[pl.Series]:
    return [
        pl.Series("tags", [chosen(row, learned.labels) for row in predictions], pl.List(pl.String)),
        pl.Series(
            "scores", [row.max(axis=1, initial=0).tolist() for row in predictions], pl.List(pl.Float64)
        ),
        pl.Series("probabilities", [row.tolist() for row in predictions], pl.List(pl.List(pl.Float64))),
    ]


def read(table: pl.DataFrame, learned: Learned) -> np.ndarray:
    rows = table["probabilities"].to_list()
    return listed([np.array(row, np.float64).reshape(-1, len(learned.labels)) for row in rows])


def mean(predictions: list[np.ndarray], learned: Learned, questions=None) -> np.ndarray:
    return listed([np.mean(rows, axis=0) for rows in zip(*predictions, strict=True)])


def compared(row: np.ndarray, learned: Learned) -> dict[str, Any]:
    return {"entities": _spelled(chosen(row, learned.labels), words.plain_prefix(learned.labels))}


def said(label: str) -> str:
    """The entities of a row's right tags, as `compared` spells those of predicted ones."""
    tags = [tag or words.OUTSIDE for tag in words.tags_in(label) or ()]
    return ", ".join(_spelled(tags, words.plain_prefix(tags))) or "no entity"


def _spelled(tags: list[str], plain: str) -> list[str]:
    spans = entities.lenient([words.normal(tag, plain) for tag in tags])
    return [f"{kind} {first + 1}-{last + 1}" for kind, first, last in spans]


def differ(predictions: np.ndarray, learned: Learned) -> tuple[np.ndarray, np.ndarray]:
    answered = [[tuple(chosen(row, learned.labels)) for row in model] for model in predictions]
    unlike = np.array([len(set(tags)) > 1 for tags in zip(*answered, strict=True)], bool)
    sure = [min(map(_sureness, rows)) for rows in zip(*predictions, strict=True)]
    return unlike, -np.array(sure)


def _sureness(probabilities: np.ndarray) -> float:
    """The mean over the words of a row of the highest probability."""
    return float(probabilities.max(axis=1, initial=0).sum() / max(len(probabilities), 1))


def together(predictions: np.ndarray) -> np.ndarray:
    """Probabilities of all items in one, [W, C]."""
    return np.concatenate(list(predictions))


def ties(predictions: np.ndarray, learned: Learned, tolerance: float) -> np.ndarray:
    top = -np.sort(-together(predictions), axis=1)[:, :2]
    return top[:, 0] - top[:, -1] <= 2 * tolerance
