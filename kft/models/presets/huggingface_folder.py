"""Folders that transformers' `save_pretrained` wrote."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kft.errors import KftError
from kft.models.families import (
    ANSWERS,
    DECODER,
    ENCODERS,
    FAMILIES,
    MULTIPLE_CHOICE,
    SEQUENCE,
    Family,
    Head,
    Sizes,
    Weight,
    numbered_labels,
)
from kft.models.families.settings import Settings
from kft.models.presets import files, tokenizer_files
from kft.models.presets.record import Preset
from kft.tasks.problems import NEXT_TOKEN, ONE_CLASS, VALUE

_OTHER_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")


def read(name: str, folder: Path, config: dict) -> Preset:
    """The preset in a Hugging Face folder.

    Raises:
        KftError: it is of no family that kft has, or files are missing, damaged or disagree.
    """
    kind, settings = config["model_type"], Settings(name, config)
    if kind not in FAMILIES:
        raise KftError(
            f"{name}: is a model of type {kind!r}, kft fine-tunes {', '.join(family.name for family in ENCODERS)}",
            "choose such a checkpoint, for example hf://google-bert/bert-base-uncased",
        )
    family = FAMILIES[kind]
    sizes, encoding = family.sizes(settings), family.encoding(settings)
    checkpoint = _open(name, folder, family, sizes)
    _check_tensors(checkpoint, family, sizes)
    return Preset(
        name=name,
        kind="huggingface",
        path=folder,
        family=family,
        sizes=sizes,
        encoding=encoding,
        classifier_dropout=_dropout(settings, family.head_dropout),
        head=_head(settings, family, checkpoint, sizes),
        tokenizer=tokenizer_files.huggingface(name, folder, sizes.vocabulary_size, family.shape == DECODER),
    )


def encoder_weights(preset: Preset) -> dict[str, np.ndarray]:
    """See `presets.encoder_weights`."""
    checkpoint = _open(preset.name, preset.path, preset.family, preset.sizes)
    arrays = {n: checkpoint.read(n, w) for n, w in preset.family.weights(preset.sizes).items()}
    return preset.family.fold(arrays, preset.sizes)


def head_weights(preset: Preset, kind: str) -> dict[str, np.ndarray]:
    """See `presets.head_weights`."""
    count = len(preset.head.labels) if preset.head and preset.head.kind == kind else 0
    count = preset.sizes.vocabulary_size if kind == NEXT_TOKEN else count
    checkpoint = _open(preset.name, preset.path, preset.family, preset.sizes)
    table = preset.family.head_weights(kind, preset.sizes, count)
    return {n: checkpoint.read(n, w) for n, w in table.items() if checkpoint.shape(n) == w.shape_in_file}


# --- config.json


def _dropout(settings: Settings, key: str) -> float | None:
    return None if settings.get(key) is None else settings.rate(key)


def _head(settings: Settings, family: Family, checkpoint: "_Checkpoint", sizes: Sizes) -> Head | None:
    architectures = settings.get("architectures") or []
    kinds = [kind for kind, layers in family.heads.items() if layers.architecture in architectures]
    if not kinds or kinds == [NEXT_TOKEN]:  # whose outputs are tokens, not labels
        return None
    kind, name = kinds[0], settings.name
    if kind in (SEQUENCE, MULTIPLE_CHOICE) and not family.reads_head(settings):
        return None
    output = f"{family.heads[kind].output}.weight"
    missing = [n for n in family.head_weights(kind, sizes, 1) if checkpoint.shape(n) is None]
    if missing:
        raise files.damaged(name, f"config.json describes a classifier, the weights have no {missing[0]}")
    count, width = checkpoint.shape(output)
    # Whatever labels its config names, the output of a choice has none, nor those of an answer.
    nameless = kind in (MULTIPLE_CHOICE, ANSWERS)
    labels = numbered_labels(count) if nameless else _labels(name, settings.content) or numbered_labels(count)
    if (len(labels), width) != (count, sizes.hidden_size):
        raise files.damaged(
            name, f"{output} is {[count, width]}, config.json says {[len(labels), sizes.hidden_size]}"
        )
    named = not all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    single = VALUE if count == 1 else ONE_CLASS
    problem = settings.get("problem_type") or single if kind == SEQUENCE else kind
    return Head(labels, named, problem)


def _labels(name: str, config: dict) -> tuple[str, ...]:
    names = config.get("id2label") or {}  # transformers leaves LABEL_0, LABEL_1 out
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))):
        raise files.damaged(name, "config.json: `id2label` must name the labels 0, 1, …")
    return tuple(str(names[str(i)]) for i in range(len(names)))


# --- Weights


@dataclass(frozen=True)
class _Checkpoint:
    """The tensors in a folder's files: files and shapes by key, and the encoder's prefix."""

    name: str
    tensors: dict[str, tuple[Path, tuple[int, ...]]]
    prefix: str

    def key(self, name: str) -> str | None:
        """The key of a weight, perhaps under a name of an older time, or None."""
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        keys = (prefix + spelling for spelling in (name, old) for prefix in (self.prefix, ""))
        return next((key for key in keys if key in self.tensors), None)

    def shape(self, name: str) -> tuple[int, ...] | None:
        key = self.key(name)
        return None if key is None else self.tensors[key][1]

    def read(self, name: str, weight: Weight) -> np.ndarray:
        """A weight as float32, a kernel as [inputs, outputs]."""
        key = self.key(name)
        with files.open_safetensors(self.name, self.tensors[key][0]) as opened:
            array = opened.get_tensor(key).astype(np.float32)
        return np.ascontiguousarray(array.T) if weight.turned else array


def _open(name: str, folder: Path, family: Family, sizes: Sizes) -> _Checkpoint:
    """The checkpoint in a folder, from the headers of its files alone."""
    index = folder / "model.safetensors.index.json"
    paths = [folder / "model.safetensors"]
    if index.exists():
        listed = set(files.read_json(name, index).get("weight_map", {}).values())
        paths = [folder / path for path in sorted(listed)]
    other = next((path for path in _OTHER_WEIGHTS if (folder / path).exists()), None)
    if other and not all(path.exists() for path in paths):
        raise KftError(
            f"{name}: its weights are in {other}, kft reads model.safetensors",
            "convert it once with transformers: AutoModelForSequenceClassification.from_pretrained(FOLDER)"
            ".save_pretrained(FOLDER), or AutoModel for a model without a classifier",
        )
    tensors = {}
    for path in paths:
        with files.open_safetensors(name, path) as opened:
            for key in opened.keys():  # noqa: SIM118
                tensors[key] = (path, tuple(opened.get_slice(key).get_shape()))
    first = next(iter(family.weights(sizes)))
    prefix = next((key.removesuffix(first) for key in tensors if key.endswith(first)), family.prefix)
    return _Checkpoint(name, tensors, prefix)


def _check_tensors(checkpoint: _Checkpoint, family: Family, sizes: Sizes) -> None:
    """Raises KftError: a tensor is missing, or its shape differs from config.json's sizes."""
    name = checkpoint.name
    for wanted, weight in family.weights(sizes).items():
        shape = checkpoint.shape(wanted)
        if shape is None:
            raise files.damaged(name, f"the weights hold no {wanted}")
        if shape != weight.shape_in_file:
            raise files.damaged(
                name,
                f"{checkpoint.key(wanted)} is {list(shape)}, config.json says {list(weight.shape_in_file)}",
            )
