"""Where the head reads: at the first token of each window, and at the tokens of the context.

The first token stands for no answer. The answer of a window that does not hold it whole is none.
"""

from typing import Any

import numpy as np
import polars as pl

from kft.progress import note
from kft.tasks.golds import located
from kft.tasks.question_answering.golds import rows_of
from kft.tasks.record import Items, Learned, Reads


def places(frame: pl.DataFrame, rows: Any) -> Reads:
    """The places of windows.

    Args:
        frame: its contexts, "text_pair".
        rows: located tokens; `rows.examples` tells of which example each window is.
    """
    lengths = np.diff(rows.offsets)
    window = np.repeat(np.arange(len(lengths)), lengths)  # of each token
    within = np.arange(len(window)) - rows.offsets[window]
    begins, ends = rows.characters.T
    read = (within == 0) | ((within >= rows.second_starts[window]) & (ends > begins))
    counts = np.bincount(window[read], minlength=len(lengths))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    characters = np.where((within == 0)[:, None], 0, rows.characters)[read].astype(np.int32)
    contexts = tuple(frame["text_pair"].fill_null("").to_list())
    items = Items(rows.bounds.astype(np.int64), window[read], characters, contexts)
    return Reads(offsets, within[read].astype(np.int32), rivals="example", items=items)


def reads(
    frame: pl.DataFrame, rows: Any, learned: Learned, class_weight: str | dict[str, float] | None = None
) -> Reads:
    """The places with targets 1 at the start and at the end of an answer, each with half a weight.

    Of several answers the first that stands in the context is learned, as SQuAD's scripts do.
    """
    given = places(frame, rows)
    starts, ends = given.offsets[:-1].copy(), given.offsets[:-1].copy()
    golds, outside = [located(golds) for golds in rows_of(frame["label"])], 0
    for n, own in enumerate(golds):
        windows = range(given.items.offsets[n], given.items.offsets[n + 1])
        spans = [_tokens_of(given, w, own[0].start, own[0].end) for w in windows] if own else []
        for w, span in zip(windows, spans, strict=False):
            if span is not None:
                starts[w], ends[w] = span
        outside += bool(own) and not any(span is not None for span in spans)
    if outside:
        note(
            f"answers   {outside:,} of {sum(map(bool, golds)):,} stand whole in no window, and are not learned: raise "
            "model.max_length or model.stride"
        )
    targets = np.zeros((len(given.places), 2), np.int32)
    targets[starts, 0] = targets[ends, 1] = 1
    return given.with_targets(targets, targets.sum(axis=1) / 2)


def _tokens_of(given: Reads, window: int, start: int, end: int) -> tuple[int, int] | None:
    """The places of an answer's first and last token; None where the window lacks one of them."""
    first, last = given.offsets[window] + 1, given.offsets[window + 1]
    begins, ends = given.items.characters[first:last].T
    if not len(begins) or begins[0] > start or ends[-1] < end:
        return None
    # The first token that ends after the answer begins, the last that begins before it ends.
    a, b = np.searchsorted(ends, start, side="right"), np.searchsorted(begins, end, side="left") - 1
    return (int(first + a), int(first + b)) if a <= b else None
