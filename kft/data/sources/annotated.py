"""What annotation programs write: Label Studio's tasks, and its cells of several choices.

A task is {"id": 1, "data": {"text": "…"}, "annotations": [{"was_cancelled": false, "result":
[{"from_name": "sentiment", "type": "choices", "value": {"choices": ["Positive"]}}]}]}
(https://labelstud.io/guide/task_format). It is read as Label Studio's own JSON-MIN has it: the
fields of its data, and a field for each control, here "text" and "sentiment".
"""

import json
from collections.abc import Iterator
from typing import Any

from kft.tasks import labels

Row = dict[str, Any]
PLAIN = ("choices", "rating", "number")  # controls of one value for a whole text


def unfolded(rows: list[Row]) -> list[Row]:
    """The rows; of Label Studio's tasks one for each annotation that was not cancelled.

    What several people say of a text are several rows. A task that nobody has annotated is a row
    without a label. `data` and `annotations` stay, of the latter the row's own alone.
    """
    if not rows or not all(map(_is_task, rows)):
        return rows
    return [row for task in rows for row in _of_task(task)]


def choices(value: Any) -> list[Any] | None:
    """The names in {"choices": ["joy", "love"]}, or in that as JSON; None of anything else."""
    if isinstance(value, str):
        if not value.startswith('{"choices":'):
            return None
        try:
            value = json.loads(value)
        except ValueError:
            return None
    names = value.get("choices") if isinstance(value, dict) and set(value) == {"choices"} else None
    return names if isinstance(names, list) else None


def spelled(label: str) -> str:
    """A label; of one that is several choices the set of them."""
    names = choices(label)
    return label if names is None else labels.spelled(map(str, names))


def _is_task(row: Row) -> bool:
    return isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list)


def _of_task(task: Row) -> Iterator[Row]:
    valid = [a for a in task["annotations"] if isinstance(a, dict) and not a.get("was_cancelled")]
    for own in [[annotation] for annotation in valid] or [[]]:
        given = _controls(own[0].get("result")) if own else {}
        rest = {key: value for key, value in task.items() if key not in given}
        yield {**task["data"], **given, **rest, "annotations": own}


def _controls(results: Any) -> Row:
    """Name of each control → what was chosen there; of one that marks places all that it marks."""
    given: dict[str, list[Row]] = {}
    for result in results if isinstance(results, list) else ():
        if isinstance(result, dict) and isinstance(result.get("value"), dict) and result.get("from_name"):
            given.setdefault(result["from_name"], []).append(result)
    return {name: _plain(marks) for name, marks in given.items()}


def _plain(results: list[Row]) -> Any:
    kind, value = results[0].get("type"), results[0]["value"]
    if len(results) == 1 and kind in PLAIN and kind in value and "start" not in value:
        return value[kind]
    return [result["value"] for result in results]
