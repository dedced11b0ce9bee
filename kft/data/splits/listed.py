"""Labels that are lists of one name, as annotation tools and `datasets` write them."""

import ast
import json

import polars as pl

from kft.errors import KftError


def unlisted(frames: dict[str, pl.DataFrame], shown: dict[str, str]) -> dict[str, pl.DataFrame]:
    """The frames with the one name of each list as label, where all labels of train are lists; an
    empty one is no label.

    Args:
        frames: of the splits.
        shown: what messages call them.

    Raises:
        KftError: a list has several names.
    """
    labels = frames["train"]["label"].drop_nulls().unique()
    if not len(labels) or not all(_names(label) is not None for label in labels):
        return frames
    return {name: frame.with_columns(_unlisted(frame, shown[name])) for name, frame in frames.items()}


def _unlisted(frame: pl.DataFrame, shown: str) -> pl.Series:
    names = {label: _names(label) for label in frame["label"].drop_nulls().unique()}
    several = [label for label, found in names.items() if found is not None and len(found) > 1]
    if several:
        row = frame["label"].is_in(several).arg_true()[0]
        raise KftError(
            f"{shown}, row {frame['id'][row] + 1}: has {len(names[frame['label'][row]])} labels, "
            f"{frame['label'][row]}, and a class is one",
            "take a task whose rows may have several labels, or leave the row out",
        )
    one = {label: label if found is None else next(iter(found), None) for label, found in names.items()}
    return pl.Series("label", [one.get(label) for label in frame["label"]], pl.String)


def _names(label: str) -> list[str] | None:
    """The names in a list, as JSON or Python writes it; None of anything else."""
    if not (label.startswith("[") and label.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(label)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(name, str | int) for name in found):
            return list(map(str, found))
    return None
