"""MPNet (Song et al. 2020): RoBERTa whose attention also weighs how far tokens are apart.

KerasHub has no class for it: `models.holder` holds its weights.
"""

from typing import Any

import numpy as np

from kft.models.families import encoders, heads
from kft.models.families.encoders import Names
from kft.models.families.parts import held_parts
from kft.models.families.record import Encoding, Family, Sizes, Weight, table
from kft.models.families.settings import Settings, unsupported
from kft.text.templates import ROBERTA as TEMPLATE

FIRST_POSITION = TEMPLATE.first_position
BUCKETS, FARTHEST = 32, 128  # transformers computes with these, whatever a config says
KEYS = {ours: theirs for ours, theirs in encoders.KEYS.items() if ours != "num_segments"}
NAMES = Names(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    output="attention.attn.o",
    attention_norm="attention.LayerNorm",
)
DISTANCES = "encoder.relative_attention_bias"
_POSITIONS = "embeddings.position_embeddings.weight"


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`; padding is token 1, from which transformers counts positions."""
    for key, wanted in (("pad_token_id", FIRST_POSITION - 1), ("relative_attention_num_buckets", BUCKETS)):
        if settings.get(key, wanted) != wanted:
            raise unsupported(settings.name, f"`{key}` must be {wanted}, got: {settings.get(key)!r}")
    return encoders.sizes(settings, FIRST_POSITION, KEYS)


def encoding(settings: Settings) -> Encoding:
    return encoders.encoding(settings, KEYS)


def to_config(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    buckets = {"relative_attention_num_buckets": BUCKETS}
    return encoders.to_config(sizes, encoding, FIRST_POSITION, KEYS) | buckets


def weights(sizes: Sizes, first_position: int = FIRST_POSITION) -> dict[str, Weight]:
    return {
        **encoders.embedding_weights(sizes, sizes.hidden_size, first_position),
        **table(DISTANCES, BUCKETS, sizes.num_heads),
        **encoders.layer_weights(NAMES, sizes),
    }


def fold(arrays: dict[str, np.ndarray], sizes: Sizes) -> dict[str, np.ndarray]:
    """Positions without the rows that no token has."""
    return arrays | {_POSITIONS: arrays[_POSITIONS][FIRST_POSITION:]}


def unfold(arrays: dict[str, np.ndarray], sizes: Sizes) -> dict[str, np.ndarray]:
    empty = np.zeros((FIRST_POSITION, sizes.hidden_size), np.float32)
    return arrays | {_POSITIONS: np.concatenate([empty, arrays[_POSITIONS]])}


def depth(name: str) -> int | None:
    return 0 if name.startswith(DISTANCES) else NAMES.depth(name)


def buckets(farthest: int) -> np.ndarray:
    """The bucket of each distance from -farthest to farthest, as transformers computes it.

    As T5's (Raffel et al. 2020, section 2.1): half of them for tokens that come later, and of each
    half the first half exact, the others ever wider up to FARTHEST.
    """
    distance = np.arange(-farthest, farthest + 1)
    half, exact = BUCKETS // 2, BUCKETS // 4
    size = np.maximum(abs(distance), 1).astype(np.float32)
    wide = np.log(size / np.float32(exact)) / np.float32(np.log(FARTHEST / exact)) * np.float32(half - exact)
    wide = np.minimum(exact + wide.astype(np.int64), half - 1)
    return (distance < 0) * half + np.where(abs(distance) < exact, abs(distance), wide)


def _sight(blocks: Any, inputs: dict[str, Any], places: Any) -> tuple[Any, Any]:
    """Which tokens are visible, and what their distance adds to the scores [1 or R, A, M, T]."""
    apart = blocks.bucket(blocks.distances(inputs["token_ids"], places), buckets(FARTHEST))
    return encoders.visible(blocks, inputs, places), blocks.heads_first(blocks.embed(DISTANCES, apart))


def _layer(blocks: Any, i: int, x: Any, context: Any, sight: tuple[Any, Any]) -> Any:
    visible, bias = sight
    attended = blocks.attend(*encoders.heads(blocks, NAMES, i, x, context), visible, bias)
    return encoders.after_attention(blocks, NAMES, i, x, attended)


MPNET = Family(
    name="mpnet",
    prefix="mpnet.",
    architecture="MPNetModel",
    hub=None,
    heads=heads.with_dense("MPNet"),
    template=TEMPLATE,
    sizes=sizes,
    encoding=encoding,
    to_config=to_config,
    weights=weights,
    fold=fold,
    unfold=unfold,
    parts=held_parts,
    depth=depth,
    adapters=NAMES.adapters,
    run=encoders.encoder(encoders.learned_positions("word", "position"), _layer, _sight),
    own_weights=lambda sizes: weights(sizes, 0),
)
