"""A tokenizer that Hugging Face's `tokenizers` runs, whatever its tokenizer.json says."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from kft.errors import KftError
from kft.text.templates import sequences_of
from kft.text.tokenizers.definition import Definition, content_of, ids_of, kind_of
from kft.text.tokenizers.record import Tokenizer

# Half a pair of surrogates is no character, and Rust's strings cannot hold it: decoders make it
# U+FFFD.
_SURROGATE = re.compile("[\ud800-\udfff]")
_BATCH_TEXTS = 10_000


def load(definition: Definition, special_tokens: Mapping[str, str]) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes.

    Args:
        definition: the content of the tokenizer.json.
        special_tokens: role → token.

    Raises:
        KftError: the definition is damaged, or of a kind that kft has not.
    """
    kind, content = kind_of(definition), content_of(definition)
    added = definition.get("added_tokens") or []
    try:
        rust = tokenizers.Tokenizer.from_str(content)
        if kind == "unigram":
            rust.model = _exact_unigram(definition["model"])
    except Exception as error:  # tokenizers raises nothing more special
        raise KftError(f"tokenizer.json is damaged: {error}", "copy the whole folder again") from None

    wrong = [entry for entry in added if rust.token_to_id(entry["content"]) != entry["id"]]
    if wrong:
        token, number = wrong[0]["content"], wrong[0]["id"]
        raise KftError(
            f"tokenizer.json is damaged: the added token {token} cannot be number {number}",
            "copy the whole folder again",
        )

    def encode(texts: Sequence[str]) -> list[list[int]]:
        ids = []
        for begin in range(0, len(texts), _BATCH_TEXTS):  # what Rust returns is larger than the ids
            batch = [_mended(text) for text in texts[begin : begin + _BATCH_TEXTS]]
            ids += [encoding.ids for encoding in rust.encode_batch_fast(batch, add_special_tokens=False)]
        return ids

    def locate(text: str) -> tuple[list[int], np.ndarray]:
        encoding = rust.encode(_mended(text), add_special_tokens=False)
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        return encoding.ids, offsets if kind == "wordpiece" else _trimmed(
            text, offsets
        )  # its tokens hold no space

    size = 1 + max(rust.get_vocab(with_added_tokens=True).values(), default=-1)
    sequences = sequences_of(definition.get("post_processor"))
    return Tokenizer(kind, content, dict(special_tokens), ids_of(definition), size, sequences, encode, locate)


def _exact_unigram(model: Mapping[str, Any]) -> tokenizers.models.Unigram:
    """The model of a definition with scores as written: Rust's JSON may miss the last bit.

    Some pieces tie but for that bit; transformers' own classes take the scores from Python, too.
    """
    vocabulary = [(piece, score) for piece, score in model["vocab"]]
    return tokenizers.models.Unigram(vocabulary, model["unk_id"], bool(model.get("byte_fallback", False)))


def _mended(text: str) -> str:
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _trimmed(text: str, offsets: np.ndarray) -> np.ndarray:
    """Offsets without the spaces that a token carries along; each kind does that otherwise."""
    if not len(offsets):
        return offsets
    spaces = np.fromiter((character.isspace() for character in text), bool, len(text))
    places = np.arange(len(text) + 1, dtype=np.int32)
    after = np.append(
        np.where(spaces, len(text), places[:-1]), len(text)
    )  # the next character that is no space
    after = np.minimum.accumulate(after[::-1])[::-1]
    before = np.append(0, np.where(spaces, 0, places[1:]))  # the end of the last one before
    before = np.maximum.accumulate(before)
    begins, ends = offsets.T
    begins = np.minimum(after[begins], ends)
    return np.stack([begins, np.maximum(before[ends], begins)], 1).astype(np.int32)
