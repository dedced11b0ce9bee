"""A run → a Hugging Face folder, which transformers' `BertForSequenceClassification` and kft itself load."""

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

_ACTIVATIONS = {"gelu_exact": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu", "silu": "silu"}


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Writes config.json, model.safetensors and the tokenizer's files."""
    (folder / "config.json").write_text(
        json.dumps(config(source), indent=2, ensure_ascii=False) + "\n", "utf-8"
    )
    # Not `save_file`, whose files only their owner may read: a server often runs as somebody else.
    (folder / "model.safetensors").write_bytes(save(_tensors(source.weights), metadata={"format": "pt"}))
    tokenizer_files.write(source, folder)
    return {}


def config(source: Source) -> dict[str, Any]:
    """The content of config.json."""
    architecture, encoding, sizes = (
        source.architecture,
        source.architecture.encoding,
        source.architecture.backbone,
    )
    classes = architecture.task == "classification"
    labels = source.labels or ["LABEL_0"]
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "problem_type": "single_label_classification" if classes else "regression",
        "num_labels": len(labels),
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "vocab_size": sizes["vocabulary_size"],
        "hidden_size": sizes["hidden_dim"],
        "num_hidden_layers": sizes["num_layers"],
        "num_attention_heads": sizes["num_heads"],
        "intermediate_size": sizes["intermediate_dim"],
        "max_position_embeddings": sizes["max_sequence_length"],
        "type_vocab_size": sizes["num_segments"],
        "hidden_act": _ACTIVATIONS[encoding.activation],
        "layer_norm_eps": encoding.epsilon,
        "hidden_dropout_prob": encoding.dropout,
        "attention_probs_dropout_prob": encoding.attention_dropout,
        "classifier_dropout": architecture.head_dropout,
        "initializer_range": 0.02,
        "position_embedding_type": "absolute",
        "pad_token_id": source.tokenizer.ids[source.tokenizer.special_tokens["pad_token"]],
        "dtype": "float32",
    }


def prove(source: Source, folder: Path) -> dict[str, Any]:
    """Proves a folder: kft reads it back, and transformers where it is installed, with the run's answers.

    Raises:
        KftError: they answer otherwise.
    """
    expected = proof.reference(source)
    tokenizer_files.check(source, expected, folder)
    told = _compare(source, expected, _read_back(source, expected, folder), "kft reading the folder")
    if not (importlib.util.find_spec("transformers") and importlib.util.find_spec("torch")):
        note = "compared by kft alone, and not timed: transformers or torch is not installed"
        return {"comparison": told | {"read_by": ["kft"]}, "notes": [note]}
    answers = proof.in_fresh_process("on_transformers.py", folder, proof.texts_of(source, expected))
    told = _compare(source, expected, np.array(answers["logits"]), "transformers")
    return {"comparison": told | {"read_by": ["kft", "transformers"]}, "benchmark": answers["benchmark"]}


def _tensors(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """transformers' names, and its order of a kernel's dimensions."""
    named = {}
    for name, value in weights.items():
        kernel = value.ndim == 2 and not name.startswith("embeddings.")
        prefix = "" if name.startswith("classifier.") else "bert."
        named[prefix + name] = np.ascontiguousarray(value.T if kernel else value)
    return named


def _compare(source: Source, expected: proof.Reference, logits: np.ndarray, what: str) -> dict[str, Any]:
    told = proof.check(proof.compare(source, expected, proof.predictions_of(source, logits)), what)
    return told | {"max_logit_difference": proof.logit_difference(source, expected, logits)}


def _read_back(source: Source, expected: proof.Reference, folder: Path) -> np.ndarray:
    """Logits of the model that kft makes of the folder, as if it were a run's preset."""
    preset = presets.locate(str(folder))
    model = models.build(preset, source.architecture.task, source.labels, source.architecture.outputs)
    if source.labels and list(preset.head.labels) != source.labels:
        raise KftError(
            f"the folder's labels are {preset.head.labels}, the run's {source.labels}", proof.FAULT_HINT
        )
    with proof.full_precision():
        return evaluate.predict_logits(model, expected.rows)
