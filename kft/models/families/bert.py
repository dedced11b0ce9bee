"""BERT (Devlin et al. 2019): learned positions, segments, normalised last, a tanh pooler."""

from typing import Any

from kft.models.families import encoders, heads
from kft.models.families.parts import dense_parts, norm_parts, table_part
from kft.models.families.record import Family, Hub, Part
from kft.text import templates


def parts(backbone: Any) -> dict[str, Part]:
    return {
        **table_part("embeddings.word_embeddings", backbone.token_embedding),
        **table_part("embeddings.position_embeddings", backbone.position_embedding, "position_embeddings"),
        **table_part("embeddings.token_type_embeddings", backbone.segment_embedding),
        **norm_parts("embeddings.LayerNorm", backbone.embeddings_layer_norm),
        **encoders.layer_parts(encoders.NAMES, backbone.transformer_layers),
        **dense_parts(heads.POOLER, backbone.pooled_dense),
    }


BERT = Family(
    name="bert",
    prefix="bert.",
    architecture="BertModel",
    hub=Hub(
        backbone="BertBackbone",
        classifier="BertTextClassifier",
        preprocessor="BertTextClassifierPreprocessor",
        tokenizer="BertTokenizer",
        sizes=encoders.HUB_SIZES | {"num_segments": "num_segments"},
        activation="gelu_tanh",
        epsilon=1e-12,
        head={"classifier": "output_dense"},
    ),
    heads=heads.with_pooler("Bert"),
    template=templates.BERT,
    sizes=encoders.sizes,
    encoding=encoders.encoding,
    to_config=encoders.to_config,
    weights=encoders.weights,
    parts=parts,
    depth=encoders.NAMES.depth,
    adapters=encoders.NAMES.adapters,
    run=encoders.encoder(
        encoders.learned_positions("word", "position", "token_type"), encoders.post_norm(encoders.NAMES)
    ),
)
