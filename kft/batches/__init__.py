"""Token rows → static-shape batches; their order is a pure function of (seed, epoch).

Letters: N examples, B examples in a step, S steps in an epoch, R rows in a step, T tokens in a row, K slots for
examples in a row. Several examples share a row, and attention never crosses from one to another:

    token_ids   [[CLS good film SEP CLS bad SEP 0]      example_ids [[1 1 1 1 2 2 2 0]
                 [CLS what a long dull film SEP 0]]                  [1 1 1 1 1 1 1 0]]
    positions   [[0 1 2 3 0 1 2 0] [0 1 2 3 4 5 6 0]]   first_tokens [[0 4] [0 0]]   weights [[1 1] [1 0]]

The example in slot k of a row has the number k + 1 in `example_ids`; 0 is padding.

Where several examples are the choices of one question, a step holds B questions, each with all its examples, in any rows:
so B means what it means to a recipe for one question, whatever the number of choices. E is the number of examples that a
step has room for: B, or those of the B largest questions.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kft.text import Tokens

# Attention over a row of T tokens costs about T / 1000 of a row's dense layers (measured on 6 × 384 units).
ATTENTION_COST_LENGTH = 1000
PREDICTION_LENGTHS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
STEPS_AHEAD = 4
INPUT_NAMES = ("token_ids", "positions", "segment_ids", "example_ids", "first_tokens")


@dataclass(frozen=True)
class Plan:
    """What every step of a training run looks like.

    Attributes:
        lengths: int64 [N], tokens of each example.
        batch_size: B, examples in each step, or questions.
        seed: with the epoch's number, the only source of the order.
        rows, length, slots: R, T and K, the same in every step of the run.
        packed: whether rows hold several examples.
        groups: int64 [N], number of each example's question, from 0 and without gaps; None where examples stand alone.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int
    rows: int
    length: int
    slots: int
    packed: bool
    groups: np.ndarray | None = None

    @property
    def units(self) -> int:
        """Examples in an epoch, or questions."""
        return len(self.lengths) if self.groups is None else int(self.groups.max()) + 1

    @property
    def unit(self) -> str:
        """What a step counts."""
        return "examples" if self.groups is None else "questions"

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return -(-self.units // self.batch_size)

    @property
    def filled(self) -> float:
        """Share of the token slots of an epoch that hold real tokens."""
        return float(self.lengths.sum() / (self.steps * self.rows * self.length))


@dataclass(frozen=True)
class Placement:
    """Where the examples of some steps go: example, row, start in the row and slot, int64 [S, E].

    An example of -1 is an empty place.
    """

    examples: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    slots: np.ndarray


def plan(
    lengths: np.ndarray,
    batch_size: int,
    epochs: int,
    seed: int,
    *,
    packed: bool = True,
    devices: int = 1,
    groups: np.ndarray | None = None,
) -> Plan:
    """The cheapest shape [R, T] that holds every step of the run, and K.

    Args:
        lengths: [N], tokens of each example.
        batch_size: B, examples (or questions) in each step; the last step of an epoch may hold fewer.
        epochs: the order of all of them is tried, so that no later step can fail to fit.
        seed: of the order.
        packed: False gives each example a row of its own, as long as the longest example.
        devices: R is a multiple of this number.
        groups: see `Plan`.
    """
    lengths = np.asarray(lengths, np.int64)
    if not packed:
        rows = -(-_room(groups, batch_size) // devices) * devices
        return Plan(lengths, batch_size, seed, rows, int(lengths.max()), 1, False, groups)
    steps = np.concatenate(
        [_lengths_of(lengths, _examples(lengths, groups, batch_size, seed, e)) for e in range(epochs)]
    )
    steps = -np.sort(-steps, axis=1)
    steps = steps[:, steps.any(axis=0)]  # no step may hold as many examples as the largest questions have
    rows, length = _choose_shape(steps, devices)
    slots = int(_best_fit(steps, rows, length)[2].max()) + 1
    return Plan(lengths, batch_size, seed, rows, length, slots, True, groups)


def placement(plan: Plan, epoch: int) -> Placement:
    """Where each example of an epoch goes; a pure function of the plan's seed and the epoch's number (from 0)."""
    examples = _examples(plan.lengths, plan.groups, plan.batch_size, plan.seed, epoch)  # [S, E]
    if not plan.packed:
        rows = np.broadcast_to(np.arange(examples.shape[1]), examples.shape)
        return Placement(examples, rows, np.zeros_like(examples), np.zeros_like(examples))
    lengths = _lengths_of(plan.lengths, examples)
    order = np.argsort(-lengths, axis=1, kind="stable")
    examples = np.take_along_axis(examples, order, axis=1)
    rows, starts, slots = _best_fit(np.take_along_axis(lengths, order, axis=1), plan.rows, plan.length)
    return Placement(examples, rows, starts, slots)


def dataset(
    plan: Plan, tokens: Tokens, targets: np.ndarray, weights: np.ndarray, epoch: int, first_step: int = 0
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """The steps of an epoch from `first_step` on: (inputs, targets, weights) of each.

    Args:
        plan: made for the lengths of `tokens`.
        tokens: the N examples.
        targets: [N, …]: int32 [N] (classes), float32 [N, 1] (scores) or int32 [N, 2] (choices).
        weights: float32 [N], of each example in the loss.

    Yields inputs `token_ids`, `positions`, `segment_ids`, `example_ids` int32 [R, T] and `first_tokens` int32 [R, K];
    where the tokens have P spans also `spans` int32 [R, K, P, 2], the places in the row where each begins and before which
    it ends; targets [R, K, …]; weights float32 [R, K]. Empty slots hold 0.
    """
    where = placement(plan, epoch)

    def steps() -> Iterator[tuple]:
        for s in range(first_step, plan.steps):
            real = where.examples[s] >= 0
            places = [a[s][real] for a in (where.examples, where.rows, where.starts, where.slots)]
            yield _fill(plan.rows, plan.length, plan.slots, tokens, *places, targets, weights)

    return _ahead(steps())


@dataclass(frozen=True)
class PredictionShape:
    """R, T and K of prediction batches."""

    rows: int
    length: int
    slots: int


def prediction_shape(
    lengths: np.ndarray, max_length: int, step_tokens: int, devices: int = 1
) -> PredictionShape:
    """One of a few fixed shapes, so that compiled programs are found again for other files.

    Args:
        lengths: tokens of each example to come; the row is the shortest fixed length that holds the longest.
        max_length: the model's limit, which a row need not pass when one example fills it.
        step_tokens: about how many tokens, R × T, a step takes.
    """
    longest = int(max(lengths, default=1))
    length = next((n for n in PREDICTION_LENGTHS if n >= longest), max(longest, max_length))
    rows = max(step_tokens // length, 1)
    return PredictionShape(-(-rows // devices) * devices, length, max(length // 8, 1))


def prediction_steps(tokens: Tokens, shape: PredictionShape) -> tuple[Placement, np.ndarray]:
    """Where each example goes when all are predicted once: a placement with S = 1, and each one's step, int64 [N].

    Examples are packed longest first, so that steps near each other hold examples of like length.
    """
    lengths = np.diff(tokens.offsets)
    order = np.argsort(-lengths, kind="stable")
    rows, starts, slots = _first_fit(lengths[order], shape)
    return Placement(order[None], rows[None] % shape.rows, starts[None], slots[None]), rows // shape.rows


def prediction_batches(
    tokens: Tokens, shape: PredictionShape, where: Placement, steps: np.ndarray
) -> Iterator[tuple[dict[str, np.ndarray]]]:
    """The steps of `prediction_steps`: inputs as in `dataset`, each in a tuple of its own."""
    order = np.argsort(steps, kind="stable")
    bounds = np.searchsorted(steps[order], np.arange(steps.max(initial=-1) + 2))
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        at = order[begin:end]
        places = [a[0][at] for a in (where.examples, where.rows, where.starts, where.slots)]
        yield _fill(shape.rows, shape.length, shape.slots, tokens, *places)


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
    for step, held in enumerate(questions):
        found = np.concatenate([members[bounds[q] : bounds[q + 1]] for q in held[held >= 0]])
        examples[step, : len(found)] = found
    return examples


def _compose(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Examples of each step, int64 [S, B]: one of each of B length classes, so that step totals are nearly equal.

    The examples of the shorter classes fall to steps at random. Those of the longest quarter, whose lengths differ
    most, level the totals: the longest goes to the step that is shortest so far, and so on.
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
            at = rng.permutation(sizes[b])
        else:
            shortest_first = np.lexsort((rng.random(sizes[b]), totals[: sizes[b]]))
            at = shortest_first[::-1]  # `members` are sorted upwards
        composed[at, b] = members
        totals[at] += lengths[members]
    full = steps - 1 if empty else steps
    composed[:full] = composed[rng.permutation(full)]
    return composed


def _lengths_of(lengths: np.ndarray, examples: np.ndarray) -> np.ndarray:
    return np.where(examples >= 0, lengths[examples], 0)


def _best_fit(
    lengths: np.ndarray, rows: int, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Best-fit decreasing in all steps at once: row, start, slot [S, E] for lengths [S, E] sorted downwards.

    None when some step does not fit.
    """
    steps, examples = lengths.shape
    at = np.arange(steps)
    free = np.full((steps, rows), length)
    used = np.zeros((steps, rows), np.int64)
    placed = np.zeros((3, steps, examples), np.int64)
    for b in range(examples):
        need = lengths[:, b]
        room = free - need[:, None]
        row = np.where(room >= 0, room, length + 1).argmin(axis=1)
        if (room[at, row] < 0).any():
            return None
        placed[:, :, b] = row, length - free[at, row], used[at, row]
        free[at, row] -= need
        used[at, row] += need > 0
    return placed[0], placed[1], placed[2]


def _choose_shape(steps: np.ndarray, devices: int) -> tuple[int, int]:
    """The [R, T] of least cost in which every step fits; `steps` [S, E] holds lengths, sorted downwards."""
    totals = steps.sum(axis=1)
    longest = int(steps.max())
    most = steps.max(axis=0)  # [E] the b-th longest example that any step has
    hardest = steps[np.argsort(-totals, kind="stable")[:64]]  # most shapes that fail, fail on these
    best = (np.inf, 0, 0)
    most_rows = -(-steps.shape[1] // devices) * devices
    for rows in range(devices, most_rows + 1, devices):
        length = max(longest, -(-int(totals.max()) // rows))
        if length > max(4 * longest, 256) and rows < most_rows:
            continue
        while _cost(rows, length) < best[0]:
            fits = _may_fit(most, rows, length) and _best_fit(hardest, rows, length) is not None
            if fits and _best_fit(steps, rows, length) is not None:
                best = (_cost(rows, length), rows, length)
                break
            length += max(1, length // 100)
    return best[1], best[2]


def _may_fit(most: np.ndarray, rows: int, length: int) -> bool:
    """Whether no count alone forbids it: of examples longer than 1/n of a row, a row holds less than n."""
    return all(np.count_nonzero(most * n > length) <= (n - 1) * rows for n in range(2, 9))


def _cost(rows: int, length: int) -> float:
    return rows * length * (1 + length / ATTENTION_COST_LENGTH)


def _first_fit(lengths: np.ndarray, shape: PredictionShape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best-fit decreasing over as many rows as needed: row, start, slot [N] for lengths sorted downwards.

    `open_rows[f]` holds the rows with f free tokens, so that each example costs a short search, not a scan of rows.
    """
    rows, starts, slots = (np.zeros(len(lengths), np.int64) for _ in range(3))
    open_rows: list[list[int]] = [[] for _ in range(shape.length + 1)]
    used: list[int] = []
    for i, need in enumerate(lengths.tolist()):
        free = next((f for f in range(need, shape.length + 1) if open_rows[f]), None)
        if free is None:
            row, free = len(used), shape.length
            used.append(0)
        else:
            row = open_rows[free].pop()
        rows[i], starts[i], slots[i] = row, shape.length - free, used[row]
        used[row] += 1
        if used[row] < shape.slots:
            open_rows[free - need].append(row)
    return rows, starts, slots


def _fill(
    rows: int,
    length: int,
    slots: int,
    tokens: Tokens,
    examples: np.ndarray,
    row: np.ndarray,
    start: np.ndarray,
    slot: np.ndarray,
    targets: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> tuple:
    """The arrays of one step, from the place of each of its examples."""
    sizes = tokens.offsets[examples + 1] - tokens.offsets[examples]
    which = np.repeat(np.arange(len(examples)), sizes)  # for each real token, its example
    within = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # and its position there
    to = (row * length + start)[which] + within
    inputs = {name: np.zeros(rows * length, np.int32) for name in INPUT_NAMES[:4]}
    inputs["token_ids"][to] = tokens.ids[tokens.offsets[examples][which] + within]
    inputs["positions"][to] = within
    inputs["segment_ids"][to] = within >= tokens.second_starts[examples][which]
    inputs["example_ids"][to] = slot[which] + 1
    inputs = {name: array.reshape(rows, length) for name, array in inputs.items()}
    inputs["first_tokens"] = np.zeros((rows, slots), np.int32)
    inputs["first_tokens"][row, slot] = start
    if tokens.spans is not None:
        inputs["spans"] = np.zeros((rows, slots, *tokens.spans.shape[1:]), np.int32)
        inputs["spans"][row, slot] = tokens.spans[examples] + start[:, None, None]
    if targets is None:
        return (inputs,)
    placed = np.zeros((rows, slots, *targets.shape[1:]), targets.dtype)
    placed[row, slot] = targets[examples]
    weight = np.zeros((rows, slots), np.float32)
    weight[row, slot] = weights[examples]
    return inputs, placed, weight


def _ahead(steps: Iterator[tuple]) -> Iterator[tuple]:
    """The same steps in the same order, made by a thread of their own while the model computes."""
    with ThreadPoolExecutor(1) as worker:
        waiting = deque(worker.submit(next, steps, None) for _ in range(STEPS_AHEAD))
        while (step := waiting.popleft().result()) is not None:
            waiting.append(worker.submit(next, steps, None))
            yield step
