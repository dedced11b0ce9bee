"""The tokenizer in a GGUF file's metadata, as tokenizer.json would describe it."""

from collections.abc import Callable
from typing import Any

import tokenizers

from kft.errors import KftError
from kft.models.presets import files
from kft.text import Tokenizer, load_tokenizer
from kft.text.tokenizers.definition import Definition, bpe_model

_CONTROL, _USER_DEFINED = 3, 4  # of `tokenizer.ggml.token_type`
_ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(numbers: str) -> dict[str, Any]:
    """Words as GPT-4 splits them, digits in groups of `numbers`."""
    pattern = {"Regex": _WORDS.replace("NUMBERS", numbers)}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _BYTES | {"use_regex": False}]}


_DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTES]}
# `tokenizer.ggml.pre` → the parts of tokenizer.json that differ.
_SPLITS = {
    "default": {"pre_tokenizer": _BYTES},
    "gpt-2": {"pre_tokenizer": _BYTES},
    "smollm": {"pre_tokenizer": _DIGITS},
    "qwen2": {"pre_tokenizer": _split(""), "normalizer": {"type": "NFC"}},
    "llama-bpe": {"pre_tokenizer": _split("{1,3}"), "ignore_merges": True},
}


def read(name: str, metadata: Callable[[str], Any], embeddings: int) -> Tokenizer:
    """The tokenizer that the metadata describe.

    Args:
        name: of the preset, for messages.
        metadata: key → value, or None.
        embeddings: tokens that the model has vectors for.

    Raises:
        KftError: kft has no such tokenizer, or it is damaged.
    """
    kind, splits = metadata("tokenizer.ggml.model"), metadata("tokenizer.ggml.pre") or "default"
    if kind != "gpt2":
        raise KftError(
            f"{name}: its tokenizer is a {kind!r}, kft reads byte-level BPE ('gpt2') from GGUF files",
            "take the checkpoint's Hugging Face folder",
        )
    if splits not in _SPLITS:
        raise KftError(
            f"{name}: its tokenizer splits as {splits!r}, kft knows {', '.join(_SPLITS)}",
            "take the checkpoint's Hugging Face folder",
        )
    tokens = metadata("tokenizer.ggml.tokens") or []
    if not tokens or len(tokens) > embeddings:
        raise files.damaged(name, f"{len(tokens)} tokens in the vocabulary, {embeddings} in the model")
    definition = _definition(tokens, metadata, _SPLITS[splits])
    roles = {}
    for role, key in _ROLES.items():
        number = metadata(f"tokenizer.ggml.{key}_token_id")
        if number is not None and 0 <= number < len(tokens):
            roles[role] = tokens[number]
    try:
        return load_tokenizer(definition, roles)
    except KftError as error:
        raise KftError(f"{name}: {error.message}", error.hint) from None


def _definition(tokens: list[str], metadata: Callable[[str], Any], split: dict[str, Any]) -> Definition:
    types = metadata("tokenizer.ggml.token_type") or [0] * len(tokens)
    plain = {"single_word": False, "lstrip": False, "rstrip": False}
    letters = set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    # A control token in other letters than those of bytes is filling: no text has it.
    added = [
        {"id": i, "content": token, "special": kind == _CONTROL, "normalized": kind != _CONTROL} | plain
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind == _USER_DEFINED or (kind == _CONTROL and set(token) <= letters)
    ]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = bpe_model(vocabulary, metadata("tokenizer.ggml.merges") or [])
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": split.get("normalizer"),
        "pre_tokenizer": split["pre_tokenizer"],
        "post_processor": None,
        "decoder": _BYTES,
        "model": model | {"ignore_merges": split.get("ignore_merges", False)},
    }
