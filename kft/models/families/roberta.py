"""RoBERTa (Liu et al. 2019) and XLM-RoBERTa (2020): BERT without segments and pooler.

XLM-RoBERTa is of Conneau et al. Both have a classifier with a dense layer of its own; they differ
in their tokenizers.
"""

from typing import Any

import numpy as np

from kft.models.families import encoders, heads
from kft.models.families.parts import norm_parts, table_part
from kft.models.families.record import Encoding, Family, Hub, Part, Sizes, Weight
from kft.models.families.settings import Settings, unsupported
from kft.text.templates import ROBERTA as TEMPLATE

# The checkpoint's tables begin with rows that no token has: padding's, and the one before it.
FIRST_POSITION = TEMPLATE.first_position
_POSITIONS = "embeddings.position_embeddings.weight"
_SEGMENTS = "embeddings.token_type_embeddings.weight"


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`; padding is token 1, from which transformers counts positions."""
    if settings.get("pad_token_id", 1) != FIRST_POSITION - 1:
        raise unsupported(settings.name, f"`pad_token_id` must be 1, got: {settings.get('pad_token_id')!r}")
    return encoders.sizes(settings, FIRST_POSITION)


def to_config(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    return encoders.to_config(sizes, encoding, FIRST_POSITION)


def weights(sizes: Sizes) -> dict[str, Weight]:
    return encoders.weights(sizes, FIRST_POSITION)


def fold(arrays: dict[str, np.ndarray], sizes: Sizes) -> dict[str, np.ndarray]:
    """Positions without the rows that no token has, and with the segment that every token has."""
    others = {name: array for name, array in arrays.items() if name != _SEGMENTS}
    return others | {_POSITIONS: arrays[_POSITIONS][FIRST_POSITION:] + arrays[_SEGMENTS][0]}


def unfold(arrays: dict[str, np.ndarray], sizes: Sizes) -> dict[str, np.ndarray]:
    empty = np.zeros((FIRST_POSITION, sizes.hidden_size), np.float32)
    segments = np.zeros((sizes.num_segments, sizes.hidden_size), np.float32)
    return arrays | {_POSITIONS: np.concatenate([empty, arrays[_POSITIONS]]), _SEGMENTS: segments}


def parts(backbone: Any) -> dict[str, Part]:
    positions = backbone.embeddings.position_embedding
    return {
        **table_part("embeddings.word_embeddings", backbone.token_embedding),
        **table_part("embeddings.position_embeddings", positions, "position_embeddings"),
        **norm_parts("embeddings.LayerNorm", backbone.embeddings_layer_norm),
        **encoders.layer_parts(encoders.NAMES, backbone.transformer_layers),
    }


def _family(name: str, classes: str) -> Family:
    """The row of one `model_type`, whose classes in transformers and KerasHub begin alike."""
    return Family(
        name=name,
        prefix="roberta.",
        architecture=f"{classes}Model",
        hub=Hub(
            backbone=f"{classes}Backbone",
            classifier=f"{classes}TextClassifier",
            preprocessor=f"{classes}TextClassifierPreprocessor",
            tokenizer=f"{classes}Tokenizer",
            sizes=encoders.HUB_SIZES,
            activation="gelu_exact",
            epsilon=1e-5,
            head={"classifier.dense": "pooled_dense", "classifier.out_proj": "output_dense"},
        ),
        heads=heads.with_dense(classes),
        template=TEMPLATE,
        sizes=sizes,
        encoding=encoders.encoding,
        to_config=to_config,
        weights=weights,
        fold=fold,
        unfold=unfold,
        parts=parts,
        depth=encoders.NAMES.depth,
        adapters=encoders.NAMES.adapters,
        run=encoders.encoder(
            encoders.learned_positions("word", "position"), encoders.post_norm(encoders.NAMES)
        ),
    )


ROBERTA = _family("roberta", "Roberta")
XLM_ROBERTA = _family("xlm-roberta", "XLMRoberta")
