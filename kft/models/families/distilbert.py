"""DistilBERT (Sanh et al. 2019): BERT without segments and pooler, under names of its own."""

from dataclasses import replace
from typing import Any

from kft.models.families import encoders, heads
from kft.models.families.encoders import Names
from kft.models.families.parts import norm_parts, table_part
from kft.models.families.record import (
    ANSWERS,
    Encoding,
    Family,
    HeadLayers,
    Hub,
    Part,
    Sizes,
    Weight,
)
from kft.models.families.settings import Settings
from kft.text import templates

NAMES = Names(
    layer="transformer.layer.{i}",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    output="attention.out_lin",
    attention_norm="sa_layer_norm",
    inner="ffn.lin1",
    outer="ffn.lin2",
    norm="output_layer_norm",
)
KEYS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "max_length": "max_position_embeddings",
    "activation": "activation",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
}


def sizes(settings: Settings) -> Sizes:
    return encoders.sizes(settings, keys=KEYS)


def encoding(settings: Settings) -> Encoding:
    return encoders.encoding(settings, KEYS)


def to_config(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    return encoders.to_config(sizes, encoding, keys=KEYS)


def weights(sizes: Sizes) -> dict[str, Weight]:
    return encoders.embedding_weights(sizes, sizes.hidden_size) | encoders.layer_weights(NAMES, sizes)


def parts(backbone: Any) -> dict[str, Part]:
    positions = backbone.embeddings.position_embedding
    return {
        **table_part("embeddings.word_embeddings", backbone.token_embedding),
        **table_part("embeddings.position_embeddings", positions, "position_embeddings"),
        **norm_parts("embeddings.LayerNorm", backbone.embeddings_layer_norm),
        **encoders.layer_parts(NAMES, backbone.transformer_layers),
    }


DISTILBERT = Family(
    name="distilbert",
    prefix="distilbert.",
    architecture="DistilBertModel",
    hub=Hub(
        backbone="DistilBertBackbone",
        classifier="DistilBertTextClassifier",
        preprocessor="DistilBertTextClassifierPreprocessor",
        tokenizer="DistilBertTokenizer",
        sizes=encoders.HUB_SIZES,
        activation="gelu_exact",
        epsilon=1e-12,
        head={"pre_classifier": "pooled_dense", "classifier": "output_dense"},
    ),
    heads={
        **heads.of_first_token("DistilBert", "classifier", "pre_classifier", activation="relu"),
        **heads.of_tokens("DistilBert"),
        ANSWERS: HeadLayers("DistilBertForQuestionAnswering", output="qa_outputs"),
    },
    template=replace(templates.BERT, segments=False),
    sizes=sizes,
    encoding=encoding,
    to_config=to_config,
    weights=weights,
    parts=parts,
    depth=NAMES.depth,
    adapters=NAMES.adapters,
    run=encoders.encoder(encoders.learned_positions("word", "position"), encoders.post_norm(NAMES)),
    head_dropout="seq_classif_dropout",
)
