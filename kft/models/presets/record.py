"""What a preset's files say, as one record."""

from dataclasses import dataclass
from pathlib import Path

from kft.models.families import Encoding, Family, Head, Sizes
from kft.text import Tokenizer


@dataclass(frozen=True)
class Preset:
    """What the files of a pretrained model say.

    Attributes:
        name: as the user gave it.
        kind: "keras" (KerasHub), "huggingface", "gguf" or "run" (a finished run, named after its
            own preset).
        path: the folder of the files, or the GGUF file.
        tokenizer: of its own files.
        family: the kind of model.
        sizes, encoding: of the encoder.
        classifier_dropout: rate before the head, None where it is `dropout`.
        head: the head of a fine-tuned classifier, or None.
        adapter: folder of the adapters that are merged into the weights of `path`, or None.
        note: what a user should know of the weights, or None.
        chat_template: of the checkpoint, where a GGUF file has it.
    """

    name: str
    kind: str
    path: Path
    tokenizer: Tokenizer
    family: Family
    sizes: Sizes
    encoding: Encoding
    classifier_dropout: float | None
    head: Head | None
    adapter: Path | None = None
    note: str | None = None
    chat_template: str | None = None
