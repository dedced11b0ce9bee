"""Times the calls of an artefact, for the programs beside this file; knows nothing of kft."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

CALLS = {1: 40, 32: 6}  # batch size → timed calls
SECONDS = 5  # after so many, a batch size is timed enough


def benchmark(
    answer: Callable[[list[list[str]]], Any], columns: list[list[str]], loading: float
) -> dict[str, Any]:
    """Times calls of `answer` with texts, one list for each text of an example.

    `loading` is in seconds, and is reported.
    """
    report: dict[str, Any] = {"load_seconds": round(loading, 3)}
    return report | {f"batch_{size}": timed(answer, columns, size, calls) for size, calls in CALLS.items()}


def timed(answer: Callable, columns: list[list[str]], size: int, calls: int) -> dict[str, float]:
    """Milliseconds of calls with different texts, the first one (a cold start) apart."""
    milliseconds: list[float] = []
    for call in range(calls + 1):
        indices = [(call * size + i) % len(columns[0]) for i in range(size)]
        given = [[column[i] for i in indices] for column in columns]
        started = time.perf_counter()
        answer(given)
        milliseconds.append(1000 * (time.perf_counter() - started))
        if call and sum(milliseconds) > 1000 * SECONDS:
            break
    first, *rest = milliseconds
    return {
        "calls": len(rest),
        "first_milliseconds": round(first, 2),
        "median_milliseconds": round(float(np.median(rest)), 2),
        "p90_milliseconds": round(float(np.quantile(rest, 0.9)), 2),
        "texts_per_second": round(1000 * size * len(rest) / sum(rest), 1),
    }
