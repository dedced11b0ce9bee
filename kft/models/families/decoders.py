"""What decoders of Llama's kind share: sizes, weights, names, forward pass.

What differs between layers stands in `Sizes.more`, by the names of transformers 5's config.json:

    num_key_value_heads, head_dim            heads of keys and values; D
    layer_types, sliding_window              which layers see near tokens alone, and how many,
                                             themselves included
    rope_parameters                          rotary positions; of each kind of layer where they
                                             differ
    attention_bias, mlp_bias                 which dense layers have one
    tie_word_embeddings                      whether the table of tokens is also the last kernel

The forward pass is written in the few names of `blocks`. Letters as in `batches`: R rows, T tokens,
M read places; A heads, D units of a head.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kft.models.families.record import (
    NEXT_TOKEN,
    SEQUENCE,
    TOKEN_CLASSES,
    Encoding,
    HeadLayers,
    Sizes,
    Weight,
    dense,
    norm,
    table,
)
from kft.models.families.settings import Settings, damaged, unsupported, written_activation
from kft.text.templates import Template

FULL, SLIDING = "full_attention", "sliding_attention"
TOKENS, OUTPUT = "embed_tokens", "lm_head"
# Field of `Sizes` or `Encoding` → config.json's name.
KEYS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "max_length": "max_position_embeddings",
    "activation": "hidden_act",
    "epsilon": "rms_norm_eps",
    "attention_dropout": "attention_dropout",
}
ADAPTERS = {
    "query": ("layers.{i}.self_attn.q_proj",),
    "key": ("layers.{i}.self_attn.k_proj",),
    "value": ("layers.{i}.self_attn.v_proj",),
    "output": ("layers.{i}.self_attn.o_proj",),
    "feedforward": ("layers.{i}.mlp.gate_proj", "layers.{i}.mlp.up_proj", "layers.{i}.mlp.down_proj"),
}
TEMPLATE = Template(("$A",), ("$A", "$B"), reads="last")


def heads(name: str) -> dict[str, HeadLayers]:
    """The heads of transformers' classes whose names begin with `name`."""
    plain = {"dropped": False, "output_bias": False}
    return {
        NEXT_TOKEN: HeadLayers(f"{name}ForCausalLM", output=OUTPUT, **plain),
        SEQUENCE: HeadLayers(f"{name}ForSequenceClassification", output="score", **plain),
        TOKEN_CLASSES: HeadLayers(f"{name}ForTokenClassification", output="score"),
    }


# --- config.json


