"""ALBERT (Lan et al. 2020): narrow embeddings, and layers that share their weights in groups."""

from dataclasses import replace
from typing import Any

from kft.models.families import encoders, heads
from kft.models.families.encoders import Names
from kft.models.families.parts import dense_parts, norm_parts, table_part
from kft.models.families.record import Encoding, Family, Hub, Part, Sizes, Weight, dense
from kft.models.families.settings import Settings, damaged, unsupported
from kft.text import templates

POOLER = "pooler"
PROJECTION = "encoder.embedding_hidden_mapping_in"
NAMES = Names(
    layer="encoder.albert_layer_groups.{i}.albert_layers.0",
    query="attention.query",
    key="attention.key",
    value="attention.value",
    output="attention.dense",
    attention_norm="attention.LayerNorm",
    inner="ffn",
    outer="ffn_output",
    norm="full_layer_layer_norm",
)


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`.

    Raises:
        KftError: a group has more than one layer, or the groups are not of one size.
    """
    if settings.get("inner_group_num", 1) != 1:
        raise unsupported(
            settings.name,
            f"a group must have one layer, got `inner_group_num` {settings.get('inner_group_num')!r}",
        )
    more = {
        "embedding_size": settings.size("embedding_size", default=128),
        "num_hidden_groups": settings.size("num_hidden_groups", default=1),
    }
    result = replace(encoders.sizes(settings), more=more)
    if result.num_layers % more["num_hidden_groups"]:
        raise damaged(
            settings.name, "config.json: `num_hidden_layers` must be a multiple of `num_hidden_groups`"
        )
    return result


def encoding(settings: Settings) -> Encoding:
    return encoders.encoding(settings, activation="gelu_new", dropout=0.0)


def weights(sizes: Sizes) -> dict[str, Weight]:
    width = sizes.more["embedding_size"]
    return (
        encoders.embedding_weights(sizes, width)
        | encoders.segment_weights(sizes, width)
        | dense(PROJECTION, width, sizes.hidden_size)
        | encoders.layer_weights(NAMES, sizes, groups(sizes))
    )


def groups(sizes: Sizes) -> int:
    return sizes.more["num_hidden_groups"]


def parts(backbone: Any) -> dict[str, Part]:
    layers = [layer for (layer,) in backbone.transformer_layers]
    return {
        **table_part("embeddings.word_embeddings", backbone.token_embedding),
        **table_part("embeddings.position_embeddings", backbone.position_embedding, "position_embeddings"),
        **table_part("embeddings.token_type_embeddings", backbone.segment_embedding),
        **norm_parts("embeddings.LayerNorm", backbone.embeddings_layer_norm),
        **dense_parts(PROJECTION, backbone.embeddings_projection),
        **encoders.layer_parts(NAMES, layers),
        **dense_parts(POOLER, backbone.pooled_dense),
    }


def depth(name: str) -> int | None:
    return 0 if name.startswith(PROJECTION) else NAMES.depth(name)


def _embed(blocks: Any, inputs: dict[str, Any]) -> Any:
    return blocks.dense(PROJECTION, _TABLES(blocks, inputs))


def _layer(blocks: Any, i: int, *rest: Any) -> Any:
    """Layer i, which has the weights of its group."""
    return _POST_NORM(blocks, i * groups(blocks.sizes) // blocks.sizes.num_layers, *rest)


_TABLES = encoders.learned_positions("word", "position", "token_type")
_POST_NORM = encoders.post_norm(NAMES)

ALBERT = Family(
    name="albert",
    prefix="albert.",
    architecture="AlbertModel",
    hub=Hub(
        backbone="AlbertBackbone",
        classifier="AlbertTextClassifier",
        preprocessor="AlbertTextClassifierPreprocessor",
        tokenizer="AlbertTokenizer",
        sizes=encoders.HUB_SIZES | {"num_segments": "num_segments"},
        more={"embedding_size": "embedding_dim", "num_hidden_groups": "num_groups"},
        activation="gelu_tanh",
        epsilon=1e-12,
        head={"classifier": "output_dense"},
    ),
    heads=heads.with_pooler("Albert", POOLER),
    template=templates.BERT,
    sizes=sizes,
    encoding=encoding,
    to_config=encoders.to_config,
    weights=weights,
    parts=parts,
    depth=depth,
    adapters=NAMES.adapters,
    run=encoders.encoder(_embed, _layer),
    head_dropout="classifier_dropout_prob",
    own_layers=groups,
)
