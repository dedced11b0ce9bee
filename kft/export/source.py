"""A finished run as the exporters see it: its weights as plain arrays, its tokenizer, its labels."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kft import backend, evaluate, models, runs
from kft.text import Tokenizer

backend.select()

import keras  # noqa: E402

_PARTS = {  # Hugging Face's name of a part of a layer → where KerasHub keeps it
    "attention.self.query": lambda layer: layer._self_attention_layer._query_dense,
    "attention.self.key": lambda layer: layer._self_attention_layer._key_dense,
    "attention.self.value": lambda layer: layer._self_attention_layer._value_dense,
    "attention.output.dense": lambda layer: layer._self_attention_layer._output_dense,
    "intermediate.dense": lambda layer: layer._feedforward_intermediate_dense,
    "output.dense": lambda layer: layer._feedforward_output_dense,
}
_NORMS = {
    "attention.output.LayerNorm": lambda layer: layer._self_attention_layer_norm,
    "output.LayerNorm": lambda layer: layer._feedforward_layer_norm,
}


@dataclass(frozen=True)
class Source:
    """What an exporter needs of a run.

    Attributes:
        loaded: the run, its model computing in float32 whatever it was trained in.
        weights: float32 arrays by Hugging Face's names; every kernel is [inputs, outputs], unlike theirs.
        max_length: tokens that a text is cut to.
        paired: whether an example is a pair of texts.
    """

    loaded: evaluate.LoadedRun
    weights: dict[str, np.ndarray]
    max_length: int
    paired: bool

    @property
    def architecture(self) -> models.Architecture:
        return self.loaded.model.architecture

    @property
    def tokenizer(self) -> Tokenizer:
        return self.loaded.tokenizer

    @property
    def labels(self) -> list[str]:
        return self.loaded.labels


def load(path: str | Path) -> Source:
    """The finished run in a folder.

    Raises:
        KftError: the folder holds no whole, finished run.
    """
    runs.open_run(path, finished=False)  # `load_run` also takes an ensemble, which is no one model
    loaded = evaluate.load_run(path)
    if loaded.config.train.precision != "float32":
        loaded = replace(loaded, model=models.load(loaded.run, "float32"))
    return Source(
        loaded=loaded,
        weights=_weights(loaded.model),
        max_length=loaded.config.model.max_length,
        paired=loaded.config.data.text_pair is not None,
    )


def _weights(model: models.Classifier) -> dict[str, np.ndarray]:
    """See `Source.weights`; of a regression the head gives values, not logits."""
    backbone, architecture = model.backbone, model.architecture
    named = {
        "embeddings.word_embeddings.weight": backbone.token_embedding.embeddings,
        "embeddings.position_embeddings.weight": backbone.position_embedding.position_embeddings,
        "embeddings.token_type_embeddings.weight": backbone.segment_embedding.embeddings,
        **_norm("embeddings.LayerNorm", backbone.embeddings_layer_norm),
    }
    for i, layer in enumerate(backbone.transformer_layers):
        for part, find in _PARTS.items():
            named |= _dense(f"encoder.layer.{i}.{part}", find(layer))
        for part, find in _NORMS.items():
            named |= _norm(f"encoder.layer.{i}.{part}", find(layer))
    named |= _dense("pooler.dense", backbone.pooled_dense) | _dense("classifier", model.head)
    arrays = {
        name: np.asarray(keras.ops.convert_to_numpy(value), np.float32) for name, value in named.items()
    }
    hidden = backbone.hidden_dim
    for part in (
        "query",
        "key",
        "value",
        "output.dense",
    ):  # heads and their units are one dimension elsewhere
        for name in (n for n in arrays if f".attention.self.{part}." in n or f".attention.{part}." in n):
            arrays[name] = arrays[name].reshape((hidden, hidden) if name.endswith("weight") else hidden)
    scale, mean = np.float32(architecture.score_scale), np.float32(architecture.score_mean)
    arrays["classifier.weight"] = arrays["classifier.weight"] * scale
    arrays["classifier.bias"] = arrays["classifier.bias"] * scale + mean
    return arrays


def _dense(name: str, layer: Any) -> dict[str, Any]:
    return {f"{name}.weight": layer.kernel, f"{name}.bias": layer.bias}


def _norm(name: str, layer: Any) -> dict[str, Any]:
    return {f"{name}.weight": layer.gamma, f"{name}.bias": layer.beta}
