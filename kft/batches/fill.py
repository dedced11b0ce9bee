"""The arrays of one step, from the places of its examples."""

from dataclasses import dataclass

import numpy as np

from kft.batches.windows import first_windows
from kft.tasks.record import Reads
from kft.text import Tokens

PACKED_NAMES = ("token_ids", "positions", "segment_ids", "example_ids")
INPUT_NAMES = (*PACKED_NAMES, "reads")


@dataclass(frozen=True)
class Step:
    """The shape of a step, and where its E examples go.

    Attributes:
        shape: R, T and M.
        examples, packed_rows, starts, numbers, reads: int64 [E], of `Placement`, less empty places.
    """

    shape: tuple[int, int, int]
    examples: np.ndarray
    packed_rows: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    reads: np.ndarray


def fill(step: Step, tokens: Tokens, reads: Reads) -> tuple:
    """(inputs, targets, weights) as `dataset` gives them; of reads without targets (inputs,)."""
    packed_rows, length, places = step.shape
    which, within = each(
        tokens.offsets, step.examples
    )  # for each real token, its example and its position there
    to = (step.packed_rows * length + step.starts)[which] + within
    inputs = {name: np.zeros(packed_rows * length, np.int32) for name in PACKED_NAMES}
    inputs["token_ids"][to] = tokens.ids[tokens.offsets[step.examples][which] + within]
    inputs["positions"][to] = within
    inputs["segment_ids"][to] = within >= tokens.second_starts[step.examples][which]
    inputs["example_ids"][to] = step.numbers[which] + 1
    inputs = {name: array.reshape(packed_rows, length) for name, array in inputs.items()}

    which, within = each(reads.offsets, step.examples)  # the same for each place that is read
    source = reads.offsets[step.examples][which] + within
    index = step.packed_rows[which], step.reads[which] + within
    inputs["reads"] = np.zeros((packed_rows, places), np.int32)
    inputs["reads"][index] = step.starts[which] + reads.places[source]
    if tokens.spans is not None:
        inputs["spans"] = np.zeros((packed_rows, places, *tokens.spans.shape[1:]), np.int32)
        inputs["spans"][index] = (tokens.spans[step.examples] + step.starts[:, None, None])[which]
    if reads.targets is None:
        return (inputs,)
    given = reads.targets[source]
    if reads.rivals is not None:  # rivals share a number from 1, below 2**24 since losses compute in float32
        number = (
            reads.questions[step.examples] if reads.rivals == "question" else np.arange(len(step.examples))
        )
        if reads.windows is not None:  # the first window of a rival competes, the others stand aside
            number = np.where(first_windows(reads.windows)[step.examples], number, -1)
        given = np.concatenate([given, (number[which, None] + 1).astype(given.dtype)], axis=1)
    targets = np.zeros((packed_rows, places, *given.shape[1:]), given.dtype)
    targets[index] = given
    weights = np.zeros((packed_rows, places), np.float32)
    weights[index] = reads.weights[source]
    if reads.windows is not None:
        inputs["windows"] = np.zeros((packed_rows, places), np.int32)
        numbers = np.unique(reads.windows[step.examples], return_inverse=True)[1]
        inputs["windows"][index] = numbers[which] + 1
    return inputs, targets, weights


def each(offsets: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each item of the examples, the example's index among them, and its own place in it."""
    sizes = offsets[examples + 1] - offsets[examples]
    which = np.repeat(np.arange(len(examples)), sizes)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
