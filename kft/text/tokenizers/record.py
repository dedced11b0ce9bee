"""What every tokenizer is: the checkpoint's own tokenizer.json, and functions that run it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kft.text.templates import Frame, Template, frame_of
from kft.text.tokenizers.definition import vocabulary_of

# Hugging Face's names of the tokens that a model has for purposes of its own.
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer. Make it with `kft.text.load_tokenizer`.

    Attributes:
        kind: "wordpiece", "byte_bpe", "bpe" (SentencePiece's, letters first) or "unigram".
        content: the text of its tokenizer.json, which is all that makes it.
        special_tokens: role (of ROLES) → token.
        ids: token → id, of the tokens that are searched in a text as it is, before it is
            split.
        size: ids are below it.
        sequences: of one text and of two, as its tokenizer.json makes them (see
            `Template`); None where it does not, so that the family's template counts.
        encode: texts → their token ids, without those that a template adds.
        locate: text → its token ids and int32 [tokens, 2], the characters (Unicode code points)
            where each token begins and before which it ends; spaces around a token are not of it.
    """

    kind: str
    content: str
    special_tokens: Mapping[str, str]
    ids: Mapping[str, int]
    size: int
    sequences: tuple[tuple[str, ...], tuple[str, ...]] | None
    encode: Callable[[Sequence[str]], list[list[int]]] = field(repr=False, compare=False)
    locate: Callable[[str], tuple[list[int], np.ndarray]] = field(repr=False, compare=False)

    def __call__(self, text: str) -> list[int]:
        """The token ids of one text, as `encode` gives them."""
        return self.encode([text])[0]

    @property
    def vocabulary(self) -> dict[str, int]:
        """Token → id, of all tokens; read anew in each use."""
        return vocabulary_of(json.loads(self.content))

    def frame(self, template: Template, paired: bool) -> Frame:
        """The special tokens of an example, as ids.

        Raises:
            KftError: the tokenizer has no such token.
        """
        single, pair = self.sequences or (template.single, template.pair)
        return frame_of(pair if paired else single, self.ids)
