"""What encoders of BERT's kind share: sizes, weights, KerasHub's names for them, forward pass.

The forward pass is written in the few names of `blocks`. Letters as in `batches`: R rows, T tokens,
M read places.
"""

import re
from collections.abc import Callable
from typing import Any

from kft.models.families.parts import dense_parts, norm_parts
from kft.models.families.record import Encoding, Part, Sizes, Weight, dense, norm, table
from kft.models.families.settings import Settings, damaged, unsupported, written_activation

HUB_SIZES = {
    "vocabulary_size": "vocabulary_size",
    "num_layers": "num_layers",
    "num_heads": "num_heads",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "max_length": "max_sequence_length",
}
ADAPTERS = {
    "query": ("encoder.layer.{i}.attention.self.query",),
    "key": ("encoder.layer.{i}.attention.self.key",),
    "value": ("encoder.layer.{i}.attention.self.value",),
    "output": ("encoder.layer.{i}.attention.output.dense",),
    "feedforward": ("encoder.layer.{i}.intermediate.dense", "encoder.layer.{i}.output.dense"),
}


# --- config.json


def sizes(settings: Settings, first_position: int = 0) -> Sizes:
    """The sizes in config.json; no token has the positions before `first_position`.

    Raises:
        KftError: a value is missing or wrong, or it is a model that kft does not run.
    """
    _check_encoder(settings)
    positions = settings.size("max_position_embeddings", least=first_position + 3)
    result = Sizes(
        vocabulary_size=settings.size("vocab_size"),
        num_layers=settings.size("num_hidden_layers"),
        num_heads=settings.size("num_attention_heads"),
        hidden_size=settings.size("hidden_size"),
        intermediate_size=settings.size("intermediate_size"),
        max_length=positions - first_position,
        num_segments=settings.size("type_vocab_size", default=2),
    )
    if result.hidden_size % result.num_heads:
        raise damaged(settings.name, "config.json: `hidden_size` must be a multiple of `num_attention_heads`")
    return result


def _check_encoder(settings: Settings) -> None:
    positions = settings.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise unsupported(settings.name, f"position embeddings must be absolute, got: {positions}")
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise unsupported(settings.name, "is a decoder, kft fine-tunes encoders")


def encoding(settings: Settings) -> Encoding:
    return Encoding(
        activation=settings.activation("hidden_act", "gelu"),
        epsilon=settings.epsilon("layer_norm_eps", 1e-12),
        dropout=settings.rate("hidden_dropout_prob", 0.1),
        attention_dropout=settings.rate("attention_probs_dropout_prob", 0.1),
    )


def to_config(sizes: Sizes, encoding: Encoding, first_position: int = 0) -> dict[str, Any]:
    """The fields of config.json from which `sizes` and `encoding` read the records."""
    return {
        "vocab_size": sizes.vocabulary_size,
        "hidden_size": sizes.hidden_size,
        "num_hidden_layers": sizes.num_layers,
        "num_attention_heads": sizes.num_heads,
        "intermediate_size": sizes.intermediate_size,
        "max_position_embeddings": sizes.max_length + first_position,
        "type_vocab_size": sizes.num_segments,
        "hidden_act": written_activation(encoding.activation),
        "layer_norm_eps": encoding.epsilon,
        "hidden_dropout_prob": encoding.dropout,
        "attention_probs_dropout_prob": encoding.attention_dropout,
        "position_embedding_type": "absolute",
    }


# --- Weights


def weights(sizes: Sizes, first_position: int = 0) -> dict[str, Weight]:
    """The encoder's weights in a checkpoint's file."""
    hidden = sizes.hidden_size
    result = table("embeddings.word_embeddings", sizes.vocabulary_size, hidden)
    result |= table("embeddings.position_embeddings", first_position + sizes.max_length, hidden)
    result |= table("embeddings.token_type_embeddings", sizes.num_segments, hidden)
    result |= norm("embeddings.LayerNorm", hidden)
    for i in range(sizes.num_layers):
        result |= _layer_weights(f"encoder.layer.{i}", hidden, sizes.intermediate_size)
    return result


