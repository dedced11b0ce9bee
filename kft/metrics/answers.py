"""Exact match and F1 of answers to questions, by the rules of the official SQuAD 2.0 script.

The rules (Rajpurkar et al. 2018) hold for SQuAD 1.1 too: there each question has an answer. They
delete English articles and ASCII punctuation in texts of all languages.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
METRICS = (
    "f1",
    "exact_match",
    "has_answer_f1",
    "has_answer_exact_match",
    "no_answer_f1",
    "no_answer_exact_match",
    "answer_log_loss",
)
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """A text in small letters, without ASCII punctuation, articles and superfluous spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def right_ones(golds: Sequence[str]) -> list[str]:
    """The right answers that hold a word; the empty one where there is none."""
    return [gold for gold in golds if normalized(gold)] or [""]


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 where an answer is one of the right ones, "" where there is none, else 0."""
    return float(normalized(answer) in map(normalized, right_ones(golds)))


def f1(answer: str, golds: Sequence[str]) -> float:
    """The highest F1 of the words of an answer and those of a right one."""
    return max(_overlap(normalized(answer).split(), normalized(gold).split()) for gold in right_ones(golds))


def _overlap(words: list[str], right: list[str]) -> float:
    if not words or not right:
        return float(words == right)
    shared = sum((Counter(words) & Counter(right)).values())
    return 2 * shared / (len(words) + len(right))


@dataclass(frozen=True)
class Answered:
    """The scores of the answers to N questions.

    Attributes:
        f1, exact: float64 [N], from 0 to 1.
        losses: float64 [N], -log of the probability of the right answers.
        has_answer: bool [N], whether a question has an answer at all.
    """

    f1: np.ndarray
    exact: np.ndarray
    losses: np.ndarray
    has_answer: np.ndarray

    def __len__(self) -> int:
        return len(self.f1)

    def __getitem__(self, rows: np.ndarray) -> "Answered":
        return Answered(*(part[rows] for part in (self.f1, self.exact, self.losses, self.has_answer)))


def answered(
    answers: Sequence[str], golds: Sequence[Sequence[str]], losses: np.ndarray | None = None
) -> Answered:
    """The scores of N answers.

    Args:
        answers: of each question, "" for none.
        golds: the right answers of each question; none where it has no answer.
        losses: of each question; None is 0.
    """
    pairs = list(zip(answers, golds, strict=True))
    parts = [np.array([score(*pair) for pair in pairs], np.float64) for score in (f1, exact_match)]
    has = np.array([right_ones(own) != [""] for own in golds], bool)
    return Answered(*parts, np.zeros(len(pairs)) if losses is None else losses, has)


def scores(given: Answered, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The scores [S] of METRICS of resamples; nan where no question of the kind is in one.

    Args:
        given: of N questions.
        counts: how often each resample holds each question, [S, N]; None is each once, S = 1.
    """
    counts = np.ones((1, len(given))) if counts is None else counts
    values = {"f1": given.f1, "exact_match": given.exact, "answer_log_loss": given.losses}
    kinds = {"": np.ones(len(given), bool), "has_answer_": given.has_answer, "no_answer_": ~given.has_answer}
    result = {}
    for name in METRICS:
        prefix = next(kind for kind in ("has_answer_", "no_answer_", "") if name.startswith(kind))
        drawn = counts * kinds[prefix]
        total = drawn.sum(axis=1)
        sums = drawn @ values[name.removeprefix(prefix)]
        result[name] = np.divide(sums, total, out=np.full(len(counts), np.nan), where=total > 0)
    return result


def total(name: str, targets: np.ndarray, given: Answered) -> float:
    """One score of all questions."""
    return float(scores(given)[name][0])


def best_threshold(
    own: Sequence[float], golds: Sequence[Sequence[str]], nulls: Sequence[float]
) -> tuple[float, float]:
    """(threshold, mean score) at which questions are best left without an answer.

    A question is answered where its null score is at most the threshold. The lowest of the
    thresholds that are equally good is taken; -inf answers none.

    Args:
        own: score of each question's best answer that is no empty one.
        golds: the right answers of each question.
        nulls: of each question, how much likelier no answer is than the best one.
    """
    empty = np.array([right_ones(gold) == [""] for gold in golds], float)
    order = np.argsort(np.asarray(nulls, float), kind="stable")
    nulls, gains = np.asarray(nulls, float)[order], (np.asarray(own, float) - empty)[order]
    sums = empty.sum() + np.concatenate([[0.0], np.cumsum(gains)])
    # Questions of one null score are answered together.
    last = np.r_[True, np.append(np.diff(nulls) > 0, True)[: len(nulls)]]
    best = int(np.where(last, sums, -np.inf).argmax())
    return float(nulls[best - 1]) if best else -np.inf, float(sums[best] / max(len(nulls), 1))
