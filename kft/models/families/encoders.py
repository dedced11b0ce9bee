"""What encoders of BERT's kind share: sizes, weights, KerasHub's names for them, forward pass.

The forward pass is written in the few names of `blocks`. Letters as in `batches`: R rows, T tokens,
M read places.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
# Field of `Sizes` or `Encoding` → config.json's name.
KEYS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "max_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}


@dataclass(frozen=True)
class Names:
    """A checkpoint's names of a layer's parts; in the layer's own name "{i}" is its number."""

    layer: str = "encoder.layer.{i}"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    inner: str = "intermediate.dense"
    outer: str = "output.dense"
    norm: str = "output.LayerNorm"

    def part(self, i: int, name: str) -> str:
        """The whole name of a part, such as "query", of layer i."""
        return f"{self.layer.format(i=i)}.{getattr(self, name)}"

    @property
    def adapters(self) -> dict[str, tuple[str, ...]]:
        """See `Family.adapters`."""
        attention = {name: (name,) for name in ("query", "key", "value", "output")}
        targets = attention | {"feedforward": ("inner", "outer")}
        return {
            target: tuple(f"{self.layer}.{getattr(self, name)}" for name in names)
            for target, names in targets.items()
        }

    def depth(self, name: str) -> int | None:
        """See `Family.depth`."""
        pattern = re.escape(self.layer).replace(re.escape("{i}"), r"(\d+)")
        layer = re.match(rf"{pattern}\.", name)
        if layer:
            return int(layer[1]) + 1
        return 0 if name.startswith("embeddings") else None


NAMES = Names()


# --- config.json


def sizes(settings: Settings, first_position: int = 0, keys: Mapping[str, str] = KEYS) -> Sizes:
    """The sizes in config.json; no token has the positions before `first_position`.

    Raises:
        KftError: a value is missing or wrong, or it is a model that kft does not run.
    """
    _check_encoder(settings)
    segments = keys.get("num_segments")
    result = Sizes(
        vocabulary_size=settings.size(keys["vocabulary_size"]),
        num_layers=settings.size(keys["num_layers"]),
        num_heads=settings.size(keys["num_heads"]),
        hidden_size=settings.size(keys["hidden_size"]),
        intermediate_size=settings.size(keys["intermediate_size"]),
        max_length=settings.size(keys["max_length"], least=first_position + 3) - first_position,
        num_segments=settings.size(segments, default=2) if segments else 1,
    )
    if result.hidden_size % result.num_heads:
        width, heads = keys["hidden_size"], keys["num_heads"]
        raise damaged(settings.name, f"config.json: `{width}` must be a multiple of `{heads}`")
    return result


def _check_encoder(settings: Settings) -> None:
    positions = settings.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise unsupported(settings.name, f"position embeddings must be absolute, got: {positions}")
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise unsupported(settings.name, "is a decoder, kft fine-tunes encoders")


def encoding(
    settings: Settings,
    keys: Mapping[str, str] = KEYS,
    epsilon: float = 1e-12,
    activation: str = "gelu",
    dropout: float = 0.1,
) -> Encoding:
    """What config.json says besides; the other arguments are those of a config that names none."""
    return Encoding(
        activation=settings.activation(keys["activation"], activation),
        epsilon=settings.epsilon(keys["epsilon"], epsilon) if "epsilon" in keys else epsilon,
        dropout=settings.rate(keys["dropout"], dropout),
        attention_dropout=settings.rate(keys["attention_dropout"], dropout),
    )


def to_config(
    sizes: Sizes, encoding: Encoding, first_position: int = 0, keys: Mapping[str, str] = KEYS
) -> dict[str, Any]:
    """The fields of config.json from which `sizes` and `encoding` read the records."""
    values = vars(sizes) | vars(encoding)
    values["max_length"] += first_position
    values["activation"] = written_activation(encoding.activation)
    plain = {theirs: values[ours] for ours, theirs in keys.items()}
    return plain | sizes.more | {"position_embedding_type": "absolute"}


# --- Weights


def weights(sizes: Sizes, first_position: int = 0) -> dict[str, Weight]:
    """The encoder's weights in a checkpoint's file."""
    width = sizes.hidden_size
    embeddings = embedding_weights(sizes, width, first_position) | segment_weights(sizes, width)
    return embeddings | layer_weights(NAMES, sizes)


def embedding_weights(sizes: Sizes, width: int, first_position: int = 0) -> dict[str, Weight]:
    """Of words and positions, and of the norm after them."""
    return {
        **table("embeddings.word_embeddings", sizes.vocabulary_size, width),
        **table("embeddings.position_embeddings", first_position + sizes.max_length, width),
        **norm("embeddings.LayerNorm", width),
    }


def segment_weights(sizes: Sizes, width: int) -> dict[str, Weight]:
    return table("embeddings.token_type_embeddings", sizes.num_segments, width)


