"""A finished run as the preset of another one: what training from it starts with."""

from pathlib import Path

from kft import runs
from kft.errors import KftError
from kft.models.architecture import Architecture, head_kind, read_architecture
from kft.models.families import ANSWERS, MULTIPLE_CHOICE, Head, numbered_labels
from kft.models.presets.record import Preset
from kft.tasks import TASKS
from kft.text import read_tokenizer


def read(path: str | Path) -> Preset:
    """The preset that a run is.

    Its head counts where it reads the first token alone, and has label names or scores choices.

    Raises:
        KftError: the folder holds no whole, finished run.
    """
    run = runs.open_run(path)
    architecture = read_architecture(run)
    content = runs.read_model(run)
    try:
        name = content["preset"]
        labels = tuple(runs.read_labels(run))
        plain = architecture.pooling == "cls" and not architecture.spans
        return Preset(
            name=name,
            kind="run",
            path=run.path,
            tokenizer=read_tokenizer(run),
            family=architecture.kind,
            sizes=architecture.sizes,
            encoding=architecture.encoding,
            classifier_dropout=architecture.head_dropout,
            head=_head(architecture, labels) if plain else None,
        )
    except (KeyError, TypeError, OSError, UnicodeDecodeError) as error:
        raise KftError(f"{run.path}: is damaged: {error}", "copy the run folder again") from None


def _head(architecture: Architecture, labels: tuple[str, ...]) -> Head | None:
    kind = head_kind(architecture.task)
    if kind in (MULTIPLE_CHOICE, ANSWERS):  # their outputs have no names
        return Head(numbered_labels(architecture.outputs), False, kind)
    return Head(labels, True, TASKS.rules[architecture.task].problem) if labels else None
