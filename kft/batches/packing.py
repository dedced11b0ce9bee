"""Examples → rows: best-fit decreasing, and the cheapest shape of a step in which all fit."""

import numpy as np

# Attention over a row of T tokens costs about T / 1000 of a row's dense layers (measured on 6 × 384
# units).
ATTENTION_COST_LENGTH = 1000


def best_fit(
    lengths: np.ndarray, rows: int, length: int, reads: np.ndarray | None = None
) -> tuple[np.ndarray, ...] | None:
    """Best-fit decreasing in all steps at once: row, start, number in the row and first read, each
    [S, E].

    Args:
        lengths: [S, E], sorted downwards.
        rows, length: R and T.
        reads: [S, E], places of each example that are read; None where it is one.

    Returns None when some step does not fit.
    """
    steps, examples = lengths.shape
    at = np.arange(steps)
    free = np.full((steps, rows), length)
    used, read = np.zeros((2, steps, rows), np.int64)
    placed = np.zeros((4, steps, examples), np.int64)
    for b in range(examples):
        need = lengths[:, b]
        room = free - need[:, None]
        row = np.where(room >= 0, room, length + 1).argmin(axis=1)
        if (room[at, row] < 0).any():
            return None
        placed[:, :, b] = row, length - free[at, row], used[at, row], read[at, row]
        free[at, row] -= need
        used[at, row] += need > 0
        read[at, row] += (need > 0) if reads is None else reads[:, b]
    return tuple(placed)


def choose_shape(steps: np.ndarray, devices: int) -> tuple[int, int]:
    """The [R, T] of least cost in which every step fits; `steps` [S, E] holds lengths, sorted
    downwards.
    """
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
            fits = _may_fit(most, rows, length) and best_fit(hardest, rows, length) is not None
            if fits and best_fit(steps, rows, length) is not None:
                best = (_cost(rows, length), rows, length)
                break
            length += max(1, length // 100)
    return best[1], best[2]


def _may_fit(most: np.ndarray, rows: int, length: int) -> bool:
    """Whether no count alone forbids it: of examples longer than 1/n of a row, a row holds less
    than n.
    """
    return all(np.count_nonzero(most * n > length) <= (n - 1) * rows for n in range(2, 9))


def _cost(rows: int, length: int) -> float:
    return rows * length * (1 + length / ATTENTION_COST_LENGTH)


def first_fit(lengths: np.ndarray, length: int, most_reads: int, reads: np.ndarray) -> tuple[np.ndarray, ...]:
    """Best-fit decreasing over as many rows as needed: row, start, number in the row and first
    read, each [N].

    `open_rows[f]` holds the rows with f free tokens, so that each example costs a short search, not
    a scan of rows.

    Args:
        lengths: [N], sorted downwards.
        length: T.
        most_reads: M, at least the most places of one example.
        reads: [N], places of each example that are read.
    """
    rows, starts, numbers, firsts = np.zeros((4, len(lengths)), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]
    used: list[int] = []
    read: list[int] = []
    for i, (need, places) in enumerate(zip(lengths.tolist(), reads.tolist(), strict=True)):
        row, free = _open_row(open_rows, read, need, most_reads - places)
        if row is None:
            row, free = len(used), length
            used.append(0)
            read.append(0)
        rows[i], starts[i], numbers[i], firsts[i] = row, length - free, used[row], read[row]
        used[row] += 1
        read[row] += places
        if read[row] < most_reads:
            open_rows[free - need].append(row)
    return rows, starts, numbers, firsts


def _open_row(
    open_rows: list[list[int]], read: list[int], need: int, most_read: int
) -> tuple[int | None, int]:
    """Takes out the last opened row of the least free tokens that has room, and of these tokens how
    many; else None.
    """
    for free in range(need, len(open_rows)):
        for i in reversed(range(len(open_rows[free]))):
            if read[open_rows[free][i]] <= most_read:
                return open_rows[free].pop(i), free
    return None, 0
