"""Rows of whole texts → windows of at most so many tokens, which overlap."""

import numpy as np

from kft.errors import KftError
from kft.text.rows import Tokens, offsets_of
from kft.text.templates import Frame


def windows(rows: Tokens, parts: Frame, max_length: int, stride: int) -> Tokens:
    """Rows of at most `max_length` tokens, of a longer text several:

        whole      [CLS] a b c d e [SEP]
        windows    [CLS] a b c [SEP]   [CLS] c d e [SEP]          max_length 5, stride 1

    Of pairs each window has the whole first text, and the second text is cut:

        whole      [CLS] q [SEP] a b c [SEP]
        windows    [CLS] q [SEP] a b [SEP]   [CLS] q [SEP] b c [SEP]    max_length 6, stride 1

    Args:
        rows: of single texts or of pairs, none truncated.
        parts: the special tokens of a row.
        max_length: tokens of a window at most, special ones included.
        stride: tokens that a window shares with the one before; less than a window has room for.

    Raises:
        KftError: a first text leaves no room for more than `stride` tokens of the second.
    """
    lengths, after = np.diff(rows.offsets), len(parts.after)
    # Tokens before the text that is cut, of each example.
    before = (
        rows.second_starts.astype(np.int64) if parts.between else np.full(len(lengths), len(parts.before))
    )
    room = max_length - before - after
    if (narrow := np.flatnonzero(room <= stride)).size:
        n = int(narrow[0])
        raise KftError(
            f"row {n + 1}: its first text leaves room for {max(int(room[n]), 0)} tokens of the second, and windows "
            f"share {stride} (`model.stride`)",
            "raise `model.max_length`, or lower `model.stride`; `data.text` and `data.text_pair` exchanged cut the other text",
        )
    contents = lengths - before - after
    counts = 1 + np.maximum(-(-(contents - room) // (room - stride)), 0)
    example = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = number * (room - stride)[example]
    kept = np.minimum(contents[example] - first, room[example])
    before = before[example]
    offsets = offsets_of(kept + before + after)
    window = np.repeat(np.arange(len(example)), np.diff(offsets))  # of each token
    place = np.arange(len(window)) - offsets[window]
    place += np.where(place >= before[window], first[window], 0)
    # What stands after the text is the end of the whole row.
    end = before[window] + first[window] + kept[window]
    place += np.where(place >= end, contents[example][window] - first[window] - kept[window], 0)
    source = rows.offsets[:-1][example][window] + place
    return Tokens(
        rows.ids[source],
        offsets,
        (before if parts.between else np.diff(offsets)).astype(np.int32),
        rows.full_lengths[example],
        None if rows.characters is None else rows.characters[source],
        examples=example,
    )
