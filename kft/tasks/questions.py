"""Rows that belong to questions: their numbers, their places, the best row of each."""

import numpy as np
import polars as pl

GROUP = "split_group"  # the column of a frame that `split.group` names


def numbered(rows: pl.DataFrame) -> np.ndarray | None:
    """Number of each row's question, int64 [N] from 0 without gaps; None where rows stand alone."""
    return np.unique(rows["group"].to_numpy(), return_inverse=True)[1] if "group" in rows.columns else None


def group_numbers(rows: pl.DataFrame) -> np.ndarray | None:
    """Number of each scored example's group, int64 from 0; a question has its first row's.

    A row without a group is one of its own; None where rows have no groups.
    """
    if GROUP not in rows.columns:
        return None
    groups, questions = rows[GROUP], numbered(rows)
    if questions is not None:
        groups = groups[np.unique(questions, return_index=True)[1]]
    names = [f"group {name}" if name is not None else f"row {i}" for i, name in enumerate(groups)]
    return np.unique(np.array(names), return_inverse=True)[1]


def by_question(
    right: np.ndarray, probability: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The right choice's place, int64 [Q], and probabilities [Q, most choices], else 0.

    Args:
        right: 1 for the right choice of each question, else 0, [N].
        probability: of each choice, [N].
        numbers: of the questions, [N].
    """
    index = places(numbers)
    marks, probabilities = np.zeros((2, index[0].max(initial=-1) + 1, index[1].max(initial=0) + 1))
    marks[index], probabilities[index] = right, probability
    return marks.argmax(axis=1), probabilities


def chosen(scores: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """float [N]: 1 for the first choice of highest score in each question, else 0."""
    index = places(numbers)
    table = np.full((index[0].max(initial=-1) + 1, index[1].max(initial=0) + 1), -np.inf)
    table[index] = scores
    marks = np.zeros_like(table)
    marks[np.arange(len(table)), table.argmax(axis=1)] = 1
    return marks[index]


def places(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row its question's number and its own place in the question, in row order."""
    order = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers)
    place = np.empty(len(numbers), np.int64)
    place[order] = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers, place
