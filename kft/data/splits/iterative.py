"""Iterative stratification: rows with several labels → parts near their shares of each label."""

from collections.abc import Sequence

import numpy as np


def spread(
    labels: Sequence[Sequence[str]], rows: Sequence[int], shares: Sequence[float], order: Sequence[int]
) -> list[int]:
    """Part of each block (Sechidis, Tsoumakas and Vlahavas 2011, algorithm 1).

    The label with the fewest rows left comes first. Each block that has it goes to the part that
    wants most rows of this label, of equal ones to the part that wants most rows in all. Blocks
    without a label go where most rows are wanted.

    Args:
        labels: of each block of rows that stay together, all labels of its rows, repeated for each
            row that has one.
        rows: of each block.
        shares: of each part, adding up to 1.
        order: of the blocks, which decides between equal ones.
    """
    names, ids = np.unique([label for block in labels for label in block], return_inverse=True)
    ends = np.cumsum([len(block) for block in labels])
    own = [
        np.unique(ids[end - len(block) : end], return_counts=True)
        for block, end in zip(labels, ends, strict=True)
    ]
    left = np.bincount(ids, minlength=len(names))  # rows of each label that have no part yet
    wanted = np.outer(shares, left).astype(float)  # [parts, labels]
    room = np.array(shares, float) * sum(rows)  # rows that each part wants
    having: list[list[int]] = [[] for _ in names]
    for block in order:
        for label in own[block][0]:
            having[label].append(block)
    parts = [-1] * len(labels)

    def place(block: int, part: int) -> None:
        label, count = own[block]
        parts[block] = part
        wanted[part, label] -= count
        left[label] -= count
        room[part] -= rows[block]

    while left.any():
        rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
        for block in (block for block in having[rarest] if parts[block] < 0):
            most = np.flatnonzero(wanted[:, rarest] == wanted[:, rarest].max())
            place(block, int(most[room[most].argmax()]))
    for block in (block for block in order if parts[block] < 0):
        place(block, int(room.argmax()))
    return parts
