"""All texts of a request, a batch at a time, and some of them timed, for the programs here."""

from collections.abc import Callable
from typing import Any

from timing import benchmark

BATCH = 16  # texts


def ask(answer: Callable[[list[list[str]]], list], request: dict[str, Any], loading: float) -> dict[str, Any]:
    """{"logits": [N, C], "benchmark"} of a model.

    Args:
        answer: texts of some examples, one list for each text of an example → their logits.
        request: "texts" and "benchmark", both as `answer` takes them.
        loading: seconds that the model took to load.
    """
    texts, logits = request["texts"], []
    for begin in range(0, len(texts[0]), BATCH):
        logits += answer([column[begin : begin + BATCH] for column in texts])
    return {"logits": logits, "benchmark": benchmark(answer, request["benchmark"], loading)}
