"""The kinds of models that kft fine-tunes, one file for each, by `model_type` of config.json."""

from kft.models.families.bert import BERT
from kft.models.families.record import (
    MULTIPLE_CHOICE,
    SEQUENCE,
    Encoding,
    Family,
    Head,
    HeadLayers,
    Hub,
    Part,
    Sizes,
    Weight,
    numbered_labels,
)
from kft.models.families.roberta import ROBERTA

__all__ = [
    "FAMILIES",
    "MULTIPLE_CHOICE",
    "SEQUENCE",
    "Encoding",
    "Family",
    "Head",
    "HeadLayers",
    "Hub",
    "Part",
    "Sizes",
    "Weight",
    "numbered_labels",
]

FAMILIES: dict[str, Family] = {family.name: family for family in (BERT, ROBERTA)}
