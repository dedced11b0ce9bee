"""What a preset's files say, as one record."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Head:
    """A fine-tuned classification head.

    Attributes:
        labels: names in id order, one for each output; LABEL_0, LABEL_1, … where nobody named them.
        named: whether somebody did.
        problem_type: of Hugging Face, one of those in `kft.tasks.record`.
    """

    labels: tuple[str, ...]
    named: bool
    problem_type: str


@dataclass(frozen=True)
class Preset:
    """What the files of a pretrained BERT say.

    Attributes:
        name: as the user gave it.
        kind: "keras" (KerasHub), "huggingface" or "run" (a finished run, named after its own preset).
        path: the folder of the files; `keras_hub.models.BertBackbone.from_preset` reads it.
        vocabulary: tokens in id order.
        special_ids: ids of the SPECIAL_TOKENS, by token.
        lowercase, strip_accents, tokenize_chinese_chars: BERT's tokenizer settings; strip_accents None follows lowercase.
        activation: a value of ACTIVATIONS.
        epsilon: of LayerNorm.
        dropout, attention_dropout: rates the model was trained with.
        classifier_dropout: rate before the head, None where it is `dropout`.
        max_length: tokens that the position embeddings allow.
        vocabulary_size: rows of the token embedding, at least len(vocabulary).
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
    activation: str
    epsilon: float
    dropout: float
    attention_dropout: float
    classifier_dropout: float | None
    max_length: int
    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_size: int
    intermediate_size: int
    num_segments: int
    head: Head | None


def numbered_labels(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(count))
