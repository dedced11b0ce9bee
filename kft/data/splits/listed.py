"""Labels that are lists of one name, as annotation tools and `datasets` write them."""

import ast
import json

import polars as pl

from kft.errors import KftError


def unlisted(frames: dict[str, pl.DataFrame], display_names: dict[str, str]) -> dict[str, pl.DataFrame]:
    """The frames with the one name of each list as label, if all labels of train are lists.

    An empty list is no label.

    Args:
        frames: of the splits.
        display_names: what messages call them.

    Raises:
        KftError: a list has several names.
    """
    labels = frames["train"]["label"].drop_nulls().unique()
    if not len(labels) or not all(_names(label) is not None for label in labels):
        return frames
    return {name: frame.with_columns(_unlisted(frame, display_names[name])) for name, frame in frames.items()}


def _unlisted(frame: pl.DataFrame, name: str) -> pl.Series:
    names = {label: _names(label) for label in frame["label"].drop_nulls().unique()}
    several = [label for label, parts in names.items() if parts is not None and len(parts) > 1]
    if several:
        row = frame["label"].is_in(several).arg_true()[0]
        raise KftError(
            f"{name}, row {frame['id'][row] + 1}: has {len(names[frame['label'][row]])} labels, "
            f"{frame['label'][row]}, and a class is one",
            "take a task whose rows may have several labels, or leave the row out",
        )
    one = {label: label if parts is None else next(iter(parts), None) for label, parts in names.items()}
    return pl.Series("label", [one.get(label) for label in frame["label"]], pl.String)


def _names(label: str) -> list[str] | None:
    """The names in a list, as JSON or Python writes it; None of anything else."""
    if not (label.startswith("[") and label.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            values = read(label)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(values, list) and all(isinstance(name, str | int) for name in values):
            return list(map(str, values))
    return None