def layer_weights(names: Names, sizes: Sizes, count: int | None = None) -> dict[str, Weight]:
    """Of the layers, `count` of them where that is not `num_layers`."""
    hidden, inner = sizes.hidden_size, sizes.intermediate_size
    result = {}
    for i in range(sizes.num_layers if count is None else count):
        for name in ("query", "key", "value", "output"):
            result |= dense(names.part(i, name), hidden, hidden)
        result |= norm(names.part(i, "attention_norm"), hidden) | norm(names.part(i, "norm"), hidden)
        result |= dense(names.part(i, "inner"), hidden, inner) | dense(names.part(i, "outer"), inner, hidden)
    return result


def _dense_layers(attention: Any) -> tuple[Any, Any, Any, Any]:
    """Of Keras's `MultiHeadAttention`: query, key, value and output."""
    return attention.query_dense, attention.key_dense, attention.value_dense, attention.output_dense


def layer_parts(
    names: Names, layers: list[Any], dense_layers: Callable[[Any], Any] = _dense_layers
) -> dict[str, Part]:
    """The parts of KerasHub's layers of attention and feed-forward.

    They keep attention kernels as [H, heads, H / heads] and the other way.
    """
    result = {}
    for i, layer in enumerate(layers):
        attention = dense_layers(layer._self_attention_layer)
        for name, part in zip(("query", "key", "value", "output"), attention, strict=True):
            result |= dense_parts(names.part(i, name), part)
        result |= {
            **norm_parts(names.part(i, "attention_norm"), layer._self_attention_layer_norm),
            **norm_parts(names.part(i, "norm"), layer._feedforward_layer_norm),
            **dense_parts(names.part(i, "inner"), layer._feedforward_intermediate_dense),
            **dense_parts(names.part(i, "outer"), layer._feedforward_output_dense),
        }
    return result


# --- Forward pass


def visible(blocks: Any, inputs: dict[str, Any], places: Any) -> Any:
    """The tokens that the tokens at some places see."""
    return blocks.visible(inputs["example_ids"], places)


def encoder(
    embed: Callable[..., Any],
    layer: Callable[..., Any],
    sight: Callable[..., Any] = visible,
    finish: Callable[..., Any] = lambda blocks, x: x,
) -> Callable[..., Any]:
    """The `Family.run` of a stack of layers; the last computes only the tokens that are read.

    Args:
        embed: (blocks, inputs) → x [R, T, H].
        layer: (blocks, number, x [R, M, H], context [R, T, H], sight) → [R, M, H].
        sight: (blocks, inputs, places [R, M], None for all) → what layers are given of which tokens
            see which, and from where.
        finish: (blocks, x [R, M, H]) → what comes out.
    """

    def run(blocks: Any, inputs: dict[str, Any], places: Any) -> Any:
        x = embed(blocks, inputs)  # [R, T, H]
        seen = sight(blocks, inputs, None)
        last = blocks.sizes.num_layers - 1
        for i in range(last):
            x = layer(blocks, i, x, x, seen)
        if places is None:
            return finish(blocks, layer(blocks, last, x, x, seen))
        read = blocks.take(x, places)  # [R, M, H]
        return finish(blocks, layer(blocks, last, read, x, sight(blocks, inputs, places)))

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


def post_norm(names: Names) -> Callable[..., Any]:
    """One layer for tokens x [R, M, H], normalised after each half, with their visible context.

    The context is [R, T, H].
    """

    def layer(blocks: Any, i: int, x: Any, context: Any, visible: Any) -> Any:
        return after_attention(
            blocks, names, i, x, blocks.attend(*heads(blocks, names, i, x, context), visible)
        )

    return layer


def heads(blocks: Any, names: Names, i: int, x: Any, context: Any) -> tuple[Any, Any, Any]:
    """Queries of x [R, M, H], keys and values of context [R, T, H]: [R, A, M or T, D]."""
    query = blocks.split_heads(blocks.dense(names.part(i, "query"), x))
    key = blocks.split_heads(blocks.dense(names.part(i, "key"), context))
    return query, key, blocks.split_heads(blocks.dense(names.part(i, "value"), context))


def after_attention(blocks: Any, names: Names, i: int, x: Any, attended: Any) -> Any:
    """The rest of a layer normalised after each half, from its heads' outputs [R, A, M, D]."""
    attended = blocks.dense(names.part(i, "output"), blocks.merge_heads(attended))
    x = blocks.add(x, blocks.drop(attended, blocks.encoding.dropout))
    x = blocks.norm(names.part(i, "attention_norm"), x)
    hidden = blocks.activate(blocks.dense(names.part(i, "inner"), x), blocks.encoding.activation)
    hidden = blocks.drop(blocks.dense(names.part(i, "outer"), hidden), blocks.encoding.dropout)
    return blocks.norm(names.part(i, "norm"), blocks.add(x, hidden))
