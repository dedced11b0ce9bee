"""BERT (Devlin et al. 2019): learned positions, segments, normalised last, a tanh pooler."""

from typing import Any

from kft.models.families import encoders
from kft.models.families.parts import dense_parts, norm_parts, table_part
from kft.models.families.record import (
    MULTIPLE_CHOICE,
    SEQUENCE,
    Family,
    HeadLayers,
    Hub,
    Part,
    Sizes,
    Weight,
    dense,
)
from kft.text import templates


def weights(sizes: Sizes) -> dict[str, Weight]:
    return encoders.weights(sizes) | dense("pooler.dense", sizes.hidden_size, sizes.hidden_size)


def parts(backbone: Any) -> dict[str, Part]:
    result = {
        **table_part("embeddings.word_embeddings", backbone.token_embedding),
        **table_part("embeddings.position_embeddings", backbone.position_embedding, "position_embeddings"),
        **table_part("embeddings.token_type_embeddings", backbone.segment_embedding),
        **norm_parts("embeddings.LayerNorm", backbone.embeddings_layer_norm),
    }
    for i, layer in enumerate(backbone.transformer_layers):
        result |= encoders.layer_parts(f"encoder.layer.{i}", layer)
    return result | dense_parts("pooler.dense", backbone.pooled_dense)


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
    heads={
        SEQUENCE: HeadLayers("BertForSequenceClassification", output="classifier", pooler="pooler.dense"),
        MULTIPLE_CHOICE: HeadLayers("BertForMultipleChoice", output="classifier", pooler="pooler.dense"),
    },
    template=templates.BERT,
    sizes=encoders.sizes,
    encoding=encoders.encoding,
    to_config=encoders.to_config,
    weights=weights,
    fold=lambda arrays, sizes: arrays,
    unfold=lambda arrays, sizes: arrays,
    parts=parts,
    depth=encoders.depth,
    adapters=encoders.ADAPTERS,
    run=encoders.encoder(encoders.learned_positions("word", "position", "token_type"), encoders.post_norm),
)
