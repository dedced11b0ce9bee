"""The kinds of models that kft fine-tunes, one file for each, by `model_type` of config.json."""

from kft.models.families.albert import ALBERT
from kft.models.families.bert import BERT
from kft.models.families.deberta_v2 import DEBERTA_V2
from kft.models.families.distilbert import DISTILBERT
from kft.models.families.electra import ELECTRA
from kft.models.families.modernbert import MODERNBERT
from kft.models.families.mpnet import MPNET
from kft.models.families.record import (
    ANSWERS,
    KINDS,
    MULTIPLE_CHOICE,
    SEQUENCE,
    TOKEN_CLASSES,
    Encoding,
    Family,
    Head,
    HeadLayers,
    Hub,
    Part,
    Sizes,
    Weight,
    kind_of,
    numbered_labels,
)
from kft.models.families.roberta import ROBERTA, XLM_ROBERTA

__all__ = [
    "ANSWERS",
    "FAMILIES",
    "KINDS",
    "MULTIPLE_CHOICE",
    "SEQUENCE",
    "TOKEN_CLASSES",
    "Encoding",
    "Family",
    "Head",
    "HeadLayers",
    "Hub",
    "Part",
    "Sizes",
    "Weight",
    "kind_of",
    "numbered_labels",
]

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (BERT, DISTILBERT, ROBERTA, XLM_ROBERTA, ELECTRA, ALBERT, DEBERTA_V2, MODERNBERT, MPNET)
}
