"""Scores as an aligned plain text table, and how scores and names are written for people."""

from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len, set_cell_size

from kft.metrics.words import interval, number, of_class

LARGEST_MATRIX = 12  # classes
CLASSES = 30  # with more, the table of classes shows those with the lowest F1
NAME_WIDTH = 40  # terminal cells


def summary(scores: dict[str, dict[str, float | None]], details: dict[str, dict[str, Any]]) -> str:
    """The scores as a plain text table.

    Args:
        scores: {split: {metric: score}}, as in metrics.json.
        details: {split: what `scoring.details` gave}, as in details.json; splits may be missing.
    """
    return "\n\n".join(
        "\n".join(_split_lines(split, scores[split], details.get(split, {}))) for split in scores
    )


def over_groups(details: dict[str, Any]) -> str:
    """What intervals are over, where rows stand in groups; "" where they do not."""
    return f" over {details['groups']:,} groups" if "groups" in details else ""


def classes_to_show(per_class: dict[str, dict[str, float]]) -> list[tuple[str, dict[str, float]]]:
    """The classes in label order, or of very many those with the lowest F1."""
    if len(per_class) <= CLASSES:
        return list(per_class.items())
    return sorted(per_class.items(), key=lambda item: item[1]["f1"])[:CLASSES]


def _split_lines(split: str, scores: dict[str, float | None], details: dict[str, Any]) -> Iterator[str]:
    unit = "question" if "questions" in details else "example"
    count = details.get(f"{unit}s")
    yield split if count is None else f"{split}: {count:,} {unit}{'' if count == 1 else 's'}"
    intervals = details.get("intervals", {})
    rows = [
        (of_class(name, name, details.get("positive")), number(value), interval(intervals.get(name)))
        for name, value in scores.items()
    ]
    yield from aligned([("metric", "score", f"95 % interval{over_groups(details)}"), *rows])
    if per_class := details.get("per_class"):
        yield from _class_lines(per_class)
    if 0 < len(details.get("confusion_matrix", [])) <= LARGEST_MATRIX:
        yield from _matrix_lines(details["labels"], details["confusion_matrix"])


def _class_lines(per_class: dict[str, dict[str, float]]) -> Iterator[str]:
    listed = classes_to_show(per_class)
    yield ""
    if len(listed) < len(per_class):
        yield f"  the {len(listed)} of {len(per_class)} classes with the lowest F1"
    keys = ("precision", "recall", "f1")
    rows = [(label, *(number(c[key]) for key in keys), f"{c['support']:,}") for label, c in listed]
    yield from aligned([("class", *keys, "examples"), *rows])


def _matrix_lines(labels: list[str], matrix: list[list[int]]) -> Iterator[str]:
    yield ""
    yield "  confusion matrix: a row for each target, a column for each prediction"
    rows = [(f"{i} {labels[i]}", *(f"{n:,}" for n in counts)) for i, counts in enumerate(matrix)]
    yield from aligned([("", *map(str, range(len(matrix)))), *rows])


def aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns: the first to the left, numbers to the right, as wide as they show."""
    rows = [("".join(c if c.isprintable() else " " for c in first), *rest) for first, *rest in rows]
    name_width, *widths = (max(map(cell_len, column)) for column in zip(*rows, strict=True))
    name_width = min(name_width, NAME_WIDTH)
    for first, *rest in rows:
        name = first if cell_len(first) <= name_width else set_cell_size(first, name_width - 1) + "…"
        cells = [cell.rjust(width) for cell, width in zip(rest, widths, strict=True)]
        yield "  " + "  ".join([set_cell_size(name, name_width), *cells]).rstrip()
