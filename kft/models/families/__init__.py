"""The kinds of models that kft fine-tunes, one file for each, by `model_type` of config.json."""

from kft.models.families.albert import ALBERT
from kft.models.families.bert import BERT
from kft.models.families.deberta_v2 import DEBERTA_V2
from kft.models.families.distilbert import DISTILBERT
from kft.models.families.electra import ELECTRA
from kft.models.families.gemma import GEMMA
from kft.models.families.gemma2 import GEMMA2
from kft.models.families.gemma3 import GEMMA3
from kft.models.families.gpt2 import GPT2
from kft.models.families.llama import LLAMA
from kft.models.families.mistral import MISTRAL
from kft.models.families.modernbert import MODERNBERT
from kft.models.families.mpnet import MPNET
from kft.models.families.qwen2 import QWEN2
from kft.models.families.qwen3 import QWEN3
from kft.models.families.record import (
    ANSWERS,
    DECODER,
    ENCODER,
    KINDS,
    MULTIPLE_CHOICE,
    NEXT_TOKEN,
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
from kft.models.families.smollm3 import SMOLLM3

__all__ = [
    "ANSWERS",
    "DECODER",
    "DECODERS",
    "ENCODER",
    "ENCODERS",
    "FAMILIES",
    "KINDS",
    "MULTIPLE_CHOICE",
    "NEXT_TOKEN",
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

ENCODERS = (BERT, DISTILBERT, ROBERTA, XLM_ROBERTA, ELECTRA, ALBERT, DEBERTA_V2, MODERNBERT, MPNET)
DECODERS = (GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, SMOLLM3)
FAMILIES: dict[str, Family] = {family.name: family for family in (*ENCODERS, *DECODERS)}