def sizes(settings: Settings, tied: bool = False, keys: Mapping[str, str] = KEYS, **more: Any) -> Sizes:
    """The sizes in config.json.

    Args:
        settings: the content of config.json.
        tied: whether the table is the last kernel where config.json says nothing.
        keys: field of `Sizes` → config.json's name.
        more: further values of `Sizes.more`, or others than those of a Llama.

    Raises:
        KftError: a value is missing or wrong, or it is a model that kft does not run.
    """
    if settings.get("use_bidirectional_attention"):
        raise unsupported(settings.name, "its tokens see later ones, kft runs decoders that look back")
    plain = {name: settings.size(keys[name]) for name in keys if name in Sizes.__dataclass_fields__}
    hidden, count = plain["hidden_size"], plain["num_heads"]
    if settings.get("head_dim") is None and hidden % count:
        width, number = keys["hidden_size"], keys["num_heads"]
        raise damaged(settings.name, f"config.json: `{width}` must be a multiple of `{number}`")
    shared = settings.size("num_key_value_heads", default=count)
    if count % shared:
        number = keys["num_heads"]
        raise damaged(settings.name, f"config.json: `{number}` must be a multiple of `num_key_value_heads`")
    usual = {
        "num_key_value_heads": shared,
        "head_dim": settings.size("head_dim", default=hidden // count),
        "attention_bias": settings.flag("attention_bias"),
        "mlp_bias": settings.flag("mlp_bias"),
        "layer_types": [FULL] * plain["num_layers"],
        "sliding_window": None,
        "tie_word_embeddings": settings.flag("tie_word_embeddings", tied),
    }
    if "rope_parameters" not in more:
        usual["rope_parameters"] = rope(settings)
    return Sizes(**plain, more=usual | more)


def windows(settings: Settings, kinds: list[str], window: int | None) -> dict[str, Any]:
    """The values of `Sizes.more` that say which layers see near tokens alone.

    Args:
        settings: whose `layer_types` count where they are named.
        kinds: of the layers where no config.json names them.
        window: tokens that a token of a sliding layer sees; None where none slides.
    """
    named = settings.get("layer_types") or kinds
    if len(named) != len(kinds) or not set(named) <= {FULL, SLIDING}:
        raise unsupported(settings.name, f"`layer_types` must be {FULL} or {SLIDING} for each layer")
    if window is not None and (type(window) is not int or window < 1):
        raise damaged(settings.name, f"config.json: `sliding_window` must be a whole number, got: {window!r}")
    if SLIDING in named and window is None:
        raise damaged(settings.name, "config.json: layers slide, and `sliding_window` is not set")
    return {"layer_types": list(named), "sliding_window": window if SLIDING in named else None}


def rope(settings: Settings, default: float = 10_000.0, kind: str | None = None) -> dict[str, Any]:
    """Rotary positions as transformers 5 writes them; version 4 had `rope_theta`, `rope_scaling`.

    Args:
        settings: the content of config.json.
        default: the base where nothing names one.
        kind: of layer, where config.json has one entry for each.

    Raises:
        KftError: they are scaled in a way that kft does not know.
    """
    said = settings.get("rope_parameters") or {}
    said = (said.get(kind) or {}) if kind else said
    said = (settings.get("rope_scaling") or {} if kind != SLIDING else {}) | said
    older = "rope_local_base_freq" if kind == SLIDING else "rope_theta"
    base = said.get("rope_theta") or settings.get(older) or default
    name = said.get("rope_type", said.get("type", "default"))
    if name not in _SCALES or said.get("partial_rotary_factor", 1.0) != 1.0:
        known = ", ".join(_SCALES)
        raise unsupported(
            settings.name, f"rotary positions of type {name!r} are not supported, kft knows {known}"
        )
    most = settings.get("max_position_embeddings")
    values = {"original_max_position_embeddings": most} | said | {"rope_theta": base}
    wanted = ("rope_theta", *_SCALES[name])
    wrong = [key for key in wanted if type(values.get(key)) not in (int, float) or values[key] <= 0]
    if wrong:
        got = values.get(wrong[0])
        raise damaged(settings.name, f"config.json: `{wrong[0]}` must be a positive number, got: {got!r}")
    return {"rope_type": name} | {key: values[key] for key in wanted}


# Type of rotary positions → what it needs besides the base.
_SCALES = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def rates(rope: Mapping[str, Any], size: int) -> np.ndarray:
    """Radians a token, float32 [size / 2], rounded where transformers rounds.

    Sources: Su et al. 2021; Chen et al. 2023 ("linear"); the Llama 3.1 reference code ("llama3").
    """
    base, steps = np.float32(rope["rope_theta"]), np.arange(0, size, 2, dtype=np.float32)
    plain = np.float32(1) / base ** (steps / np.float32(size))
    if rope["rope_type"] == "default":
        return plain
    slow = plain / np.float32(rope["factor"])
    if rope["rope_type"] == "linear":
        return slow
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = np.float32(rope["original_max_position_embeddings"]) / (np.float32(2 * np.pi) / plain)
    share = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)
    between = (1 - share) * slow + share * plain
    return np.where(turns < low, slow, np.where(turns > high, plain, between)).astype(np.float32)