def _layer_weights(prefix: str, hidden: int, inner: int) -> dict[str, Weight]:
    return {
        **dense(f"{prefix}.attention.self.query", hidden, hidden),
        **dense(f"{prefix}.attention.self.key", hidden, hidden),
        **dense(f"{prefix}.attention.self.value", hidden, hidden),
        **dense(f"{prefix}.attention.output.dense", hidden, hidden),
        **norm(f"{prefix}.attention.output.LayerNorm", hidden),
        **norm(f"{prefix}.output.LayerNorm", hidden),
        **dense(f"{prefix}.intermediate.dense", hidden, inner),
        **dense(f"{prefix}.output.dense", inner, hidden),
    }


def depth(name: str) -> int | None:
    layer = re.match(r"encoder\.layer\.(\d+)\.", name)
    if layer:
        return int(layer[1]) + 1
    return 0 if name.startswith("embeddings.") else None


def layer_parts(prefix: str, layer: Any) -> dict[str, Part]:
    """The parts of KerasHub's `TransformerEncoder`.

    It keeps attention kernels as [H, heads, H / heads] and the other way.
    """
    attention = layer._self_attention_layer
    inner = layer._feedforward_intermediate_dense
    return {
        **dense_parts(f"{prefix}.attention.self.query", attention.query_dense),
        **dense_parts(f"{prefix}.attention.self.key", attention.key_dense),
        **dense_parts(f"{prefix}.attention.self.value", attention.value_dense),
        **dense_parts(f"{prefix}.attention.output.dense", attention.output_dense),
        **norm_parts(f"{prefix}.attention.output.LayerNorm", layer._self_attention_layer_norm),
        **norm_parts(f"{prefix}.output.LayerNorm", layer._feedforward_layer_norm),
        **dense_parts(f"{prefix}.intermediate.dense", inner),
        **dense_parts(f"{prefix}.output.dense", layer._feedforward_output_dense),
    }


# --- Forward pass


def encoder(embed: Callable[..., Any], layer: Callable[..., Any]) -> Callable[..., Any]:
    """The `Family.run` of a stack of layers; the last computes only the tokens that are read."""

    def run(blocks: Any, inputs: dict[str, Any], places: Any) -> Any:
        x = embed(blocks, inputs)  # [R, T, H]
        visible = blocks.visible(inputs["example_ids"])
        last = blocks.sizes.num_layers - 1
        for i in range(last):
            x = layer(blocks, f"encoder.layer.{i}", x, x, visible)
        if places is None:
            return layer(blocks, f"encoder.layer.{last}", x, x, visible)
        read = blocks.take(x, places)  # [R, M, H]
        visible = blocks.visible(inputs["example_ids"], places)
        return layer(blocks, f"encoder.layer.{last}", read, x, visible)

    return run


def learned_positions(*tables: str) -> Callable[..., Any]:
    """The normalised sum of a token's vectors in tables ("word", "position", "token_type")."""
    inputs_of = {"word": "token_ids", "position": "positions", "token_type": "segment_ids"}

    def embed(blocks: Any, inputs: dict[str, Any]) -> Any:
        x = None
        for name in tables:
            vectors = blocks.embed(f"embeddings.{name}_embeddings", inputs[inputs_of[name]])
            x = vectors if x is None else blocks.add(x, vectors)
        x = blocks.compute(blocks.norm("embeddings.LayerNorm", x))
        return blocks.drop(x, blocks.encoding.dropout)

    return embed


def post_norm(blocks: Any, prefix: str, x: Any, context: Any, visible: Any) -> Any:
    """One layer for tokens x [R, M, H]; they attend to what they see of context [R, T, H]."""
    rate = blocks.encoding.dropout
    query = blocks.split_heads(blocks.dense(f"{prefix}.attention.self.query", x))
    key = blocks.split_heads(blocks.dense(f"{prefix}.attention.self.key", context))
    value = blocks.split_heads(blocks.dense(f"{prefix}.attention.self.value", context))
    attended = blocks.merge_heads(blocks.attend(query, key, value, visible))
    attended = blocks.drop(blocks.dense(f"{prefix}.attention.output.dense", attended), rate)
    x = blocks.norm(f"{prefix}.attention.output.LayerNorm", blocks.add(x, attended))
    hidden = blocks.activate(blocks.dense(f"{prefix}.intermediate.dense", x), blocks.encoding.activation)
    hidden = blocks.drop(blocks.dense(f"{prefix}.output.dense", hidden), rate)
    return blocks.norm(f"{prefix}.output.LayerNorm", blocks.add(x, hidden))
