"""DeBERTa-v3 (He et al. 2021): BERT whose attention weighs bucketed distances of tokens.

It has no other positions. Its `model_type` is that of DeBERTa-v2.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from kft.models.families import encoders, heads
from kft.models.families.parts import norm_parts, table_part
from kft.models.families.record import (
    Encoding,
    Family,
    Hub,
    Part,
    Sizes,
    Weight,
    norm,
    table,
)
from kft.models.families.settings import Settings, unsupported
from kft.text import templates

NAMES = replace(
    encoders.NAMES,
    query="attention.self.query_proj",
    key="attention.self.key_proj",
    value="attention.self.value_proj",
)
KEYS = {ours: theirs for ours, theirs in encoders.KEYS.items() if ours != "num_segments"}
DISTANCES, DISTANCE_NORM = "encoder.rel_embeddings", "encoder.LayerNorm"
# What config.json must say, and what it says where it does not: DeBERTa-v3's own values come first.
_ONLY = {
    "relative_attention": (True, False),
    "position_biased_input": (False, True),
    "share_att_key": (True, False),
    "norm_rel_ebd": ("layer_norm", "none"),
    "type_vocab_size": (0, 0),
    "conv_kernel_size": (0, 0),
}


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`.

    Raises:
        KftError: it is another DeBERTa than version 3.
    """
    for key, (wanted, default) in _ONLY.items():
        if settings.get(key, default) != wanted:
            raise unsupported(
                settings.name,
                f"`{key}` must be {wanted!r} as in DeBERTa-v3, got: {settings.get(key, default)!r}",
            )
    kinds = settings.get("pos_att_type") or []
    kinds = kinds.lower().split("|") if isinstance(kinds, str) else kinds
    if {kind.strip() for kind in kinds} != {"c2p", "p2c"}:
        raise unsupported(settings.name, f"`pos_att_type` must be p2c and c2p, got: {kinds}")
    more = {"position_buckets": settings.size("position_buckets", default=-1)}
    result = replace(encoders.sizes(settings, keys=KEYS), more=more)
    farthest = settings.get("max_relative_positions", -1)
    if farthest not in (-1, result.max_length):
        raise unsupported(settings.name, f"`max_relative_positions` must be -1, got: {farthest}")
    return result


def encoding(settings: Settings) -> Encoding:
    return encoders.encoding(settings, KEYS, epsilon=1e-7)


def to_config(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    only = {key: wanted for key, (wanted, _) in _ONLY.items()}
    kinds = {"pos_att_type": ["p2c", "c2p"], "max_relative_positions": -1}
    return encoders.to_config(sizes, encoding, keys=KEYS) | only | kinds | {"pooler_hidden_act": "gelu"}


def weights(sizes: Sizes) -> dict[str, Weight]:
    hidden = sizes.hidden_size
    return {
        **table("embeddings.word_embeddings", sizes.vocabulary_size, hidden),
        **norm("embeddings.LayerNorm", hidden),
        **table(DISTANCES, 2 * sizes.more["position_buckets"], hidden),
        **norm(DISTANCE_NORM, hidden),
        **encoders.layer_weights(NAMES, sizes),
    }


def parts(backbone: Any) -> dict[str, Part]:
    distances = backbone.relative_embeddings
    return {
        **table_part("embeddings.word_embeddings", backbone.token_embedding),
        **norm_parts("embeddings.LayerNorm", backbone.embeddings_layer_norm),
        **table_part(DISTANCES, distances, "rel_embeddings"),
        **norm_parts(DISTANCE_NORM, distances.layer_norm),
        **encoders.layer_parts(NAMES, backbone.transformer_layers, _dense_layers),
    }


def _dense_layers(attention: Any) -> tuple[Any, Any, Any, Any]:
    return attention._query_dense, attention._key_dense, attention._value_dense, attention._output_dense


def depth(name: str) -> int | None:
    return 0 if name.startswith((DISTANCES, DISTANCE_NORM)) else NAMES.depth(name)


def buckets(count: int, farthest: int) -> np.ndarray:
    """The distances table's row for each distance, -farthest to farthest, int32 [2 * farthest + 1].

    Exact up to half of `count`, then ever wider (section 3.2 of DeBERTa, appendix of its second
    version). In float32, as transformers computes it.
    """
    distance = np.arange(-farthest, farthest + 1)
    middle = count // 2
    size = np.where(abs(distance) < middle, middle - 1, abs(distance)).astype(np.float32)
    widest = np.log(np.float32((farthest - 1) / middle))
    wide = np.ceil(np.log(size / np.float32(middle)) / widest * np.float32(middle - 1)) + middle
    signed = np.where(size <= middle, distance, wide * np.sign(distance)).astype(np.int32)
    return np.clip(signed + count, 0, 2 * count - 1)


def _sight(blocks: Any, inputs: dict[str, Any], places: Any) -> tuple[Any, Any, Any]:
    """What tokens see: who is visible, buckets of distances, the distances' vectors [1, N, H]."""
    numbers = buckets(blocks.sizes.more["position_buckets"], blocks.sizes.max_length)
    apart = blocks.bucket(blocks.distances(inputs["token_ids"], places), numbers)
    vectors = blocks.norm(DISTANCE_NORM, blocks.table(DISTANCES))
    return encoders.visible(blocks, inputs, places), apart, vectors


def _layer(blocks: Any, i: int, x: Any, context: Any, sight: tuple[Any, Any, Any]) -> Any:
    visible, apart, vectors = sight
    query, key, value = encoders.heads(blocks, NAMES, i, x, context)
    vectors = blocks.drop(vectors, blocks.encoding.dropout)
    far_query = blocks.split_heads(blocks.dense(NAMES.part(i, "query"), vectors))  # [1, A, N, D]
    far_key = blocks.split_heads(blocks.dense(NAMES.part(i, "key"), vectors))
    by_query = blocks.pick(blocks.products(query, far_key), apart)  # [R, A, M, T]
    turned = blocks.pick(blocks.products(key, far_query), blocks.flip(apart))  # [R, A, T, M]
    scale = (3 * blocks.sizes.hidden_size // blocks.sizes.num_heads) ** -0.5  # of three products
    bias = blocks.scale(blocks.add(by_query, blocks.turn(turned)), scale)
    attended = blocks.attend(query, key, value, visible, bias, scale)
    return encoders.after_attention(blocks, NAMES, i, x, attended)


DEBERTA_V2 = Family(
    name="deberta-v2",
    prefix="deberta.",
    architecture="DebertaV2Model",
    hub=Hub(
        backbone="DebertaV3Backbone",
        classifier="DebertaV3TextClassifier",
        preprocessor="DebertaV3TextClassifierPreprocessor",
        tokenizer="DebertaV3Tokenizer",
        sizes=encoders.HUB_SIZES,
        more={"position_buckets": "bucket_size"},
        activation="gelu_exact",
        epsilon=1e-7,
        head={heads.POOLER: "pooled_dense", "classifier": "output_dense"},
    ),
    heads=heads.of_tokens("DebertaV2")
    | heads.of_first_token("DebertaV2", "classifier", heads.POOLER, activation="gelu_exact"),
    template=replace(templates.BERT, segments=False),
    sizes=sizes,
    encoding=encoding,
    to_config=to_config,
    weights=weights,
    parts=parts,
    depth=depth,
    adapters=NAMES.adapters,
    run=encoders.encoder(encoders.learned_positions("word"), _layer, _sight),
    head_dropout="cls_dropout",
)
