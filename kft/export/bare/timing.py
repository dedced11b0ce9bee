"""How long the calls of an artefact take; the programs beside this file, which know nothing of kft,
use it.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

CALLS = {1: 40, 32: 6}  # batch size → timed calls
SECONDS = 5  # after so many, a batch size is timed enough


def benchmark(
    answer: Callable[[list[list[str]]], Any], columns: list[list[str]], loading: float
) -> dict[str, Any]:
    """Times calls of `answer` with texts, given as one list for each text of an example; `loading`
    is told in seconds.
    """
    told: dict[str, Any] = {"load_seconds": round(loading, 3)}
    return told | {f"batch_{size}": timed(answer, columns, size, calls) for size, calls in CALLS.items()}


def timed(answer: Callable, columns: list[list[str]], size: int, calls: int) -> dict[str, float]:
    """Milliseconds of calls with different texts, the first one (a cold start) apart."""
    taken: list[float] = []
    for call in range(calls + 1):
        at = [(call * size + i) % len(columns[0]) for i in range(size)]
        given = [[column[i] for i in at] for column in columns]
        started = time.perf_counter()
        answer(given)
        taken.append(1000 * (time.perf_counter() - started))
        if call and sum(taken) > 1000 * SECONDS:
            break
    first, *rest = taken
    return {
        "calls": len(rest),
        "first_milliseconds": round(first, 2),
        "median_milliseconds": round(float(np.median(rest)), 2),
        "p90_milliseconds": round(float(np.quantile(rest, 0.9)), 2),
        "texts_per_second": round(1000 * size * len(rest) / sum(rest), 1),
    }
