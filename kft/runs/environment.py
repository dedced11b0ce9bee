"""What a run was trained with, and what went on with it: environment.json."""

from collections.abc import Iterator
from typing import Any

from kft.errors import KftError
from kft.progress import note
from kft.runs.files import read_json, write_json
from kft.runs.folder import RunDir


def go_on(run: RunDir, environment: dict[str, Any], step: int) -> None:
    """Says and records what changed since the run went on last; keeps the first environment.

    Args:
        run: the run that is resumed.
        environment: of this process, see `kft.backend.describe`.
        step: steps that the run has done; at 0 it begins anew.
    """
    try:
        record = read_json(run.environment, "versions")
    except KftError:  # lost or damaged, which is no reason not to go on
        record = None
    if record is None or not step:
        write_json(run.environment, environment)
        return
    sessions = record.get("resumed", [])
    last = sessions[-1] if sessions else record
    changes = dict(differences(last, environment))
    if changes:
        words = ", ".join(f"{name} {old} → {new}" for name, (old, new) in changes.items())
        note(f"resumed   {words}: the result need not equal that of a run that was never stopped")
        write_json(run.environment, record | {"resumed": [*sessions, {"step": step} | environment]})


def differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """(name, (value before, value now)) of what differs, packages by name; "none" for no value."""
    flat = [_flat(environment) for environment in (before, now)]
    for name in dict.fromkeys([*flat[0], *flat[1]]):
        old, new = (values.get(name, "none") for values in flat)
        if old != new:
            yield name, (old, new)


def _flat(environment: dict[str, Any]) -> dict[str, str]:
    versions = environment.get("versions", {})
    plain = {
        name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in environment.items()
        if name not in ("versions", "resumed", "step")
    }
    return plain | {name: str(version) for name, version in versions.items()}
