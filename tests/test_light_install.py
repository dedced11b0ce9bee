"""tools/light.txt, installed without dependencies, has all that kft and the demo need."""

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# What stands for another package there, and what is left out because nothing uses it.
INSTEAD = {"tensorflow": "tensorflow-cpu"}
LEFT_OUT = {"libclang"}


def listed() -> dict[str, Requirement]:
    lines = (ROOT / "tools" / "light.txt").read_text("utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): r for r in requirements if not r.marker or "!=" not in str(r.marker)}


def needed() -> list[tuple[str, Requirement]]:
    """(who needs it, what) of kft, the demo, and all that they need, if it is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = [
        ("kft", Requirement(line))
        for line in (*project["dependencies"], *project["optional-dependencies"]["demo"])
    ]
    result, seen = [], set()
    while required:
        who, requirement = required.pop()
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT or not _applies(requirement, frozenset()):
            continue
        result.append((who, requirement))
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        lines = importlib.metadata.requires(name) or [] if _as_listed(name) else []
        inner = [Requirement(line) for line in lines]
        required += [(name, r) for r in inner if _applies(r, key[1])]
    return result


def _as_listed(name: str) -> bool:
    """Whether a package is here in the listed version: another may need other things."""
    own = listed().get(INSTEAD.get(name, name))
    try:
        return own is not None and own.specifier.contains(importlib.metadata.version(name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _applies(requirement: Requirement, extras: frozenset) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def test_nothing_is_missing_and_every_version_fits():
    own = listed()
    for who, requirement in needed():
        name = canonicalize_name(requirement.name)
        name = INSTEAD.get(name, name)
        assert name in own, f"{who} needs {requirement}"
        (version,) = (part.version for part in own[name].specifier)
        assert requirement.specifier.contains(version, prereleases=True), f"{who} needs {requirement}"


def test_it_brings_no_torch():
    assert not {"torch", "sentence-transformers", "transformers", "tensorflow"} & set(listed())
