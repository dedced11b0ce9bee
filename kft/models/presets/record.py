"""What a preset's files say, as one record."""

from dataclasses import dataclass
from pathlib import Path

from kft.models.families import Encoding, Family, Head, Sizes


@dataclass(frozen=True)
class Preset:
    """What the files of a pretrained model say.

    Attributes:
        name: as the user gave it.
        kind: "keras" (KerasHub), "huggingface" or "run" (a finished run, named after its own preset).
        path: the folder of the files.
        vocabulary: tokens in id order.
        special_ids: ids of the SPECIAL_TOKENS, by token.
        lowercase, strip_accents, tokenize_chinese_chars: BERT's tokenizer settings; strip_accents None follows lowercase.
        family: the kind of model.
        sizes, encoding: of the encoder.
        classifier_dropout: rate before the head, None where it is `dropout`.
        head: the head of a fine-tuned classifier, or None.
    """

    name: str
    kind: str
    path: Path
    vocabulary: list[str]
    special_ids: dict[str, int]
    lowercase: bool
    strip_accents: bool | None
    tokenize_chinese_chars: bool
    family: Family
    sizes: Sizes
    encoding: Encoding
    classifier_dropout: float | None
    head: Head | None
