"""What every step of a training run looks like, and where each example of an epoch goes."""

from dataclasses import dataclass

import numpy as np

from kft.batches.packing import best_fit, choose_shape
from kft.tasks.record import Reads


@dataclass(frozen=True)
class Plan:
    """What every step of a training run looks like.

    Attributes:
        lengths: int64 [N], tokens of each example.
        counts: int64 [N], places of each example that are read.
        batch_size: B, examples in each step, or questions.
        seed: with the epoch's number, the only source of the order.
        packed_rows, length, reads: R, T and M, the same in every step of the run.
        packed: whether packed rows hold several examples.
        groups: int64 [N], number of each example's question, or of the text that it is a window of,
            from 0 and without gaps; None where examples stand alone.
        unit: what a step counts.
    """

    lengths: np.ndarray
    counts: np.ndarray
    batch_size: int
    seed: int
    packed_rows: int
    length: int
    reads: int
    packed: bool
    groups: np.ndarray | None = None
    unit: str = "examples"

    @property
    def units(self) -> int:
        """Examples in an epoch, or questions."""
        return len(self.lengths) if self.groups is None else int(self.groups.max()) + 1

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return -(-self.units // self.batch_size)

    @property
    def filled(self) -> float:
        """Share of the token places of an epoch that hold real tokens."""
        return float(self.lengths.sum() / (self.steps * self.packed_rows * self.length))


@dataclass(frozen=True)
class Placement:
    """Where the examples of some steps go, int64 [S, E].

    Attributes:
        examples: -1 in empty places.
        packed_rows: R's index.
        starts: place of the first token in the packed row.
        numbers: of the example in its packed row, from 0.
        reads: M's index of its first read place.
    """

    examples: np.ndarray
    packed_rows: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    reads: np.ndarray


def plan(
    lengths: np.ndarray,
    batch_size: int,
    epochs: int,
    seed: int,
    *,
    packed: bool = True,
    devices: int = 1,
    reads: Reads | None = None,
) -> Plan:
    """The cheapest shape [R, T] that holds every step of the run, and M.

    Args:
        lengths: [N], tokens of each example.
        batch_size: B, examples (or questions) in each step; the last step of an epoch may hold
            fewer.
        epochs: the order of all of them is tried, so that no later step can fail to fit.
        seed: of the order.
        packed: False gives each example a packed row of its own, as long as the longest example.
        devices: R is a multiple of this number.
        reads: what the head reads of the examples; None is the first token of each.
    """
    lengths = np.asarray(lengths, np.int64)
    counts = np.ones(len(lengths), np.int64) if reads is None else reads.counts
    groups = None if reads is None else reads.groups
    unit = "examples" if reads is None or reads.questions is None else "questions"
    if not packed:
        packed_rows = -(-_room(groups, batch_size) // devices) * devices
        length, most = int(lengths.max()), max(int(counts.max()), 1)
        return Plan(lengths, counts, batch_size, seed, packed_rows, length, most, False, groups, unit)
    examples = [_examples(lengths, groups, batch_size, seed, epoch) for epoch in range(epochs)]
    order, steps = _longest_first(lengths, np.concatenate(examples))
    used = steps.any(axis=0)  # no step may hold as many examples as the largest questions have
    order, steps = order[:, used], steps[:, used]
    packed_rows, length = choose_shape(steps, devices)
    _, _, _, firsts = best_fit(steps, packed_rows, length, _of(counts, order))
    most = int((firsts + np.maximum(_of(counts, order), 1)).max())  # an empty place takes one too
    return Plan(lengths, counts, batch_size, seed, packed_rows, length, most, True, groups, unit)


def placement(plan: Plan, epoch: int) -> Placement:
    """Where each example of an epoch goes: a pure function of the plan's seed and the epoch."""
    examples = _examples(plan.lengths, plan.groups, plan.batch_size, plan.seed, epoch)  # [S, E]
    if not plan.packed:
        packed_rows = np.broadcast_to(np.arange(examples.shape[1]), examples.shape)
        return Placement(examples, packed_rows, *np.zeros((3, *examples.shape), np.int64))
    examples, lengths = _longest_first(plan.lengths, examples)
    fitted = best_fit(lengths, plan.packed_rows, plan.length, _of(plan.counts, examples))
    return Placement(examples, *fitted)


def step_weights(plan: Plan, weights: np.ndarray, epoch: int) -> np.ndarray:
    """The total weight of each step of an epoch, float64 [S], of the weight of each example [N]."""
    examples = _examples(plan.lengths, plan.groups, plan.batch_size, plan.seed, epoch)  # [S, E]
    return _of(weights.astype(np.float64), examples).sum(axis=1)


def _longest_first(lengths: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The examples of each step and their lengths, [S, E], sorted downwards."""
    step_lengths = _of(lengths, examples)
    order = np.argsort(-step_lengths, axis=1, kind="stable")
    return np.take_along_axis(examples, order, axis=1), np.take_along_axis(step_lengths, order, axis=1)


def _room(groups: np.ndarray | None, batch_size: int) -> int:
    """E: examples that any step may hold."""
    return batch_size if groups is None else int(np.sort(np.bincount(groups))[-batch_size:].sum())


def _examples(
    lengths: np.ndarray, groups: np.ndarray | None, batch_size: int, seed: int, epoch: int
) -> np.ndarray:
    """Examples of each step, int64 [S, E]; -1 in empty places."""
    if groups is None:
        return _compose(lengths, batch_size, seed, epoch)
    members = np.argsort(groups, kind="stable")
    bounds = np.r_[0, np.cumsum(np.bincount(groups))]
    questions = _compose(np.add.reduceat(lengths[members], bounds[:-1]), batch_size, seed, epoch)  # [S, B]
    examples = np.full((len(questions), _room(groups, batch_size)), -1, np.int64)
    for step, chosen in enumerate(questions):
        own = np.concatenate([members[bounds[q] : bounds[q + 1]] for q in chosen[chosen >= 0]])
        examples[step, : len(own)] = own
    return examples


def _compose(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Examples of each step, int64 [S, B]: one of each length class, so that totals are near.

    The examples of the shorter classes fall to steps at random. Those of the longest quarter, whose
    lengths differ most, level the totals: the longest goes to the step that is shortest so far, and
    so on.
    """
    rng = np.random.default_rng([seed, epoch])
    steps = -(-len(lengths) // batch_size)
    by_length = np.lexsort((rng.random(len(lengths)), lengths))  # ties in random order
    empty = steps * batch_size - len(lengths)
    # The first `empty` classes are one example short; their empty place falls to the last step.
    sizes = np.full(batch_size, steps)
    sizes[:empty] -= 1
    ends = np.cumsum(sizes)
    composed = np.full((steps, batch_size), -1, np.int64)
    totals = np.zeros(steps, np.int64)
    levelling = max(batch_size // 4, 2)
    order = [*range(batch_size - levelling), *range(batch_size - 1, batch_size - levelling - 1, -1)]
    for b in order:
        members = by_length[ends[b] - sizes[b] : ends[b]]
        if b < batch_size - levelling:
            chosen = rng.permutation(sizes[b])
        else:
            shortest_first = np.lexsort((rng.random(sizes[b]), totals[: sizes[b]]))
            chosen = shortest_first[::-1]  # `members` are sorted upwards
        composed[chosen, b] = members
        totals[chosen] += lengths[members]
    full = steps - 1 if empty else steps
    composed[:full] = composed[rng.permutation(full)]
    return composed


def _of(values: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Of each example, 0 in empty places."""
    return np.where(examples >= 0, values[examples], 0)
