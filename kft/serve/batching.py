"""Dynamic batching: texts of several callers share a model call, made by one thread."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from kft.serve.model import BadInput, Model
from kft.serve.refusal import Refused, bad
from kft.serve.rest import Columns

Key = tuple[Model, str, tuple]  # calls with the same key can be one


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one request that are computed in one call: at most a batch of them."""

    key: Key
    columns: Columns
    count: int
    arrived: float
    answer: asyncio.Future


class Batcher:
    """Collects calls and hands them to the model; `run` does the work.

    While the model computes, what arrives waits and makes up the next call. While it is idle, a
    call waits up to the delay for others.
    """

    def __init__(
        self,
        max_batch_size: int,
        max_delay_seconds: float,
        queue_size: int,
        observe: Callable[[int, float], Any] = lambda rows, seconds: None,
    ):
        self._max_batch_size = max_batch_size
        self._max_delay_seconds = max_delay_seconds
        self._queue_size = queue_size
        self._observe = observe
        self._waiting: deque[Piece] = deque()
        self._arrived = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return sum(piece.count for piece in self._waiting)

    async def call(self, model: Model, signature: str, columns: Columns, count: int) -> Columns:
        """The signature's outputs for the columns' rows.

        Raises:
            Refused: 503, the queue is full; 400, the model does not take the input.
        """
        if self.waiting + count > self._queue_size:
            raise Refused(503, "too many texts are waiting; try again later", {"Retry-After": "1"})
        pieces = [
            self._piece(model, signature, columns, begin, min(begin + self._max_batch_size, count))
            for begin in range(0, count, self._max_batch_size)
        ]
        self._waiting.extend(pieces)
        self._arrived.set()
        try:
            parts = await asyncio.gather(*(piece.answer for piece in pieces))
        except BadInput as error:
            raise bad(str(error)) from None
        finally:
            for piece in pieces:
                piece.answer.cancel()  # where the caller gave up, or another piece failed
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    async def run(self) -> None:
        """Answers what arrives, until it is cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "model") as thread:
            while True:
                await self._arrived.wait()
                await self._collect()
                batch = self._take()
                if batch:
                    answers = await loop.run_in_executor(thread, self._compute, batch)
                    for piece, answer in zip(batch, answers, strict=True):
                        _settle(piece.answer, answer)

    def _piece(self, model: Model, signature: str, columns: Columns, begin: int, end: int) -> Piece:
        part = {name: column[begin:end] for name, column in columns.items()}
        shapes = tuple((name, column.shape[1:]) for name, column in sorted(part.items()))
        future = asyncio.get_running_loop().create_future()
        return Piece((model, signature, shapes), part, end - begin, time.monotonic(), future)

    async def _collect(self) -> None:
        """Waits until the batch is full or its first call has waited for the delay."""
        while self._waiting and self.waiting < self._max_batch_size:
            left = self._waiting[0].arrived + self._max_delay_seconds - time.monotonic()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[Piece]:
        """The first call and those after it that fit beside it; the others keep their order."""
        batch: list[Piece] = []
        kept: list[Piece] = []
        rows = 0
        for piece in self._waiting:
            if piece.answer.done():  # nobody waits for it any more
                continue
            fits = rows + piece.count <= self._max_batch_size and (not batch or piece.key == batch[0].key)
            (batch if fits else kept).append(piece)
            rows += piece.count if fits else 0
        self._waiting = deque(kept)
        if kept:
            self._arrived.set()
        else:
            self._arrived.clear()
        return batch

    def _compute(self, batch: list[Piece]) -> list[Columns | Exception]:
        """The answer, or what went wrong, for each piece; runs in the model's thread."""
        try:
            return self._answers(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [self._compute([piece])[0] for piece in batch]  # only the one at fault shall suffer

    def _answers(self, batch: list[Piece]) -> list[Columns]:
        model, signature, _ = batch[0].key
        names = batch[0].columns
        columns = {name: np.concatenate([piece.columns[name] for piece in batch]) for name in names}
        started = time.monotonic()
        outputs = model.call(signature, columns)
        counts = [piece.count for piece in batch]
        self._observe(sum(counts), time.monotonic() - started)
        return [
            {name: values[end - count : end] for name, values in outputs.items()}
            for count, end in zip(counts, np.cumsum(counts), strict=True)
        ]


def _settle(future: asyncio.Future, answer: Columns | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
