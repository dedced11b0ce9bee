"""ModernBERT (Warner et al. 2024): rotary positions, layers that see near tokens alone, gates.

KerasHub has no class for it: `models.holder` holds its weights.
"""

from dataclasses import replace
from typing import Any

from kft.models.families import encoders
from kft.models.families.parts import held_parts
from kft.models.families.record import (
    ANSWERS,
    MULTIPLE_CHOICE,
    SEQUENCE,
    TOKEN_CLASSES,
    Encoding,
    Family,
    HeadLayers,
    Sizes,
    Weight,
    dense,
    norm,
    table,
)
from kft.models.families.settings import Settings, damaged, unsupported
from kft.text import templates

KEYS = {ours: theirs for ours, theirs in encoders.KEYS.items() if ours != "num_segments"} | {
    "activation": "hidden_activation",
    "epsilon": "norm_eps",
    "dropout": "mlp_dropout",
    "attention_dropout": "attention_dropout",
}
# Names in the files of transformers 4; those of 5 are written beside them.
EVERY, REACH = "global_attn_every_n_layers", "local_attention"
FAR_BASE, NEAR_BASE = "global_rope_theta", "local_rope_theta"
FAR, NEAR = "full_attention", "sliding_attention"
_WITHOUT = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`.

    Raises:
        KftError: it has biases, or other positions than the published models.
    """
    for key in _WITHOUT:
        if settings.get(key, False):
            raise unsupported(settings.name, f"`{key}` must be false, got: {settings.get(key)!r}")
    if settings.get("classifier_activation", "gelu") != "gelu":
        kind = settings.get("classifier_activation")
        raise unsupported(settings.name, f"`classifier_activation` must be gelu, got: {kind!r}")
    result = encoders.sizes(settings, keys=KEYS)
    more = {
        EVERY: _every(settings, result.num_layers),
        REACH: settings.size(REACH, default=128),
        FAR_BASE: _base(settings, FAR, FAR_BASE, 160_000),
        NEAR_BASE: _base(settings, NEAR, NEAR_BASE, 10_000),
    }
    return replace(result, more=more)


def _every(settings: Settings, layers: int) -> int:
    """Layer 0 and every so many after it see all tokens."""
    kinds = settings.get("layer_types")
    if kinds is None:
        return settings.size(EVERY, default=3)
    every = next((i for i, kind in enumerate(kinds) if i and kind == FAR), layers)
    if kinds != _kinds(layers, every):
        raise unsupported(settings.name, f"`layer_types` must repeat themselves, got: {kinds}")
    return every


def _kinds(layers: int, every: int) -> list[str]:
    return [NEAR if i % every else FAR for i in range(layers)]


def _base(settings: Settings, kind: str, older: str, default: int) -> int:
    """The base of the rotary angles of one kind of layer, a whole number."""
    rope = (settings.get("rope_parameters") or {}).get(kind) or {}
    if rope.get("rope_type", "default") != "default" or settings.get("rope_scaling"):
        raise unsupported(settings.name, "scaled rotary positions are not supported")
    base = rope.get("rope_theta", settings.get(older) or default)
    if not isinstance(base, int | float) or base < 1 or base != int(base):
        raise damaged(settings.name, f"config.json: `rope_theta` must be a whole number, got: {base!r}")
    return int(base)


def encoding(settings: Settings) -> Encoding:
    return encoders.encoding(settings, KEYS, epsilon=1e-5, dropout=0.0)


def to_config(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    more = sizes.more
    bases = {FAR: more[FAR_BASE], NEAR: more[NEAR_BASE]}
    return encoders.to_config(sizes, encoding, keys=KEYS) | {
        "embedding_dropout": encoding.dropout,
        "layer_types": _kinds(sizes.num_layers, more[EVERY]),
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": float(base)} for kind, base in bases.items()
        },
        "classifier_pooling": "cls",
        **dict.fromkeys(_WITHOUT, False),
    }


def weights(sizes: Sizes) -> dict[str, Weight]:
    hidden, inner = sizes.hidden_size, sizes.intermediate_size
    result = table("embeddings.tok_embeddings", sizes.vocabulary_size, hidden)
    result |= norm("embeddings.norm", hidden, bias=False)
    for i in range(sizes.num_layers):
        layer = f"layers.{i}"
        if i:  # the embeddings are normalised already
            result |= norm(f"{layer}.attn_norm", hidden, bias=False)
        result |= {
            **dense(f"{layer}.attn.Wqkv", hidden, 3 * hidden, bias=False),
            **dense(f"{layer}.attn.Wo", hidden, hidden, bias=False),
            **norm(f"{layer}.mlp_norm", hidden, bias=False),
            **dense(f"{layer}.mlp.Wi", hidden, 2 * inner, bias=False),
            **dense(f"{layer}.mlp.Wo", inner, hidden, bias=False),
        }
    return result | norm("final_norm", hidden, bias=False)


def depth(name: str) -> int | None:
    first, _, rest = name.partition(".")
    if first == "layers":
        return int(rest.partition(".")[0]) + 1
    return 0 if first == "embeddings" else None


def _embed(blocks: Any, inputs: dict[str, Any]) -> Any:
    x = blocks.embed("embeddings.tok_embeddings", inputs["token_ids"])
    return blocks.drop(blocks.compute(blocks.norm("embeddings.norm", x)), blocks.encoding.dropout)


def _sight(blocks: Any, inputs: dict[str, Any], places: Any) -> tuple[Any, Any, Any, Any]:
    """All visible tokens, the near ones, the positions of who looks, and of who is seen."""
    near = blocks.visible(inputs["example_ids"], places, blocks.sizes.more[REACH] // 2)
    positions = inputs["positions"]
    return encoders.visible(blocks, inputs, places), near, blocks.at_places(positions, places), positions


def _layer(blocks: Any, i: int, x: Any, context: Any, sight: tuple[Any, Any, Any, Any]) -> Any:
    layer, more, (far, near, looking, positions) = f"layers.{i}", blocks.sizes.more, sight
    visible, base = (near, more[NEAR_BASE]) if i % more[EVERY] else (far, more[FAR_BASE])

    def projected(vectors: Any) -> Any:
        normed = blocks.norm(f"{layer}.attn_norm", vectors) if i else vectors
        return blocks.split(blocks.dense(f"{layer}.attn.Wqkv", normed), 3)

    query, key, value = projected(context)
    query = query if x is context else projected(x)[0]
    half = blocks.sizes.hidden_size // blocks.sizes.num_heads // 2
    rates = [base ** (-i / half) for i in range(half)]
    query = blocks.rotate(blocks.split_heads(query), looking, rates)
    key = blocks.rotate(blocks.split_heads(key), positions, rates)
    attended = blocks.attend(query, key, blocks.split_heads(value), visible)
    attended = blocks.dense(f"{layer}.attn.Wo", blocks.merge_heads(attended))
    x = blocks.add(x, blocks.drop(attended, blocks.encoding.attention_dropout))
    inner = blocks.dense(f"{layer}.mlp.Wi", blocks.norm(f"{layer}.mlp_norm", x))
    inner, gate = blocks.split(inner, 2)
    inner = blocks.multiply(blocks.activate(inner, blocks.encoding.activation), gate)
    inner = blocks.drop(inner, blocks.encoding.dropout)
    return blocks.add(x, blocks.dense(f"{layer}.mlp.Wo", inner))


def _head(kind: str) -> HeadLayers:
    return HeadLayers(
        f"ModernBertFor{kind}",
        output="classifier",
        pooler="head.dense",
        pooler_bias=False,
        activation="gelu_exact",
        norm="head.norm",
    )


_QKV = ("layers.{i}.attn.Wqkv",)  # one layer gives queries, keys and values

MODERNBERT = Family(
    name="modernbert",
    prefix="model.",
    architecture="ModernBertModel",
    hub=None,
    heads={
        SEQUENCE: _head("SequenceClassification"),
        MULTIPLE_CHOICE: _head("MultipleChoice"),
        TOKEN_CLASSES: _head("TokenClassification"),
        ANSWERS: _head("QuestionAnswering"),
    },
    template=replace(templates.BERT, segments=False),
    sizes=sizes,
    encoding=encoding,
    to_config=to_config,
    weights=weights,
    parts=held_parts,
    depth=depth,
    adapters={
        "query": _QKV,
        "key": _QKV,
        "value": _QKV,
        "output": ("layers.{i}.attn.Wo",),
        "feedforward": ("layers.{i}.mlp.Wi", "layers.{i}.mlp.Wo"),
    },
    reads_head=lambda settings: settings.get("classifier_pooling", "cls") == "cls",
    run=encoders.encoder(_embed, _layer, _sight, lambda blocks, x: blocks.norm("final_norm", x)),
)
