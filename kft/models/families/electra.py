"""ELECTRA (Clark et al. 2020), the discriminator: BERT whose embeddings may be narrower."""

from dataclasses import replace
from typing import Any

from kft.models.families import encoders, heads
from kft.models.families.parts import dense_parts, norm_parts, table_part
from kft.models.families.record import MULTIPLE_CHOICE, Family, HeadLayers, Hub, Part, Sizes, Weight, dense
from kft.models.families.settings import Settings
from kft.text import templates

PROJECTION = "embeddings_project"


def sizes(settings: Settings) -> Sizes:
    more = {"embedding_size": settings.size("embedding_size", default=128)}
    return replace(encoders.sizes(settings), more=more)


def weights(sizes: Sizes) -> dict[str, Weight]:
    width, hidden = sizes.more["embedding_size"], sizes.hidden_size
    projection = {} if width == hidden else dense(PROJECTION, width, hidden)
    return (
        encoders.embedding_weights(sizes, width)
        | encoders.segment_weights(sizes, width)
        | projection
        | encoders.layer_weights(encoders.NAMES, sizes)
    )


def parts(backbone: Any) -> dict[str, Part]:
    narrow = backbone.embedding_dim != backbone.hidden_dim
    return {
        **table_part("embeddings.word_embeddings", backbone.token_embedding),
        **table_part("embeddings.position_embeddings", backbone.position_embedding, "position_embeddings"),
        **table_part("embeddings.token_type_embeddings", backbone.segment_embedding),
        **norm_parts("embeddings.LayerNorm", backbone.embeddings_layer_norm),
        **(dense_parts(PROJECTION, backbone.embeddings_projection) if narrow else {}),
        **encoders.layer_parts(encoders.NAMES, backbone.transformer_layers),
        **dense_parts(heads.POOLER, backbone.pooled_dense),  # KerasHub's alone, no head reads it
    }


def _embed(blocks: Any, inputs: dict[str, Any]) -> Any:
    x = _TABLES(blocks, inputs)
    narrow = blocks.sizes.more["embedding_size"] != blocks.sizes.hidden_size
    return blocks.dense(PROJECTION, x) if narrow else x


_TABLES = encoders.learned_positions("word", "position", "token_type")
_CHOICE = HeadLayers(
    "ElectraForMultipleChoice",
    output="classifier",
    pooler="sequence_summary.summary",
    activation="gelu_exact",
)

ELECTRA = Family(
    name="electra",
    prefix="electra.",
    architecture="ElectraModel",
    hub=Hub(
        backbone="ElectraBackbone",
        tokenizer="ElectraTokenizer",
        sizes=encoders.HUB_SIZES | {"vocabulary_size": "vocab_size", "num_segments": "num_segments"},
        more={"embedding_size": "embedding_dim"},
        activation="gelu_tanh",
        epsilon=1e-12,
    ),
    heads=heads.with_dense("Electra", "gelu_exact") | {MULTIPLE_CHOICE: _CHOICE},
    template=templates.BERT,
    sizes=sizes,
    encoding=encoders.encoding,
    to_config=encoders.to_config,
    weights=weights,
    parts=parts,
    depth=encoders.NAMES.depth,
    adapters=encoders.NAMES.adapters,
    run=encoders.encoder(_embed, encoders.post_norm(encoders.NAMES)),
)
