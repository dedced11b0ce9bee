"""tokenizer.json, the definition of a tokenizer: its kind, and how older files become one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kft.errors import KftError
from kft.text.templates import BERT, ROBERTA, post_processor

BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
    "bos_token": "<s>",
    "eos_token": "</s>",
}
GPT2_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
MAX_WORD_CHARACTERS = 100  # transformers calls longer words [UNK]
KIND_HINT = "take a checkpoint whose tokenizer is a WordPiece, BPE with bytes or Unigram one"

Definition = dict[str, Any]  # the content of a tokenizer.json


def kind_of(definition: Definition) -> str:
    """The kind of a tokenizer.

    Raises:
        KftError: kft has no such kind.
    """
    model = definition.get("model") or {}
    kind = model.get("type") or ("WordPiece" if "continuing_subword_prefix" in model else None)
    if kind == "WordPiece":
        return "wordpiece"
    if kind == "Unigram":
        return "unigram"
    if kind == "BPE" and "ByteLevel" in _types(definition.get("pre_tokenizer")):
        return "byte_bpe"
    if kind == "BPE" and model.get("byte_fallback"):  # SentencePiece's, of Llama 2, Mistral, Gemma
        return "bpe"
    splits = " without bytes as letters" if kind == "BPE" else ""
    raise KftError(f"tokenizer.json holds a {kind} model{splits}", KIND_HINT)


def content_of(definition: Definition) -> str:
    """The text to keep of a definition, without what it says of cutting and padding."""
    return json.dumps(definition | {"truncation": None, "padding": None}, ensure_ascii=False)


def vocabulary_of(definition: Definition) -> dict[str, int]:
    """Token → id, of all tokens."""
    vocabulary = definition["model"]["vocab"]
    if isinstance(vocabulary, list):  # a Unigram model's: (token, score) in id order
        vocabulary = {token: i for i, (token, _) in enumerate(vocabulary)}
    return vocabulary | ids_of(definition)


def ids_of(definition: Definition) -> dict[str, int]:
    """Token → id of the added tokens, which are searched in a text as they are."""
    return {entry["content"]: entry["id"] for entry in definition.get("added_tokens") or []}


def wordpiece(
    vocabulary: Mapping[str, int],
    lowercase: bool,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
) -> Definition:
    """BERT's tokenizer.

    Args:
        vocabulary: token → id.
        lowercase: whether texts are lower-cased.
        strip_accents: whether accents are removed; None follows `lowercase`, as in BERT.
        tokenize_chinese_chars: whether each CJK ideograph is a word.

    Raises:
        KftError: the vocabulary lacks a special token.
    """
    _check_special(vocabulary, BERT_TOKENS, "BERT")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocabulary, BERT_TOKENS),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": tokenize_chinese_chars,
            "strip_accents": strip_accents,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": post_processor(BERT, vocabulary),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": BERT_TOKENS["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": MAX_WORD_CHARACTERS,
            "vocab": dict(vocabulary),
        },
    }


def byte_bpe(
    vocabulary: Mapping[str, int],
    merges: Sequence[str],
    *,
    add_prefix_space: bool = False,
    special: Mapping[str, str] = ROBERTA_TOKENS,
) -> Definition:
    """The tokenizer of RoBERTa, or of GPT-2, which splits alike.

    Args:
        vocabulary: token → id, bytes written as GPT-2 writes them.
        merges: "left right", the first one first.
        add_prefix_space: whether a text begins with a space.
        special: role → token, ROBERTA_TOKENS or GPT2_TOKENS, which puts none around a text.

    Raises:
        KftError: the vocabulary lacks a special token.
    """
    kind = "RoBERTa" if special is ROBERTA_TOKENS else "GPT-2"
    _check_special(vocabulary, special, kind)
    splitter = {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": True,
    }
    around = [post_processor(ROBERTA, vocabulary)] if special is ROBERTA_TOKENS else []
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocabulary, special),
        "normalizer": None,
        "pre_tokenizer": splitter,
        "post_processor": {"type": "Sequence", "processors": [splitter, *around]},
        "decoder": splitter,
        "model": bpe_model(vocabulary, merges),
    }


def bpe_model(vocabulary: Mapping[str, int], merges: Sequence[str]) -> dict[str, Any]:
    """The `model` of a byte-level BPE definition; for the arguments see `byte_bpe`."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": dict(vocabulary),
        "merges": list(merges),
    }


def with_first_space(definition: Definition) -> Definition:
    """A byte-level BPE definition by which a text begins with a space."""

    def changed(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        spaced = {"add_prefix_space": True} if part.get("type") == "ByteLevel" else {}
        inside = {
            key: list(map(changed, part[key])) for key in ("pretokenizers", "processors") if key in part
        }
        return part | inside | spaced

    return definition | {key: changed(definition.get(key)) for key in ("pre_tokenizer", "post_processor")}


def _added(vocabulary: Mapping[str, int], special: Mapping[str, str]) -> list[dict[str, Any]]:
    """The special tokens as tokenizer.json lists them."""
    return [
        {
            "id": vocabulary[token],
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in sorted(set(special.values()), key=vocabulary.__getitem__)
    ]


def _check_special(vocabulary: Mapping[str, int], special: Mapping[str, str], kind: str) -> None:
    missing = [token for token in dict.fromkeys(special.values()) if token not in vocabulary]
    if missing:
        raise KftError(
            f"the vocabulary has no {', '.join(missing)}", f"is it a {kind} vocabulary, copied whole?"
        )


def _types(part: Any) -> list[str]:
    """The types of a part of tokenizer.json and of the parts inside it."""
    if not isinstance(part, dict):
        return []
    inside = [one for key in ("pretokenizers", "normalizers") for one in part.get(key) or []]
    return [str(part.get("type")), *(kind for one in inside for kind in _types(one))]
