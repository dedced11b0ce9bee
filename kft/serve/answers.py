"""The answers of a task that reads many tokens: rows, windows and words beside the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kft.tasks import TASKS
from kft.tasks.objects import listed
from kft.tasks.record import Inputs, Learned, Task
from kft.text import BERT, Tokens, encode_frame, load_tokenizer
from kft.text.tokenizers import ROLES

Columns = dict[str, np.ndarray]
TEXTS = ("text", "text_pair")  # columns of the texts, whatever the task calls them
STEP_TOKENS = 4096  # of a model call, padding included: what it needs of memory


class Answers:
    """A version's tokenizer and task: raw texts → what `kft predict` says of them."""

    def __init__(self, folder: Path, content: dict[str, Any]):
        """Reads what lies beside the model.

        Args:
            folder: of the version.
            content: of its export.json.

        Raises:
            Exception: one of the files is missing or damaged.
        """
        said = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        special_tokens = {role: said[role] for role in ROLES if role in said}
        self._tokenizer = load_tokenizer((folder / "tokenizer.json").read_text("utf-8"), special_tokens)
        self._task: Task = TASKS[content["task"]]
        self._learned = Learned(tuple(content["labels"]), **content.get("learned", {}))
        self.names: list[str] = content["inputs"]
        paired = len(self.names) > 1
        stride = content.get("windows", {}).get("stride")
        self._inputs = Inputs(paired, (), False, content["max_length"], located=True, stride=stride)
        self.fields = self._task.export.served

    def answer(self, columns: Columns, compute: Callable[[Columns], np.ndarray]) -> Columns:
        """Bytes [N] by the names of the texts → objects [N] by the names of the task's fields.

        Bytes that are not UTF-8 count as U+FFFD. None stands for a field that an answer lacks.

        Args:
            columns: of the texts.
            compute: padded token ids, mask and segment ids → logits [rows, T, C].

        Raises:
            KftError: a first text leaves windows no room for the second.
        """
        frame = pl.DataFrame(
            {
                column: [text.decode("utf-8", "replace") for text in columns[name]]
                for column, name in zip(TEXTS, self.names, strict=False)
            },
            schema=dict.fromkeys(TEXTS[: len(self.names)], pl.String),
        )
        tokens = encode_frame(self._tokenizer, BERT, frame, self._inputs)
        reads = self._task.places(frame, tokens)
        logits = _of_places(tokens, reads, compute)
        predictions = self._task.predictions(logits, self._learned, reads)
        table = frame.with_columns(self._task.columns(predictions, self._learned))
        rows = [self._task.answer(row, self._learned) for row in table.iter_rows(named=True)]
        return {name: listed([row.get(name) for row in rows]) for name in self.fields}


def _of_places(tokens: Tokens, reads: Any, compute: Callable[[Columns], np.ndarray]) -> np.ndarray:
    """Logits [M, C] of the places that are read, computed by like length."""
    lengths = np.diff(tokens.offsets)
    order = np.argsort(-lengths, kind="stable")
    parts: list[Any] = [None] * len(lengths)
    begin = 0
    while begin < len(order):
        rows = order[begin : begin + max(STEP_TOKENS // int(lengths[order[begin]]), 1)]
        for row, logits in zip(rows, compute(_padded(tokens, rows)), strict=True):
            parts[row] = logits[reads.places[reads.offsets[row] : reads.offsets[row + 1]]]
        begin += len(rows)
    return np.concatenate(parts)


def _padded(tokens: Tokens, rows: np.ndarray) -> Columns:
    lengths = np.diff(tokens.offsets)[rows]
    places = np.arange(lengths.max())
    mask = places < lengths[:, None]
    ids = np.zeros(mask.shape, np.int32)
    ids[mask] = np.concatenate([tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]] for row in rows])
    segments = (places >= tokens.second_starts[rows][:, None]) & mask
    return {
        "token_ids": ids,
        "padding_mask": mask.astype(np.int32),
        "segment_ids": segments.astype(np.int32),
    }
