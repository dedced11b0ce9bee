"""Exact match and F1 of answers to questions, by the rules of the official SQuAD 2.0 script.

The rules (Rajpurkar et al. 2018) hold for SQuAD 1.1 too: there each question has an answer. They
delete English articles and ASCII punctuation in texts of all languages.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
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


def scores(answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """The scores of N answers, from 0 to 1.

    Args:
        answers: of each question, "" for none.
        golds: the right answers of each question; none where it has no answer.

    Returns:
        {"f1", "exact_match"}; where some questions have no answer also the same of those with an
        answer ("has_answer_…") and of those without ("no_answer_…"). nan without questions.
    """
    pairs = list(zip(answers, golds, strict=True))
    values = {name: np.array([score(*pair) for pair in pairs]) for name, score in SCORES.items()}
    answered = np.array([right_ones(own) != [""] for own in golds], bool)
    parts = {"": np.ones(len(pairs), bool)}
    if not answered.all():
        parts |= {"has_answer_": answered, "no_answer_": ~answered}
    return {
        f"{part}{name}": float(own[rows].mean()) if rows.any() else float("nan")
        for part, rows in parts.items()
        for name, own in values.items()
    }


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


SCORES = {"f1": f1, "exact_match": exact_match}
