"""Folders that KerasHub's `save_to_preset` wrote."""

from pathlib import Path

import numpy as np

from kft.errors import KftError
from kft.models.families import FAMILIES, Encoding, Family, Head, Sizes, numbered_labels
from kft.models.families.settings import Settings
from kft.models.presets import files, tokenizer_files
from kft.models.presets.record import Preset
from kft.tasks.problems import ONE_CLASS, VALUE

_FAMILIES = {family.hub.backbone: family for family in FAMILIES.values() if family.hub}


def read(name: str, folder: Path, config: dict, activation: str | None) -> Preset:
    """The preset in a KerasHub folder, whose config has no activation: None is KerasHub's own.

    Raises:
        KftError: it is of no family that kft has, or files are missing or damaged.
    """
    kind = config.get("class_name")
    if kind not in _FAMILIES:
        raise KftError(
            f"{name}: holds a KerasHub {kind}, kft fine-tunes {', '.join(_FAMILIES)}",
            "choose a preset of one of these",
        )
    family = _FAMILIES[kind]
    settings = Settings(name, config.get("config", {}))
    plain, more = (
        {ours: settings.size(theirs) for ours, theirs in names.items()}
        for names in (family.hub.sizes, family.hub.more)
    )
    sizes = Sizes(**plain, more=more)
    dropout = settings.rate("dropout", 0.1)
    _check_weights(name, folder)
    classifier = _classifier(name, folder, family)
    return Preset(
        name=name,
        kind="keras",
        path=folder,
        family=family,
        sizes=sizes,
        encoding=Encoding(activation or family.hub.activation, family.hub.epsilon, dropout, dropout),
        classifier_dropout=classifier.rate("dropout", 0.1) if classifier else None,
        head=_head(classifier) if classifier else None,
        tokenizer=tokenizer_files.keras_hub(name, folder, sizes.vocabulary_size),
    )


def head_weights(preset: Preset, kind: str) -> dict[str, np.ndarray]:
    """See `presets.head_weights`; its layers are always those of a classifier."""
    if preset.head is None or kind != preset.head.kind:
        return {}
    arrays: list[np.ndarray] = []

    def collect(_, item):
        if hasattr(item, "ndim"):
            arrays.append(item[()].astype(np.float32))

    with files.open_h5(preset.name, preset.path / "task.weights.h5") as opened:
        # The head's layers alone are here, in their order (the optimizer lies beside); how they are
        # called depends on Keras.
        opened["layers"].visititems(collect)
    names = [f"{layer}.{part}" for layer in preset.family.hub.head for part in ("weight", "bias")]
    count = len(preset.head.labels)
    table = preset.family.head_weights(kind, preset.sizes, count)
    if [array.shape for array in arrays] != [table[name].shape for name in names]:
        raise files.damaged(
            preset.name, f"task.weights.h5 does not hold a head of {preset.sizes.hidden_size} × {count}"
        )
    return dict(zip(names, arrays, strict=True))


def _check_weights(name: str, folder: Path) -> None:
    paths = [folder / "model.weights.h5"]
    index = folder / "model.weights.json"
    if not paths[0].exists() and index.exists():
        shards = files.read_json(name, index).get("weight_map", {}).values()
        listed = {path for shard in shards for path in (shard if isinstance(shard, list) else [shard])}
        paths = [folder / path for path in sorted(listed)]
    for path in paths:
        files.open_h5(name, path).close()


def _classifier(name: str, folder: Path, family: Family) -> Settings | None:
    """The settings of the fine-tuned classifier in a folder, None for a backbone only."""
    task = files.read_json_or_empty(name, folder / "task.json")
    if not task or task.get("class_name") != family.hub.classifier:
        return None
    files.open_h5(name, folder / "task.weights.h5").close()
    return Settings(name, task.get("config", {}))


def _head(classifier: Settings) -> Head:
    count = classifier.size("num_classes")
    return Head(numbered_labels(count), False, VALUE if count == 1 else ONE_CLASS)
