"""Long texts in several windows: what the head reads of each, and their outputs as one answer."""

import numpy as np

from kft.tasks.record import Reads
from kft.text import Tokens


def spread(reads: Reads, tokens: Tokens) -> Reads:
    """What is read of examples, as what is read of their windows.

        examples    targets [2 0]        weights [1.0 0.5]
        windows     targets [2 2 2 0]    weights [1.0 0.0 0.0 0.5]     windows [0 0 0 1]

    The weight of an example stands at its first window, whose output training replaces by the mean
    (or the largest) of all, so that the example counts once and is trained as it is answered. Reads
    that have been made for the windows already, as those of words, stay as they are.

    Args:
        reads: of N examples, one place of each.
        tokens: of their windows.
    """
    example = tokens.examples
    if example is None or len(reads.counts) == len(example):
        return reads
    if not np.array_equal(reads.counts, np.ones(int(example.max(initial=-1)) + 1)):
        raise ValueError("windows are merged where one place of each example is read")
    questions = None if reads.questions is None else reads.questions[example]
    result = Reads(
        offsets=np.arange(len(example) + 1, dtype=np.int64),
        places=reads.places[example],
        rivals=reads.rivals,
        questions=questions,
        windows=example,
    )
    if reads.targets is None:
        return result
    return result.with_targets(reads.targets[example], reads.weights[example] * first_windows(example))


def first_windows(example: np.ndarray) -> np.ndarray:
    """Whether a row is the first of its example, bool [rows]."""
    return np.diff(example, prepend=-1) != 0


def merged(outputs: np.ndarray, example: np.ndarray, how: str) -> np.ndarray:
    """Outputs float32 [rows, C] of windows → those of examples, [N, C].

    Args:
        outputs: of the windows.
        example: int64 [rows], the example of each.
        how: "mean" or "max" of each of the C outputs.
    """
    begins = np.flatnonzero(first_windows(example))
    if how == "max":
        return np.maximum.reduceat(outputs, begins, axis=0)
    counts = np.diff(begins, append=len(example))[:, None]
    return (np.add.reduceat(outputs, begins, axis=0) / counts).astype(np.float32)
