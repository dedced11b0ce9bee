"""Arrays with an object for each row, whatever its length: made, and checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def listed(rows: Sequence[Any]) -> np.ndarray:
    """[N] of objects, lists among them."""
    result = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        result[i] = row
    return result


def checked(targets: Any, predictions: Any, classes: int) -> tuple[Any, Any]:
    """`Scoring.checked` of a task whose predictions are objects with a length of their own."""
    if len(targets) != len(predictions):
        raise ValueError(f"predictions must be of {len(targets)} rows, got: {len(predictions)}")
    return targets, predictions
