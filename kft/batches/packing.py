"""Examples → packed rows: best-fit decreasing, and the cheapest shape in which all steps fit."""

import numpy as np

# Attention over a packed row of T tokens costs about T / 1000 of its dense layers (measured on
# 6 × 384 units).
ATTENTION_COST_LENGTH = 1000


def best_fit(
    lengths: np.ndarray, packed_rows: int, length: int, reads: np.ndarray | None = None
) -> tuple[np.ndarray, ...] | None:
    """Best-fit decreasing in all steps at once: packed row, start, number, first read, each [S, E].

    Args:
        lengths: [S, E], sorted downwards.
        packed_rows, length: R and T.
        reads: [S, E], places of each example that are read; None where it is one.

    Returns None when some step does not fit.
    """
    steps, examples = lengths.shape
    step = np.arange(steps)
    free = np.full((steps, packed_rows), length)
    used, read = np.zeros((2, steps, packed_rows), np.int64)
    placed = np.zeros((4, steps, examples), np.int64)
    for b in range(examples):
        need = lengths[:, b]
        room = free - need[:, None]
        packed_row = np.where(room >= 0, room, length + 1).argmin(axis=1)
        if (room[step, packed_row] < 0).any():
            return None
        placed[:, :, b] = (
            packed_row,
            length - free[step, packed_row],
            used[step, packed_row],
            read[step, packed_row],
        )
        free[step, packed_row] -= need
        used[step, packed_row] += need > 0
        read[step, packed_row] += (need > 0) if reads is None else reads[:, b]
    return tuple(placed)


def choose_shape(steps: np.ndarray, devices: int) -> tuple[int, int]:
    """The cheapest [R, T] in which every step fits; `steps` [S, E] are lengths, sorted down."""
    totals = steps.sum(axis=1)
    longest = int(steps.max())
    most = steps.max(axis=0)  # [E] the b-th longest example that any step has
    hardest = steps[np.argsort(-totals, kind="stable")[:64]]  # most shapes that fail, fail on these
    best = (np.inf, 0, 0)
    most_rows = -(-steps.shape[1] // devices) * devices
    for packed_rows in range(devices, most_rows + 1, devices):
        length = max(longest, -(-int(totals.max()) // packed_rows))
        if length > max(4 * longest, 256) and packed_rows < most_rows:
            continue
        while _cost(packed_rows, length) < best[0]:
            fits = _may_fit(most, packed_rows, length) and best_fit(hardest, packed_rows, length) is not None
            if fits and best_fit(steps, packed_rows, length) is not None:
                best = (_cost(packed_rows, length), packed_rows, length)
                break
            length += max(1, length // 100)
    return best[1], best[2]


def _may_fit(most: np.ndarray, packed_rows: int, length: int) -> bool:
    """Whether no count alone forbids it: examples above 1/n of T, fewer than n in a packed row."""
    return all(np.count_nonzero(most * n > length) <= (n - 1) * packed_rows for n in range(2, 9))


def _cost(packed_rows: int, length: int) -> float:
    return packed_rows * length * (1 + length / ATTENTION_COST_LENGTH)


def first_fit(lengths: np.ndarray, length: int, most_reads: int, reads: np.ndarray) -> tuple[np.ndarray, ...]:
    """Best-fit decreasing in any number of packed rows: packed row, start, number, first read, [N].

    `open_rows[f]` holds the packed rows with f free tokens: an example costs a short search.

    Args:
        lengths: [N], sorted downwards.
        length: T.
        most_reads: M, at least the most places of one example.
        reads: [N], places of each example that are read.
    """
    packed_rows, starts, numbers, firsts = np.zeros((4, len(lengths)), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]
    used: list[int] = []
    read: list[int] = []
    for i, (need, places) in enumerate(zip(lengths.tolist(), reads.tolist(), strict=True)):
        packed_row, free = _open_packed_row(open_rows, read, need, most_reads - places)
        if packed_row is None:
            packed_row, free = len(used), length
            used.append(0)
            read.append(0)
        packed_rows[i], starts[i], numbers[i], firsts[i] = (
            packed_row,
            length - free,
            used[packed_row],
            read[packed_row],
        )
        used[packed_row] += 1
        read[packed_row] += places
        if read[packed_row] < most_reads:
            open_rows[free - need].append(packed_row)
    return packed_rows, starts, numbers, firsts


def _open_packed_row(
    open_rows: list[list[int]], read: list[int], need: int, most_read: int
) -> tuple[int | None, int]:
    """Takes out the last opened packed row with the least sufficient room, and that; or None."""
    for free in range(need, len(open_rows)):
        for i in reversed(range(len(open_rows[free]))):
            if read[open_rows[free][i]] <= most_read:
                return open_rows[free].pop(i), free
    return None, 0