def encoding(
    settings: Settings, activation: str = "silu", keys: Mapping[str, str] = KEYS, epsilon: float = 1e-6
) -> Encoding:
    """What config.json says besides; the other arguments are those of a config that names none."""
    return Encoding(
        activation=settings.activation(keys["activation"], activation),
        epsilon=settings.epsilon(keys["epsilon"], epsilon),
        dropout=0.0,
        attention_dropout=settings.rate(keys["attention_dropout"], 0.0),
    )


def to_config(sizes: Sizes, encoding: Encoding, keys: Mapping[str, str] = KEYS) -> dict[str, Any]:
    """The fields of config.json from which `sizes` and `encoding` read the records."""
    values = vars(sizes) | vars(encoding) | {"activation": written_activation(encoding.activation)}
    return {theirs: values[ours] for ours, theirs in keys.items()} | sizes.more


def to_config_of_windows(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    """The same of a family whose config.json says whether layers slide."""
    return to_config(sizes, encoding) | {"use_sliding_window": sizes.more["sliding_window"] is not None}


# --- Weights


@dataclass(frozen=True)
class Names:
    """The norms of a layer by the checkpoint's names, and the kind of weight that they have.

    Attributes:
        before, after: of each half of a layer, attention and feed-forward; None where none is.
        kind: "scale" of weights that multiply, "offset" of those to which 1 is added.
        head_norms: whether queries and keys are normalised head by head.
    """

    before: tuple[str, str] = ("input_layernorm", "post_attention_layernorm")
    after: tuple[str, str] | None = None
    kind: str = "scale"
    head_norms: bool = False

    def norm(self, blocks: Any, name: str, x: Any) -> Any:
        return blocks.rms_norm(name, x, 0.0 if self.kind == "scale" else 1.0)


def weights(names: Names, output_bias: bool = True) -> Callable[[Sizes], dict[str, Weight]]:
    """`Family.weights`; `output_bias` says whether `attention_bias` is also one of o_proj."""

    def scale(name: str, width: int) -> dict[str, Weight]:
        return {key: Weight(weight.shape, names.kind) for key, weight in norm(name, width, False).items()}

    def of(sizes: Sizes) -> dict[str, Weight]:
        more, hidden, inner = sizes.more, sizes.hidden_size, sizes.intermediate_size
        wide, narrow = sizes.num_heads * more["head_dim"], more["num_key_value_heads"] * more["head_dim"]
        bias, mlp_bias = more["attention_bias"], more["mlp_bias"]
        result = table(TOKENS, sizes.vocabulary_size, hidden)
        for i in range(sizes.num_layers):
            layer = f"layers.{i}"
            result |= {
                **dense(f"{layer}.self_attn.q_proj", hidden, wide, bias),
                **dense(f"{layer}.self_attn.k_proj", hidden, narrow, bias),
                **dense(f"{layer}.self_attn.v_proj", hidden, narrow, bias),
                **dense(f"{layer}.self_attn.o_proj", wide, hidden, bias and output_bias),
                **dense(f"{layer}.mlp.gate_proj", hidden, inner, mlp_bias),
                **dense(f"{layer}.mlp.up_proj", hidden, inner, mlp_bias),
                **dense(f"{layer}.mlp.down_proj", inner, hidden, mlp_bias),
            }
            for name in (*names.before, *(names.after or ())):
                result |= scale(f"{layer}.{name}", hidden)
            for name in ("q_norm", "k_norm") if names.head_norms else ():
                result |= scale(f"{layer}.self_attn.{name}", more["head_dim"])
        return result | scale("norm", hidden)

    return of


def depth(name: str) -> int | None:
    """See `Family.depth`."""
    layer = re.match(r"layers\.(\d+)\.", name)
    if layer:
        return int(layer[1]) + 1
    return 0 if name.startswith(TOKENS) else None


# --- Forward pass


@dataclass(frozen=True)
class Sight:
    """Who sees whom, and from where.

    Attributes:
        visible: kind of layer → the machine's own, for `attend`.
        looking: positions of the tokens that look.
        positions: of those that are seen.
    """

    visible: dict[str, Any]
    looking: Any
    positions: Any


def sight(blocks: Any, inputs: dict[str, Any], places: Any) -> Sight:
    """Of tokens that see those before them in their example, near ones alone in sliding layers."""
    more = blocks.sizes.more
    reach = {FULL: None, SLIDING: more["sliding_window"] and more["sliding_window"] - 1}
    visible = {
        kind: blocks.visible(inputs["example_ids"], places, reach[kind], causal=True)
        for kind in dict.fromkeys(more["layer_types"])
    }
    positions = inputs["positions"]
    return Sight(visible, blocks.at_places(positions, places), positions)


def embed(blocks: Any, inputs: dict[str, Any]) -> Any:
    return blocks.compute(blocks.embed(TOKENS, inputs["token_ids"]))


def layer(names: Names) -> Callable[..., Any]:
    """One layer for tokens x [R, M, H] with the tokens that they may see, context [R, T, H]."""

    def normed(blocks: Any, name: str | None, x: Any) -> Any:
        return x if name is None else names.norm(blocks, name, x)

    def of(blocks: Any, i: int, x: Any, context: Any, sight: Sight) -> Any:
        layer = f"layers.{i}"
        before, after = (
            (f"{layer}.{one}" for one in pair) if pair else (None, None)
            for pair in (
                names.before,
                names.after,
            )
        )
        (before_attention, before_inner), (after_attention, after_inner) = before, after
        seen = names.norm(blocks, before_attention, context)
        looking = seen if x is context else names.norm(blocks, before_attention, x)
        attended = attend(blocks, names, i, looking, seen, sight)
        x = blocks.add(x, normed(blocks, after_attention, attended))
        inner = gated(blocks, f"{layer}.mlp", names.norm(blocks, before_inner, x))
        return blocks.add(x, normed(blocks, after_inner, inner))

    return of


def attend(blocks: Any, names: Names, i: int, x: Any, context: Any, sight: Sight) -> Any:
    """Attention of layer i: [R, M, H] of x [R, M, H] and context [R, T, H], both normalised."""
    more, name = blocks.sizes.more, f"layers.{i}.self_attn"
    kind, count = more["layer_types"][i], more["num_key_value_heads"]
    query = blocks.split_heads(blocks.dense(f"{name}.q_proj", x))
    key = blocks.split_heads(blocks.dense(f"{name}.k_proj", context), count)
    value = blocks.split_heads(blocks.dense(f"{name}.v_proj", context), count)
    if names.head_norms:
        query = names.norm(blocks, f"{name}.q_norm", query)
        key = names.norm(blocks, f"{name}.k_norm", key)
    if more.get("no_rope_layers", {i: 1})[i]:
        rope = more["rope_parameters"]
        turns = rates(rope.get(kind, rope), more["head_dim"])
        query, key = blocks.rotate(query, sight.looking, turns), blocks.rotate(key, sight.positions, turns)
    scale = more.get("query_pre_attn_scalar", more["head_dim"]) ** -0.5
    cap = more.get("attn_logit_softcapping")
    attended = blocks.attend(query, key, value, sight.visible[kind], scale=scale, cap=cap)
    return blocks.dense(f"{name}.o_proj", blocks.merge_heads(attended))


def gated(blocks: Any, name: str, x: Any) -> Any:
    """Feed-forward whose one half opens or closes the other (Shazeer 2020)."""
    gate = blocks.activate(blocks.dense(f"{name}.gate_proj", x), blocks.encoding.activation)
    return blocks.dense(f"{name}.down_proj", blocks.multiply(gate, blocks.dense(f"{name}.up_proj", x)))


def finish(names: Names) -> Callable[..., Any]:
    """The norm after the last layer."""
    return lambda blocks, x: names.norm(blocks, "norm", x)
