"""SentencePiece's model files → tokenizer.json's definition, as transformers converts them.

The file is a protocol buffer (sentencepiece_model.proto): 1 pieces {1 text, 2 score, 3 type}, 2
trainer {3 model type}, 3 normalizer {2 character map}.
"""

import base64
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kft.models.presets import files
from kft.text.templates import BERT, ROBERTA, Template, post_processor
from kft.text.tokenizers.definition import Definition

_UNIGRAM = 1  # of model types
_UNKNOWN, _CONTROL, _USER = 2, 3, 4  # of the types of pieces

Piece = tuple[str, float, int]  # text, score, type


def definition(name: str, path: Path, tokenizer: str) -> Definition | None:
    """The definition of the tokenizer in a file; None where kft does not know the kind.

    Args:
        name: of the preset, for messages.
        path: the file.
        tokenizer: the class, of transformers or of KerasHub.

    Raises:
        KftError: the file is missing or damaged, or no unigram model.
    """
    make = _KINDS.get(tokenizer)
    if make is None:
        return None
    files.check_readable(name, path)
    try:
        pieces, model, characters = _read(path.read_bytes())
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise files.damaged(name, f"{path.name} is damaged: {error}") from None
    if model != _UNIGRAM or not pieces:
        raise files.damaged(name, f"{path.name} must hold a unigram model")
    return make(pieces, characters)


# --- The file


def _read(content: bytes) -> tuple[list[Piece], int, bytes]:
    """(pieces in id order, model type, character map)"""
    pieces, model, characters = [], _UNIGRAM, b""
    for field, value in _fields(content):
        if field == 1:
            parts = dict(_fields(value))
            score = struct.unpack("<f", parts[2])[0] if 2 in parts else 0.0
            pieces.append((parts[1].decode("utf-8"), score, parts.get(3, 1)))
        elif field == 2:
            model = dict(_fields(value)).get(3, _UNIGRAM)
        elif field == 3:
            characters = dict(_fields(value)).get(2, b"")
    return pieces, model, characters


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of the fields of a message; numbers as int, everything else as bytes."""
    place = 0
    while place < len(content):
        key, place = _number(content, place)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _number(content, place)
            yield field, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of type {kind}")
        size, place = _number(content, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
        if place + size > len(content):
            raise ValueError("it ends too early")
        yield field, content[place : place + size]
        place += size


def _number(content: bytes, place: int) -> tuple[int, int]:
    """(a number of seven bits a byte, the place after it)"""
    value = shift = 0
    while True:
        byte = content[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place


# --- Kinds


def _xlm_roberta(pieces: list[Piece], characters: bytes) -> Definition:
    """Its first pieces are not those of the file; transformers names them as fairseq does."""
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary = [*special, *_scores(pieces[3:]), ("<mask>", 0.0)]
    added = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return _unigram(vocabulary, 3, added, ROBERTA, _mapped(characters), [{"type": "WhitespaceSplit"}])


def _albert(pieces: list[Piece], characters: bytes) -> Definition:
    """Lower-cased and without accents; a digit and a comma are no piece."""
    vocabulary = [
        (text, score - 100 if len(text) > 1 and text[-1] == "," and text[-2].isdigit() else score)
        for text, score in _scores(pieces)
    ]
    quotes = [{"type": "Replace", "pattern": {"String": marks}, "content": '"'} for marks in ("``", "''")]
    plain = [{"type": kind} for kind in ("NFKD", "StripAccents", "Lowercase")]
    normalizers = [*quotes, *plain, *_mapped(characters)]
    return _unigram(
        vocabulary, _unknown(pieces), _special(pieces), BERT, normalizers, [{"type": "WhitespaceSplit"}]
    )


def _deberta(pieces: list[Piece], characters: bytes) -> Definition:
    vocabulary, special = _scores(pieces), _special(pieces)
    if "[MASK]" not in special:
        vocabulary, special = [*vocabulary, ("[MASK]", 0.0)], [*special, "[MASK]"]
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    return _unigram(vocabulary, _unknown(pieces), special, BERT, [strip, *_mapped(characters), spaces], [])


_KINDS: dict[str, Callable[[list[Piece], bytes], Definition]] = {
    "XLMRobertaTokenizer": _xlm_roberta,
    "AlbertTokenizer": _albert,
    "DebertaV2Tokenizer": _deberta,
    "DebertaV3Tokenizer": _deberta,
}


def _scores(pieces: list[Piece]) -> list[tuple[str, float]]:
    return [(text, score) for text, score, _ in pieces]


def _unknown(pieces: list[Piece]) -> int:
    return next((i for i, (_, _, kind) in enumerate(pieces) if kind == _UNKNOWN), 0)


def _special(pieces: list[Piece]) -> list[str]:
    """The pieces that stand for themselves wherever a text has them."""
    return [text for text, _, kind in pieces if kind in (_UNKNOWN, _CONTROL, _USER)]


def _mapped(characters: bytes) -> list[dict[str, Any]]:
    encoded = base64.b64encode(characters).decode()
    return [{"type": "Precompiled", "precompiled_charsmap": encoded}] if characters else []


def _unigram(
    vocabulary: list[tuple[str, float]],
    unknown: int,
    special: list[str],
    template: Template,
    normalizers: list[dict[str, Any]],
    splitters: list[dict[str, Any]],
) -> Definition:
    ids = {text: i for i, (text, _) in enumerate(vocabulary)}
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [plain | {"id": ids[token], "content": token} for token in special],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splitters, space]},
        "post_processor": post_processor(template, ids),
        "decoder": space,
        "model": {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": [list(entry) for entry in vocabulary],
            "byte_fallback": False,
        },
    }
