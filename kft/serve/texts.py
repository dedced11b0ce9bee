"""Texts for a model that takes token ids alone: the tokenizer beside it makes them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tokenizers

Columns = dict[str, np.ndarray]
Answer = Callable[[Columns], dict[str, np.ndarray]]


class Texts:
    """A version's tokenizer: raw texts → what the signature of token ids takes."""

    def __init__(self, folder: Path):
        """Reads tokenizer.json, which cuts as the run does, and the names of the texts.

        Raises:
            Exception: one of the files is missing or damaged.
        """
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.names: list[str] = json.loads((folder / "export.json").read_text("utf-8"))["inputs"]

    def token_ids(self, columns: Columns) -> Columns:
        """Bytes [N] by the names of the texts → int32 [N, T] of token ids, mask and segment ids.

        Bytes that are not UTF-8 count as U+FFFD.
        """
        texts = [[text.decode("utf-8", "replace") for text in columns[name]] for name in self.names]
        rows = self._tokenizer.encode_batch(texts[0] if len(texts) == 1 else list(zip(*texts, strict=True)))
        lengths = np.fromiter((len(row.ids) for row in rows), np.int64, len(rows))
        mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
        inputs = {"padding_mask": mask.astype(np.int32)}
        for name, values in (
            ("token_ids", (row.ids for row in rows)),
            ("segment_ids", (row.type_ids for row in rows)),
        ):
            inputs[name] = np.zeros(mask.shape, np.int32)
            inputs[name][mask] = [number for row in values for number in row]
        return inputs
