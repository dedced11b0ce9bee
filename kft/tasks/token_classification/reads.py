"""Where the head reads: at the first token of each word, with its tag and its weight."""

from typing import Any

import numpy as np
import polars as pl

from kft.tasks import words
from kft.tasks.classification import check_weights
from kft.tasks.record import Items, Learned, Reads
from kft.tasks.token_classification.tags import rows_of


def places(frame: pl.DataFrame, rows: Any) -> Reads:
    """The first token of each word, in the row of tokens that has most around it."""
    columns = (frame[name] if name in frame.columns else [None] * len(frame) for name in ("text", "words"))
    spans = [words.spans_of(*row) for row in zip(*columns, strict=True)]
    counts = np.array([len(row) for row in spans], np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.array([span for row in spans for span in row], np.int32).reshape(-1, 2)
    return first_tokens(rows, flat, offsets)


def first_tokens(rows: Any, spans: np.ndarray, offsets: np.ndarray) -> Reads:
    """The reads of words.

    Args:
        rows: located tokens; `rows.examples` tells of which example each row is.
        spans: int32 [W, 2], the characters of all words of N examples.
        offsets: int64 [N + 1], where the words of each begin.
    """
    lengths = np.diff(rows.offsets)
    example = np.arange(len(lengths)) if rows.examples is None else rows.examples
    # Of each row, all words of its example: the row, the word.
    counts = np.diff(offsets)[example]
    row = np.repeat(np.arange(len(lengths)), counts)
    word = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + offsets[example][row]
    # Tokens end in order of their characters, but for special ones at the end of a row.
    begins, ends = rows.characters.T.astype(np.int64)
    within = np.arange(len(ends)) - np.repeat(rows.offsets[:-1], lengths)
    size = np.int64(max(int(ends.max(initial=0)), int(spans.max(initial=0))) + 2)
    ends = np.where((ends == 0) & (within > 0), size - 1, ends)
    keys = np.repeat(np.arange(len(lengths)), lengths) * size + ends
    token = np.searchsorted(keys, row * size + spans[word, 0], side="right")
    known = token < rows.offsets[row + 1]
    row, word, token = row[known], word[known], token[known]
    known = (begins[token] < spans[word, 1]) & (rows.characters[token, 1] > spans[word, 0])
    row, word, token = row[known], word[known], token[known]
    place = token - rows.offsets[row]
    around = np.minimum(place, lengths[row] - 1 - place)
    best = np.lexsort((row, -around, word))  # of each word the row that shows most first
    best = best[np.r_[True, np.diff(word[best]) > 0]] if len(best) else best
    best = best[np.lexsort((word[best], row[best]))]
    row, word, place = row[best], word[best], place[best]
    read = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(lengths)))]).astype(np.int64)
    return Reads(read, place.astype(np.int32), items=Items(offsets, word))


def reads(
    frame: pl.DataFrame, rows: Any, learned: Learned, class_weight: str | dict[str, float] | None = None
) -> Reads:
    reads = places(frame, rows)
    ids = {tag: i for i, tag in enumerate(learned.labels)}
    tags = [ids.get(tag, -1) for row in rows_of(frame["label"]) for tag in row]
    targets = np.array(tags, np.int32)[reads.items.of]
    weights = (targets >= 0).astype(np.float32)
    targets = np.maximum(targets, 0)
    return reads.with_targets(targets, weights * _class_weights(targets, learned, class_weight))


def _class_weights(
    targets: np.ndarray, learned: Learned, class_weight: str | dict[str, float] | None
) -> np.ndarray | float:
    """The weight of each word, by its tag; as for classes."""
    if class_weight is None:
        return 1.0
    if class_weight == "balanced":
        counts = np.bincount(targets, minlength=len(learned.labels))
        by_tag = len(targets) / (len(learned.labels) * np.maximum(counts, 1))
    else:
        check_weights(class_weight, list(learned.labels))
        by_tag = np.array([class_weight.get(tag, 1.0) for tag in learned.labels])
    return by_tag[targets].astype(np.float32)
