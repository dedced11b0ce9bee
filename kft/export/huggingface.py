"""A run → a Hugging Face folder, which transformers and kft itself load."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from kft import evaluate, models
from kft.errors import KftError
from kft.export import proof, tokenizer_files
from kft.export.source import Source
from kft.models import presets
from kft.models.families import SEQUENCE, numbered_labels
from kft.tasks import TASKS


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Writes config.json, model.safetensors and the tokenizer's files."""
    (folder / "config.json").write_text(
        json.dumps(config(source), indent=2, ensure_ascii=False) + "\n", "utf-8"
    )
    # Not `save_file`, whose files only their owner may read: a server often runs as somebody else.
    (folder / "model.safetensors").write_bytes(save(_tensors(source), metadata={"format": "pt"}))
    tokenizer_files.write(source, folder)
    return {}


def config(source: Source) -> dict[str, Any]:
    """The content of config.json."""
    architecture = source.architecture
    labels, problem = (
        source.labels or numbered_labels(architecture.outputs),
        TASKS.rules[architecture.task].problem,
    )
    # transformers knows the problems of whole rows alone.
    of_rows = {"problem_type": problem} if models.head_kind(architecture.task) == SEQUENCE else {}
    return {
        "architectures": [architecture.head.architecture],
        "model_type": architecture.family,
        **of_rows,
        "num_labels": len(labels),
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        **architecture.kind.to_config(architecture.sizes, architecture.encoding),
        architecture.kind.head_dropout: architecture.head_dropout,
        "initializer_range": 0.02,
        "pad_token_id": source.tokenizer.ids[source.tokenizer.special_tokens["pad_token"]],
        "dtype": "float32",
    }


def prove(source: Source, folder: Path) -> dict[str, Any]:
    """Proves a folder: kft, and transformers if installed, read it back with the run's answers.

    Raises:
        KftError: they answer otherwise.
    """
    expected = proof.reference(source)
    tokenizer_files.check(source, expected, folder)
    comparison = _compare(source, expected, _read_back(source, expected, folder), "kft reading the folder")
    if not (importlib.util.find_spec("transformers") and importlib.util.find_spec("torch")):
        note = "compared by kft alone, and not timed: transformers or torch is not installed"
        return {"comparison": comparison | {"read_by": ["kft"]}, "notes": [note]}
    answers = proof.in_fresh_process("on_transformers.py", folder, proof.texts_of(source, expected))
    comparison = _compare(source, expected, expected.flat(answers["logits"]), "transformers")
    return {
        "comparison": comparison | {"read_by": ["kft", "transformers"]},
        "benchmark": answers["benchmark"],
    }


def _tensors(source: Source) -> dict[str, np.ndarray]:
    """A checkpoint's tensors by transformers' names, dimensions in its order."""
    architecture = source.architecture
    family, sizes, layers = architecture.kind, architecture.sizes, architecture.head
    arrays = family.unfold(source.weights, sizes)
    kind = models.head_kind(architecture.task)
    table = family.weights(sizes) | family.head_weights(kind, sizes, architecture.outputs)
    return {
        name if layers.owns(name) else family.prefix + name: np.ascontiguousarray(
            arrays[name].T if weight.turned else arrays[name]
        )
        for name, weight in table.items()
    }


def _compare(source: Source, expected: proof.Reference, logits: np.ndarray, what: str) -> dict[str, Any]:
    comparison = proof.check(proof.compare_logits(source, expected, logits), what)
    return comparison | {"max_logit_difference": proof.logit_difference(source, expected, logits)}


def _read_back(source: Source, expected: proof.Reference, folder: Path) -> np.ndarray:
    """Logits of the model that kft makes of the folder, as if it were a run's preset."""
    preset = presets.locate(str(folder))
    architecture = source.architecture
    goal = models.Goal(architecture.task, architecture.outputs, tuple(source.labels))
    model = models.build(preset, goal)
    if source.labels and list(preset.head.labels) != source.labels:
        raise KftError(
            f"the folder's labels are {preset.head.labels}, the run's {source.labels}", proof.FAULT_HINT
        )
    with proof.full_precision():
        return evaluate.predict_logits(model, expected.tokens, reads=expected.reads)
