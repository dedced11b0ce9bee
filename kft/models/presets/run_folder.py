"""A finished run as the preset of another one: what training from it starts with."""

from pathlib import Path

from kft import runs
from kft.errors import KftError
from kft.models.presets.record import MULTIPLE_CHOICE, Head, Preset, numbered_labels
from kft.text import read_tokenizer


def read(path: str | Path) -> Preset:
    """The preset that a run is. Its head counts where it reads the first token alone, and has label names or scores choices.

    Raises:
        KftError: the folder holds no whole, finished run.
    """
    run = runs.open_run(path)
    told = runs.read_json(run.model, "task", "preset", "backbone", "encoding", "head_dropout", "pooling")
    try:
        backbone, encoding = told["backbone"], told["encoding"]
        labels = tuple(runs.read_labels(run))
        plain = told["pooling"] == "cls" and not told.get("spans")
        return Preset(
            name=told["preset"],
            kind="run",
            path=run.path,
            tokenizer=read_tokenizer(run),
            activation=encoding["activation"],
            epsilon=encoding["epsilon"],
            dropout=encoding["dropout"],
            attention_dropout=encoding["attention_dropout"],
            classifier_dropout=told["head_dropout"],
            max_length=backbone["max_sequence_length"],
            vocabulary_size=backbone["vocabulary_size"],
            num_layers=backbone["num_layers"],
            num_heads=backbone["num_heads"],
            hidden_size=backbone["hidden_dim"],
            intermediate_size=backbone["intermediate_dim"],
            num_segments=backbone["num_segments"],
            head=_head(told["task"], labels) if plain else None,
        )
    except (KeyError, TypeError, OSError, UnicodeDecodeError) as error:
        raise KftError(f"{run.path}: is damaged: {error}", "copy the run folder again") from None


def _head(task: str, labels: tuple[str, ...]) -> Head | None:
    if task == "choice":
        return Head(numbered_labels(1), False, MULTIPLE_CHOICE)
    return Head(labels, True, "single_label_classification") if labels else None
