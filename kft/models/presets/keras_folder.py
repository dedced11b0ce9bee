"""Folders that KerasHub's `save_to_preset` wrote."""

from pathlib import Path

import numpy as np

from kft.errors import KftError
from kft.models.presets import files, tokenizer_files
from kft.models.presets.record import Head, Preset, numbered_labels

_SIZES = {  # ours → KerasHub's
    "vocabulary_size": "vocabulary_size",
    "num_layers": "num_layers",
    "num_heads": "num_heads",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "max_length": "max_sequence_length",
    "num_segments": "num_segments",
}


def read(name: str, folder: Path, config: dict, activation: str) -> Preset:
    """The preset in a KerasHub folder; its config does not tell the activation.

    Raises:
        KftError: it is not BERT, or files are missing or damaged.
    """
    if config.get("class_name") != "BertBackbone":
        kind = config.get("class_name")
        raise KftError(
            f"{name}: holds a KerasHub {kind}, kft fine-tunes BertBackbone", "choose a BERT preset"
        )
    told = config.get("config", {})
    sizes = {ours: files.size(name, told, theirs) for ours, theirs in _SIZES.items()}
    dropout = files.rate(name, told, "dropout", 0.1)
    _check_weights(name, folder)
    classifier = _classifier(name, folder)
    return Preset(
        name=name,
        kind="keras",
        path=folder,
        activation=activation,
        epsilon=1e-12,  # fixed in KerasHub's code
        dropout=dropout,
        attention_dropout=dropout,
        classifier_dropout=files.rate(name, classifier, "dropout", 0.1) if classifier else None,
        head=_head(name, classifier) if classifier else None,
        tokenizer=tokenizer_files.keras_hub(name, folder, sizes["vocabulary_size"]),
        **sizes,
    )


def head_weights(preset: Preset) -> tuple[np.ndarray, np.ndarray]:
    """See `presets.head_weights`."""
    found: dict[int, np.ndarray] = {}

    def collect(_, item):
        if hasattr(item, "ndim"):
            found[item.ndim] = item[()].astype(np.float32)

    with files.open_h5(preset.name, preset.path / "task.weights.h5") as opened:
        # The head is the only layer here (the optimizer lies beside the layers); how it is called depends on Keras.
        opened["layers"].visititems(collect)
    width, count = preset.hidden_size, len(preset.head.labels)
    if {ndim: array.shape for ndim, array in found.items()} != {1: (count,), 2: (width, count)}:
        raise files.damaged(preset.name, f"task.weights.h5 does not hold a head of {width} × {count}")
    return found[2], found[1]


def _check_weights(name: str, folder: Path) -> None:
    paths = [folder / "model.weights.h5"]
    index = folder / "model.weights.json"
    if not paths[0].exists() and index.exists():
        shards = files.read_json(name, index).get("weight_map", {}).values()
        listed = {path for shard in shards for path in (shard if isinstance(shard, list) else [shard])}
        paths = [folder / path for path in sorted(listed)]
    for path in paths:
        files.open_h5(name, path).close()


def _classifier(name: str, folder: Path) -> dict | None:
    """The settings of the fine-tuned classifier in a folder, None where it holds a backbone only."""
    task = files.read_json_if_there(name, folder / "task.json")
    if task.get("class_name") != "BertTextClassifier":
        return None
    files.open_h5(name, folder / "task.weights.h5").close()
    return task.get("config", {})


def _head(name: str, classifier: dict) -> Head:
    count = files.size(name, classifier, "num_classes")
    return Head(numbered_labels(count), False, "regression" if count == 1 else "single_label_classification")
