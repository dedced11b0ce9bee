"""Rows of whole texts → windows of at most so many tokens, which overlap."""

import numpy as np

from kft.text.rows import Tokens, offsets_of
from kft.text.templates import Frame


def windows(rows: Tokens, parts: Frame, max_length: int, stride: int) -> Tokens:
    """Rows of at most `max_length` tokens, of a longer text several:

        whole      [CLS] a b c d e [SEP]
        windows    [CLS] a b c [SEP]   [CLS] c d e [SEP]          max_length 5, stride 1

    Args:
        rows: of single texts, none truncated.
        parts: the special tokens of a row.
        max_length: tokens of a window at most, special ones included.
        stride: tokens that a window shares with the one before; less than a window has room for.
    """
    before, after = len(parts.before), len(parts.after)
    room = max_length - before - after
    lengths = np.diff(rows.offsets)
    contents = lengths - before - after
    counts = 1 + np.maximum(-(-(contents - room) // (room - stride)), 0)
    example = np.repeat(np.arange(len(lengths)), counts)
    first = (np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts)) * (room - stride)
    kept = np.minimum(contents[example] - first, room)
    offsets = offsets_of(kept + before + after)
    window = np.repeat(np.arange(len(example)), np.diff(offsets))  # of each token
    place = np.arange(len(window)) - offsets[window]
    place += np.where(place >= before, first[window], 0)
    # What stands after the text is the end of the whole row.
    end = before + first[window] + kept[window]
    place += np.where(place >= end, contents[example][window] - first[window] - kept[window], 0)
    source = rows.offsets[:-1][example][window] + place
    return Tokens(
        rows.ids[source],
        offsets,
        np.diff(offsets).astype(np.int32),
        rows.full_lengths[example],
        None if rows.characters is None else rows.characters[source],
        examples=example,
    )
