"""What a preset's files say, as one record."""

from dataclasses import dataclass
from pathlib import Path

from kft.text import BERT, Template, Tokenizer

MULTIPLE_CHOICE = "multiple_choice"


@dataclass(frozen=True)
class Head:
    """A fine-tuned classification head.

    Attributes:
        labels: names in id order, one for each output; LABEL_0, LABEL_1, … where nobody named them.
        named: whether somebody did.
        problem_type: "single_label_classification", "multi_label_classification", "regression" or MULTIPLE_CHOICE.
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
        tokenizer: of its own files.
        activation: a value of ACTIVATIONS.
        epsilon: of LayerNorm.
        dropout, attention_dropout: rates the model was trained with.
        classifier_dropout: rate before the head, None where it is `dropout`.
        max_length: tokens that the position embeddings allow.
        vocabulary_size: rows of the token embedding, at least `tokenizer.size`.
        head: the head of a fine-tuned classifier, or None.
    """

    name: str
    kind: str
    path: Path
    tokenizer: Tokenizer
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

    @property
    def template(self) -> Template:
        """What stands around the texts of an example."""
        return BERT


def numbered_labels(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(count))
