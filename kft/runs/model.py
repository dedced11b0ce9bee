"""model.json: what a run's model is and reads, in today's form whatever wrote it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from kft.errors import KftError
from kft.runs.files import COPY_HINT, read_json, write_json
from kft.runs.folder import RUN_FORMAT, RunDir, read_config, read_labels
from kft.tasks.record import Inputs, Learned

Content = dict[str, Any]

_SIZES_OF_1 = {  # name of a size → KerasHub's, which format 1 had
    "vocabulary_size": "vocabulary_size",
    "num_layers": "num_layers",
    "num_heads": "num_heads",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "max_length": "max_sequence_length",
    "num_segments": "num_segments",
}


def write_model(run: RunDir, content: Content, inputs: Inputs, learned: Learned) -> None:
    """Writes model.json.

    Args:
        run: the run.
        content: its other fields, see `kft.runs.FIELDS`.
        inputs: what the run reads of a row.
        learned: what its task took from train; the labels stand in labels.json.
    """
    content = {"format": RUN_FORMAT, **content, "inputs": asdict(inputs)}
    write_json(run.model, content | {"learned": without_labels(learned)})


def write_learned(run: RunDir, learned: Learned) -> None:
    """Writes into model.json what is known only when the training is over: thresholds."""
    write_json(run.model, read_model(run) | {"learned": without_labels(learned)})


def without_labels(learned: Learned) -> Content:
    """What a task took from train beside the labels, as fields of JSON."""
    return {key: value for key, value in asdict(learned).items() if key != "labels"}


def read_model(run: RunDir) -> Content:
    """The content of model.json.

    Raises:
        KftError: the file is missing, damaged or of a newer kft.
    """
    content = read_json(run.model, "format")
    if content["format"] not in READS:
        raise KftError(
            f"{run.model}: run format {content['format']!r}, this kft reads formats up to {RUN_FORMAT}",
            "use the kft that wrote the run",
        )
    try:
        return READS[content["format"]](content, run)
    except (KeyError, TypeError) as error:
        raise damaged(run, error) from None


def damaged(run: RunDir, error: Exception) -> KftError:
    """The error of a model.json that was edited: a field is missing, or of another type."""
    return KftError(f"{run.model}: is damaged: {error}", COPY_HINT)


def read_learned(run: RunDir) -> Learned:
    """What the task of a run took from train.

    Raises:
        KftError: labels.json or model.json is missing or damaged.
    """
    content = read_model(run)["learned"]
    try:
        learned = Learned(tuple(read_labels(run)), **content | {"thresholds": tuple(content["thresholds"])})
    except (KeyError, TypeError) as error:
        raise damaged(run, error) from None
    if not all(isinstance(n, int | float) for n in (learned.mean, learned.scale, *learned.thresholds)):
        raise KftError(f"{run.model}: is damaged: `learned` must hold numbers", COPY_HINT)
    return learned


def read_inputs(run: RunDir) -> Inputs:
    """What a run reads of a row.

    Raises:
        KftError: model.json is missing or damaged.
    """
    try:
        fields = dict(read_model(run)["inputs"])
        return Inputs(**fields | {"spans": tuple(map(tuple, fields["spans"]))})
    except (KeyError, TypeError) as error:
        raise damaged(run, error) from None


def _from_1(content: Content, run: RunDir) -> Content:
    """Format 1 knew BERT alone, and left to config.toml what a run reads of a row.

    Its tokenizer was a vocabulary, in vocabulary.txt, and three settings.
    """
    data = read_config(run).data
    moved = (
        "backbone",
        "head_dropout",
        "pooling",
        "outputs",
        "score_mean",
        "score_scale",
        "spans",
        "max_length",
    )
    rest = {key: value for key, value in content.items() if key not in moved}
    return rest | {
        "family": "bert",
        "sizes": {ours: content["backbone"][theirs] for ours, theirs in _SIZES_OF_1.items()},
        "head": {
            "outputs": content["outputs"],
            "pooling": content["pooling"],
            "dropout": content["head_dropout"],
        },
        "inputs": {
            "paired": data.text_pair is not None,
            "spans": data.spans or [],
            "grouped": data.group is not None,
            "max_length": content["max_length"],
        },
        "learned": {
            "mean": content["score_mean"],
            "scale": content["score_scale"],
            "thresholds": [],
            "positive": None,
        },
        "tokenizer": {"kind": "wordpiece", "vocabulary": content["tokenizer"]},
    }


READS: dict[int, Callable[[Content, RunDir], Content]] = {
    1: _from_1,
    RUN_FORMAT: lambda content, run: content,
}
"""Format of a run → (content of model.json, run) → the content as this kft writes it."""
