"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each half of a layer."""

import re
from dataclasses import replace
from typing import Any

from kft.models.families import decoders, encoders
from kft.models.families.parts import held_parts
from kft.models.families.record import (
    DECODER,
    NEXT_TOKEN,
    SEQUENCE,
    TOKEN_CLASSES,
    Encoding,
    Family,
    Gguf,
    HeadLayers,
    Sizes,
    Weight,
    dense,
    norm,
    table,
)
from kft.models.families.settings import Settings, damaged, written_activation

KEYS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "max_length": "n_positions",
    "activation": "activation_function",
    "epsilon": "layer_norm_epsilon",
    "dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
}
PLAIN, BY_LAYER = "scale_attn_weights", "scale_attn_by_inverse_layer_idx"


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`."""
    hidden, count = settings.size("n_embd"), settings.size("n_head")
    if hidden % count:
        raise damaged(settings.name, "config.json: `n_embd` must be a multiple of `n_head`")
    plain = {
        name: settings.size(key, default=4 * hidden if name == "intermediate_size" else None)
        for name, key in KEYS.items()
        if name in Sizes.__dataclass_fields__
    }
    more = {
        PLAIN: settings.flag(PLAIN, True),
        BY_LAYER: settings.flag(BY_LAYER),
        "tie_word_embeddings": settings.flag("tie_word_embeddings", True),
    }
    return Sizes(**plain, more=more)


def encoding(settings: Settings) -> Encoding:
    return Encoding(
        activation=settings.activation("activation_function", "gelu_new"),
        epsilon=settings.epsilon("layer_norm_epsilon", 1e-5),
        dropout=settings.rate("resid_pdrop", 0.1),
        attention_dropout=settings.rate("attn_pdrop", 0.1),
    )


def to_config(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    values = vars(sizes) | vars(encoding) | {"activation": written_activation(encoding.activation)}
    plain = {theirs: values[ours] for ours, theirs in KEYS.items()}
    return plain | sizes.more | {"embd_pdrop": encoding.dropout}


def weights(sizes: Sizes) -> dict[str, Weight]:
    """Its kernels are [inputs, outputs] in the file too."""
    hidden, inner = sizes.hidden_size, sizes.intermediate_size

    def kernel(name: str, inputs: int, outputs: int) -> dict[str, Weight]:
        return {key: replace(weight, as_is=True) for key, weight in dense(name, inputs, outputs).items()}

    result = table("wte", sizes.vocabulary_size, hidden) | table("wpe", sizes.max_length, hidden)
    for i in range(sizes.num_layers):
        result |= {
            **norm(f"h.{i}.ln_1", hidden),
            **kernel(f"h.{i}.attn.c_attn", hidden, 3 * hidden),
            **kernel(f"h.{i}.attn.c_proj", hidden, hidden),
            **norm(f"h.{i}.ln_2", hidden),
            **kernel(f"h.{i}.mlp.c_fc", hidden, inner),
            **kernel(f"h.{i}.mlp.c_proj", inner, hidden),
        }
    return result | norm("ln_f", hidden)


def depth(name: str) -> int | None:
    layer = re.match(r"h\.(\d+)\.", name)
    if layer:
        return int(layer[1]) + 1
    return 0 if name.startswith(("wte", "wpe")) else None


def _embed(blocks: Any, inputs: dict[str, Any]) -> Any:
    x = blocks.add(blocks.embed("wte", inputs["token_ids"]), blocks.embed("wpe", inputs["positions"]))
    return blocks.drop(blocks.compute(x), blocks.encoding.dropout)


def _sight(blocks: Any, inputs: dict[str, Any], places: Any) -> Any:
    return blocks.visible(inputs["example_ids"], places, causal=True)


def _layer(blocks: Any, i: int, x: Any, context: Any, visible: Any) -> Any:
    layer, more, rate = f"h.{i}", blocks.sizes.more, blocks.encoding.dropout

    def projected(vectors: Any) -> Any:
        fused = blocks.dense(f"{layer}.attn.c_attn", blocks.norm(f"{layer}.ln_1", vectors))
        return [blocks.split_heads(part) for part in blocks.split(fused, 3)]

    query, key, value = projected(context)
    query = query if x is context else projected(x)[0]
    scale = (blocks.sizes.hidden_size // blocks.sizes.num_heads) ** -0.5 if more[PLAIN] else 1.0
    scale = scale / (i + 1) if more[BY_LAYER] else scale
    attended = blocks.merge_heads(blocks.attend(query, key, value, visible, scale=scale))
    x = blocks.add(x, blocks.drop(blocks.dense(f"{layer}.attn.c_proj", attended), rate))
    inner = blocks.dense(f"{layer}.mlp.c_fc", blocks.norm(f"{layer}.ln_2", x))
    inner = blocks.activate(inner, blocks.encoding.activation)
    return blocks.add(x, blocks.drop(blocks.dense(f"{layer}.mlp.c_proj", inner), rate))


_FUSED = ("h.{i}.attn.c_attn",)  # one layer gives queries, keys and values
_PLAIN = {"dropped": False, "output_bias": False}

_GGUF = Gguf(
    "gpt2",
    keys={
        "block_count": "n_layer",
        "context_length": "n_positions",
        "embedding_length": "n_embd",
        "feed_forward_length": "n_inner",
        "attention.head_count": "n_head",
        "attention.layer_norm_epsilon": "layer_norm_epsilon",
    },
    names={
        "token_embd": "wte",
        "position_embd": "wpe",
        "blk.{i}.attn_norm": "h.{i}.ln_1",
        "blk.{i}.attn_qkv": "h.{i}.attn.c_attn",
        "blk.{i}.attn_output": "h.{i}.attn.c_proj",
        "blk.{i}.ffn_norm": "h.{i}.ln_2",
        "blk.{i}.ffn_up": "h.{i}.mlp.c_fc",
        "blk.{i}.ffn_down": "h.{i}.mlp.c_proj",
        "output_norm": "ln_f",
        "output": "lm_head",
    },
)

GPT2 = Family(
    name="gpt2",
    shape=DECODER,
    prefix="transformer.",
    architecture="GPT2Model",
    hub=None,
    heads={
        NEXT_TOKEN: HeadLayers("GPT2LMHeadModel", output=decoders.OUTPUT, **_PLAIN),
        SEQUENCE: HeadLayers("GPT2ForSequenceClassification", output="score", **_PLAIN),
        TOKEN_CLASSES: HeadLayers("GPT2ForTokenClassification", output="classifier"),
    },
    template=decoders.TEMPLATE,
    tokens="wte",
    sizes=sizes,
    encoding=encoding,
    to_config=to_config,
    weights=weights,
    parts=held_parts,
    depth=depth,
    adapters={
        "query": _FUSED,
        "key": _FUSED,
        "value": _FUSED,
        "output": ("h.{i}.attn.c_proj",),
        "feedforward": ("h.{i}.mlp.c_fc", "h.{i}.mlp.c_proj"),
    },
    run=encoders.encoder(_embed, _layer, _sight, lambda blocks, x: blocks.norm("ln_f", x)),
    gguf=_GGUF,
)
