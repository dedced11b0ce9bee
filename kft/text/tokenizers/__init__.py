"""Text → token ids, by the checkpoint's own tokenizer.json: a function for each kind."""

import json
from collections.abc import Callable, Mapping

from kft.errors import KftError
from kft.text.tokenizers import huggingface, wordpiece
from kft.text.tokenizers.definition import Definition, kind_of, with_first_space
from kft.text.tokenizers.record import ROLES, Tokenizer

__all__ = ["KINDS", "ROLES", "Definition", "Tokenizer", "begin_with_space", "load_tokenizer"]

KINDS: dict[str, Callable[[Definition, Mapping[str, str]], Tokenizer]] = {
    "wordpiece": wordpiece.load,
    "byte_bpe": huggingface.load,
    "bpe": huggingface.load,
    "unigram": huggingface.load,
}


def load_tokenizer(definition: str | Definition, special_tokens: Mapping[str, str]) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes.

    Args:
        definition: the content of the tokenizer.json, as text or read.
        special_tokens: role (of ROLES) → token.

    Raises:
        KftError: the definition is damaged, or of a kind that kft has not.
    """
    try:
        definition = json.loads(definition) if isinstance(definition, str) else definition
    except json.JSONDecodeError as error:
        raise KftError(f"tokenizer.json is damaged: {error}", "copy the whole folder again") from None
    return KINDS[kind_of(definition)](definition, special_tokens)


def begin_with_space(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer to which the first word of a text is one after a space, like the others.

    So transformers' token classifiers are trained: `add_prefix_space` of a byte-level BPE
    tokenizer, whose pieces after a space are others. Other kinds know no such difference.
    """
    if tokenizer.kind != "byte_bpe":
        return tokenizer
    return load_tokenizer(with_first_space(json.loads(tokenizer.content)), tokenizer.special_tokens)
