"""The likeliest answers of each question: out of outputs, scored, into tables and back."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.special import log_softmax, logsumexp

from kft.metrics import answers
from kft.tasks.objects import listed
from kft.tasks.record import Learned, Reads

BEST = 20  # answers that are kept of a question, and starts and ends that are tried of a window
LEAST = 1e-4  # the probability of what is not among the best, for the loss
Span = tuple[int, int]  # first character in the context, the one after the last


@dataclass(frozen=True)
class Candidates:
    """The K likeliest answers of a question, each with other words, the likeliest first.

    Attributes:
        texts: their words.
        spans: where they stand.
        scores: float64 [K], log-probabilities; with that of none they add up to 1.
        none: log-probability of no answer; -inf where every question has one.
        answered: whether the likeliest is the answer, else there is none.
    """

    texts: tuple[str, ...]
    spans: tuple[Span, ...]
    scores: np.ndarray
    none: float
    answered: bool

    @property
    def answer(self) -> str:
        """The words of the answer, "" for none."""
        return self.texts[0] if self.answered else ""

    @property
    def probability(self) -> float:
        """Of the answer, or of none."""
        return float(np.exp(self.scores[0] if self.answered else self.none))

    @property
    def doubt(self) -> float:
        """How much likelier no answer is than the best one, as a log-ratio."""
        return self.none - (float(self.scores[0]) if len(self.scores) else 0.0)


def predictions(outputs: np.ndarray, learned: Learned, reads: Reads) -> np.ndarray:
    """[N] `Candidates` of outputs [M, 2], as the BERT paper's script finds them.

    Of each window the BEST likeliest starts and ends are paired; a score is the sum of both
    outputs. That of none is the least of all windows' first tokens.
    """
    items, rows = reads.items, []
    for n, context in enumerate(items.contexts):
        known: dict[Span, float] = {}
        none = np.inf
        for window in range(items.offsets[n], items.offsets[n + 1]):
            own = slice(reads.offsets[window], reads.offsets[window + 1])
            scores = outputs[own].astype(np.float64)
            none = min(none, float(scores[0].sum()))
            for span, score in _pairs(scores[1:], items.characters[own][1:], learned.longest):
                known[span] = max(known.get(span, -np.inf), score)
        own = _candidates(context, known, none if learned.none_above is not None else -np.inf)
        rows.append(_decided(own, learned))
    return listed(rows)


def _pairs(scores: np.ndarray, characters: np.ndarray, longest: int) -> Iterable[tuple[Span, float]]:
    """The likeliest spans of a window and their scores."""
    starts, ends = (np.argsort(-column, kind="stable")[:BEST] for column in scores.T)
    a, b = (part.ravel() for part in np.meshgrid(starts, ends, indexing="ij"))
    fits = (a <= b) & (b - a < longest)
    a, b = a[fits], b[fits]
    sums = scores[a, 0] + scores[b, 1]
    best = np.argsort(-sums, kind="stable")[:BEST]
    for i in best.tolist():
        yield (int(characters[a[i], 0]), int(characters[b[i], 1])), float(sums[i])


def _candidates(context: str, known: dict[Span, float], none: float) -> Candidates:
    by_text: dict[str, tuple[Span, float]] = {}
    for span, score in sorted(known.items(), key=lambda pair: (-pair[1], pair[0])):
        by_text.setdefault(context[slice(*span)], (span, score))
    texts = list(by_text)[:BEST]
    spans, scores = [by_text[text][0] for text in texts], [by_text[text][1] for text in texts]
    if not texts:
        return Candidates((), (), np.zeros(0), 0.0, False)
    *own, of_none = log_softmax(np.array([*scores, none]))
    return Candidates(tuple(texts), tuple(spans), np.array(own), float(of_none), True)


def _decided(own: Candidates, learned: Learned) -> Candidates:
    """With an answer, unless none is so much likelier."""
    doubtful = learned.none_above is not None and own.doubt > learned.none_above
    return replace(own, answered=bool(own.texts) and not doubtful)


def tune(learned: Learned, settings: Any, truths: np.ndarray, predictions: np.ndarray) -> Learned:
    """The threshold of no answer with the best F1 on validation."""
    if learned.none_above is None or not len(truths):
        return learned
    own = [answers.f1(c.texts[0] if c.texts else "", g) for c, g in zip(predictions, truths, strict=True)]
    doubts = [candidates.doubt for candidates in predictions]
    threshold, _ = answers.best_threshold(own, truths, doubts)
    return replace(learned, none_above=threshold if np.isfinite(threshold) else min(doubts) - 1.0)


def scored(truths: np.ndarray, predictions: np.ndarray, learned: Learned, questions=None):
    texts = [candidates.answer for candidates in predictions]
    losses = [-np.log(max(right_probability(c, g), LEAST)) for c, g in zip(predictions, truths, strict=True)]
    return truths, answers.answered(texts, list(truths), np.array(losses, np.float64))


def right_probability(candidates: Candidates, golds: tuple[str, ...]) -> float:
    """The probability of the right answers."""
    if answers.right_ones(golds) == [""]:
        return float(np.exp(candidates.none))
    right = [answers.exact_match(text, golds) > 0 for text in candidates.texts]
    return float(np.exp(candidates.scores[right]).sum()) if any(right) else 0.0


def columns(predictions: np.ndarray, learned: Learned) -> list[pl.Series]:
    kind = pl.Struct({"text": pl.String, "start": pl.Int64, "end": pl.Int64, "log_probability": pl.Float64})
    rows = [
        [
            {"text": text, "start": span[0], "end": span[1], "log_probability": float(score)}
            for text, span, score in zip(c.texts, c.spans, c.scores, strict=True)
        ]
        for c in predictions
    ]
    return [
        pl.Series("answer", [c.answer for c in predictions], pl.String),
        pl.Series("candidates", rows, pl.List(kind)),
        pl.Series(
            "none_log_probability", [c.none if np.isfinite(c.none) else None for c in predictions], pl.Float64
        ),
    ]


def of_row(row: dict[str, Any]) -> Candidates:
    """The candidates in a row of a table of predictions."""
    best = row["candidates"]
    none = row["none_log_probability"]
    return Candidates(
        tuple(c["text"] for c in best),
        tuple((c["start"], c["end"]) for c in best),
        np.array([c["log_probability"] for c in best], np.float64),
        -np.inf if none is None else none,
        bool(row["answer"]),
    )


def read(table: pl.DataFrame, learned: Learned) -> np.ndarray:
    rows = table.select("answer", "candidates", "none_log_probability").iter_rows(named=True)
    return listed([of_row(row) for row in rows])


def mean(predictions: list[np.ndarray], learned: Learned, questions=None) -> np.ndarray:
    """Of several models: the mean of their probabilities, 0 for what one does not have."""
    return listed([_decided(_together(list(parts)), learned) for parts in zip(*predictions, strict=True)])


def _together(parts: list[Candidates]) -> Candidates:
    scores: dict[str, list[float]] = {}
    spans: dict[str, Span] = {}
    for part in parts:
        for text, span, score in zip(part.texts, part.spans, part.scores, strict=True):
            scores.setdefault(text, []).append(float(score))
            spans.setdefault(text, span)
    means = {text: float(logsumexp(own)) - np.log(len(parts)) for text, own in scores.items()}
    texts = sorted(means, key=lambda text: -means[text])
    none = float(logsumexp([part.none for part in parts])) - np.log(len(parts))
    return Candidates(
        tuple(texts),
        tuple(spans[text] for text in texts),
        np.array([means[text] for text in texts]),
        none,
        True,
    )


def compared(row: Candidates, learned: Learned) -> dict[str, Any]:
    return {"answer": row.answer, "score": row.probability}


def differ(predictions: np.ndarray, learned: Learned) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(zip(*predictions, strict=True))
    unlike = [len({answers.normalized(c.answer) for c in own}) > 1 for own in pairs]
    return np.array(unlike, bool), -np.array([min(c.probability for c in own) for own in pairs])
