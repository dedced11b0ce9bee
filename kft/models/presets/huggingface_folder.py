"""Folders that transformers' `save_pretrained` wrote."""

import re
from pathlib import Path

import numpy as np

from kft.errors import KftError
from kft.models.presets import files, tokenizer_files
from kft.models.presets.record import MULTIPLE_CHOICE, Head, Preset, numbered_labels

# Hugging Face's names (transformers.activations.ACT2FN) → ours.
ACTIVATIONS = {
    "gelu": "gelu_exact",
    "gelu_python": "gelu_exact",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_OTHER_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
_Tensors = dict[str, tuple[Path, list[int]]]


def read(name: str, folder: Path, config: dict) -> Preset:
    """The preset in a Hugging Face folder.

    Raises:
        KftError: it is not BERT, or files are missing, damaged or disagree.
    """
    _check_bert(name, config)
    sizes = {
        "vocabulary_size": files.size(name, config, "vocab_size"),
        "num_layers": files.size(name, config, "num_hidden_layers"),
        "num_heads": files.size(name, config, "num_attention_heads"),
        "hidden_size": files.size(name, config, "hidden_size"),
        "intermediate_size": files.size(name, config, "intermediate_size"),
        "max_length": files.size(name, config, "max_position_embeddings", least=3),
        "num_segments": files.size(name, config, "type_vocab_size", default=2),
    }
    if sizes["hidden_size"] % sizes["num_heads"]:
        raise files.damaged(name, "config.json: `hidden_size` must be a multiple of `num_attention_heads`")
    tensors = _tensors(name, folder)
    _check_tensors(name, tensors, sizes)
    head_dropout = config.get("classifier_dropout")
    return Preset(
        name=name,
        kind="huggingface",
        path=folder,
        activation=_activation(name, config),
        epsilon=_epsilon(name, config),
        dropout=files.rate(name, config, "hidden_dropout_prob", 0.1),
        attention_dropout=files.rate(name, config, "attention_probs_dropout_prob", 0.1),
        classifier_dropout=None if head_dropout is None else files.rate(name, config, "classifier_dropout"),
        head=_head(name, config, tensors, sizes["hidden_size"]),
        tokenizer=tokenizer_files.huggingface(name, folder, sizes["vocabulary_size"]),
        **sizes,
    )


def head_weights(preset: Preset) -> tuple[np.ndarray, np.ndarray]:
    """See `presets.head_weights`."""
    tensors = _tensors(preset.name, preset.path)
    arrays = []
    for key in ("classifier.weight", "classifier.bias"):
        if key not in tensors:
            raise files.damaged(preset.name, f"the weights hold no {key}")
        with files.open_safetensors(preset.name, tensors[key][0]) as opened:
            arrays.append(opened.get_tensor(key).astype(np.float32))
    return np.ascontiguousarray(arrays[0].T), arrays[1]


# --- config.json


def _check_bert(name: str, config: dict) -> None:
    kind = config["model_type"]
    if kind != "bert":
        raise KftError(
            f"{name}: is a model of type {kind!r}, kft fine-tunes type 'bert'",
            "choose a BERT checkpoint, such as hf://google-bert/bert-base-uncased",
        )
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise KftError(f"{name}: position embeddings must be absolute, got: {positions}", files.ANOTHER_HINT)
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise KftError(f"{name}: is a BERT decoder, kft fine-tunes encoders", files.ANOTHER_HINT)


def _activation(name: str, config: dict) -> str:
    value = config.get("hidden_act", "gelu")
    if value not in ACTIVATIONS:
        raise KftError(
            f"{name}: activation {value!r} is not supported, kft knows {', '.join(ACTIVATIONS)}",
            files.ANOTHER_HINT,
        )
    return ACTIVATIONS[value]


def _epsilon(name: str, config: dict) -> float:
    value = config.get("layer_norm_eps", 1e-12)
    if type(value) is not float or not 0 < value < 1e-2:
        raise files.damaged(name, f"config.json: `layer_norm_eps` must be a small number, got: {value!r}")
    return value


def _head(name: str, config: dict, tensors: _Tensors, hidden: int) -> Head | None:
    architectures = config.get("architectures") or []
    chooses = "BertForMultipleChoice" in architectures
    if not chooses and "BertForSequenceClassification" not in architectures:
        return None
    if "classifier.weight" not in tensors:
        raise files.damaged(name, "config.json tells of a classifier, the weights hold no classifier.weight")
    count, width = tensors["classifier.weight"][1]
    # A multiple choice has one output, whatever labels its config names.
    labels = numbered_labels(count) if chooses else _labels(name, config) or numbered_labels(count)
    if (len(labels), width) != (count, hidden):
        raise files.damaged(
            name, f"classifier.weight is {[count, width]}, config.json says {[len(labels), hidden]}"
        )
    named = not all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    problem = config.get("problem_type") or ("regression" if count == 1 else "single_label_classification")
    problem = MULTIPLE_CHOICE if chooses else problem
    return Head(labels, named, problem)


def _labels(name: str, config: dict) -> tuple[str, ...]:
    names = config.get("id2label") or {}  # transformers leaves LABEL_0, LABEL_1 out
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))):
        raise files.damaged(name, "config.json: `id2label` must name the labels 0, 1, …")
    return tuple(str(names[str(i)]) for i in range(len(names)))


# --- Weights


def _tensors(name: str, folder: Path) -> _Tensors:
    """Every tensor of the checkpoint: key → (file, shape), from the headers alone."""
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
    found: _Tensors = {}
    for path in paths:
        with files.open_safetensors(name, path) as opened:
            found |= {key: (path, opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    return found


def _check_tensors(name: str, tensors: _Tensors, sizes: dict[str, int]) -> None:
    """The sizes that config.json tells are those of the weights, and nothing that KerasHub reads is missing."""
    hidden = sizes["hidden_size"]
    last_layer = f"encoder.layer.{sizes['num_layers'] - 1}."
    for suffix, shape in (
        ("embeddings.word_embeddings.weight", [sizes["vocabulary_size"], hidden]),
        ("embeddings.position_embeddings.weight", [sizes["max_length"], hidden]),
        ("embeddings.token_type_embeddings.weight", [sizes["num_segments"], hidden]),
        (last_layer + "intermediate.dense.weight", [sizes["intermediate_size"], hidden]),
        ("pooler.dense.weight", [hidden, hidden]),
    ):
        key = next((key for key in tensors if key.endswith(suffix)), None)
        if key is None and suffix.startswith("pooler"):
            raise KftError(
                f"{name}: the weights hold no pooler (a masked language model has none)",
                "add one once with transformers: BertModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)",
            )
        if key is None:
            raise files.damaged(name, f"the weights hold no {suffix}")
        if tensors[key][1] != shape:
            raise files.damaged(name, f"{key} is {tensors[key][1]}, config.json says {shape}")
