"""The tokenizer's files in a preset's folder, Hugging Face's or KerasHub's: vocabulary and settings."""

from pathlib import Path
from typing import Any

from kft.errors import KftError
from kft.models.presets import files
from kft.text.tokenizers.wordpiece import SPECIAL_TOKENS

_BERT_TOKENIZERS = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_PLAIN_TOKENIZERS = ("PreTrainedTokenizer", "TokenizersBackend")  # whatever tokenizer.json says
_SPECIAL_ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


def huggingface(name: str, folder: Path, embeddings: int) -> dict[str, Any]:
    """The fields of a `Preset` that tell of its tokenizer, of a folder that transformers wrote.

    Args:
        name: of the preset, for messages.
        folder: its files.
        embeddings: tokens that the model has vectors for.

    Raises:
        KftError: files are missing or damaged, or it is not a tokenizer that kft has.
    """
    vocabulary, settings = _tokenizer(name, folder)
    return {"vocabulary": vocabulary, "special_ids": special_ids(name, vocabulary, embeddings), **settings}


def keras_hub(name: str, folder: Path, embeddings: int) -> dict[str, Any]:
    """As `huggingface`, of a folder that KerasHub wrote."""
    tokenizer = files.read_json(name, folder / "tokenizer.json")
    if tokenizer.get("class_name") != "BertTokenizer":
        raise KftError(
            f"{name}: its tokenizer is a {tokenizer.get('class_name')}, kft needs a BertTokenizer",
            files.ANOTHER_HINT,
        )
    settings = tokenizer.get("config", {})
    vocabulary = read_vocabulary(name, folder / "assets" / "tokenizer" / "vocabulary.txt")
    return {
        "vocabulary": vocabulary,
        "special_ids": special_ids(name, vocabulary, embeddings),
        "lowercase": bool(settings.get("lowercase", False)),
        # KerasHub leaves accents alone unless told; BERT strips them where it lower-cases, and was trained so.
        "strip_accents": True if settings.get("strip_accents") else None,
        "tokenize_chinese_chars": bool(settings.get("split_on_cjk", True)),
    }


def read_vocabulary(name: str, path: Path) -> list[str]:
    """The lines of a vocabulary file."""
    files.check_readable(name, path)
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise files.damaged(name, f"{path.name} is damaged: {error}") from None
    lines = content.replace("\r\n", "\n").split("\n")  # not splitlines: some tokens are line breaks
    return lines[:-1] if lines[-1] == "" else lines


def special_ids(name: str, vocabulary: list[str], embeddings: int) -> dict[str, int]:
    """Ids of the SPECIAL_TOKENS by token; also checks that the model has an embedding for every token."""
    if len(vocabulary) > embeddings:
        raise files.damaged(name, f"{len(vocabulary)} tokens in the vocabulary, {embeddings} in the model")
    ids = {token: i for i, token in enumerate(vocabulary)}
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise KftError(f"{name}: the vocabulary has no {', '.join(missing)}", "is it a BERT vocabulary?")
    return {token: ids[token] for token in SPECIAL_TOKENS}


def _tokenizer(name: str, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """(vocabulary, settings as `presets.tokenizer_settings` gives them), taken from where transformers takes them."""
    told = files.read_json_if_there(name, folder / "tokenizer_config.json")
    whole = files.read_json_if_there(name, folder / "tokenizer.json")
    kind = str(told.get("tokenizer_class") or "BertTokenizer").removesuffix("Fast")
    if kind not in _BERT_TOKENIZERS + _PLAIN_TOKENIZERS:
        raise KftError(f"{name}: its tokenizer is a {kind}, kft needs a BertTokenizer", files.ANOTHER_HINT)
    _check_added_tokens(name, folder, told, whole)
    vocabulary = _json_vocabulary(name, whole) or read_vocabulary(name, folder / "vocab.txt")
    if kind in _PLAIN_TOKENIZERS:
        return vocabulary, _plain_settings(name, whole)
    return vocabulary, {  # transformers takes these from here whatever tokenizer.json says
        "lowercase": bool(told.get("do_lower_case", True)),
        "strip_accents": told.get("strip_accents"),
        "tokenize_chinese_chars": bool(told.get("tokenize_chinese_chars", True)),
    }


def _plain_settings(name: str, whole: dict) -> dict[str, Any]:
    normalizer = whole.get("normalizer") or {}
    kinds = (normalizer.get("type"), (whole.get("pre_tokenizer") or {}).get("type"))
    if kinds != ("BertNormalizer", "BertPreTokenizer") or not normalizer.get("clean_text", True):
        raise KftError(
            f"{name}: tokenizer.json is not BERT's: it normalizes and splits with {kinds[0]}, {kinds[1]}",
            files.ANOTHER_HINT,
        )
    return {
        "lowercase": bool(normalizer.get("lowercase", True)),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": bool(normalizer.get("handle_chinese_chars", True)),
    }


def _check_added_tokens(name: str, folder: Path, told: dict, whole: dict) -> None:
    """Refuses tokens that BERT does not have: they would be cut out of the texts by rules of their own."""
    for role, expected in zip(_SPECIAL_ROLES, SPECIAL_TOKENS, strict=True):
        token = told.get(role) or expected
        token = token.get("content") if isinstance(token, dict) else token
        if token != expected:
            raise KftError(
                f"{name}: tokenizer_config.json: `{role}` must be {expected}, got: {token}",
                files.ANOTHER_HINT,
            )
    added = [*(whole.get("added_tokens") or []), *(told.get("added_tokens_decoder") or {}).values()]
    contents = {str(entry.get("content")) for entry in added}
    contents |= set(files.read_json_if_there(name, folder / "added_tokens.json"))
    others = sorted(contents - set(SPECIAL_TOKENS))
    if others:
        raise KftError(
            f"{name}: its tokenizer has added tokens, which kft does not support: {', '.join(others[:5])}",
            "choose a checkpoint with BERT's own tokenizer",
        )


def _json_vocabulary(name: str, whole: dict) -> list[str] | None:
    model = whole.get("model") or {}
    vocabulary = model.get("vocab")
    if not vocabulary:
        return None
    if model.get("type", "WordPiece") != "WordPiece" or model.get("continuing_subword_prefix", "##") != "##":
        raise KftError(
            f"{name}: tokenizer.json must hold a WordPiece model with ## prefixes, not {model.get('type')}",
            files.ANOTHER_HINT,
        )
    by_id = {i: token for token, i in vocabulary.items()} if isinstance(vocabulary, dict) else {}
    counted = all(type(i) is int and 0 <= i < 2 * len(vocabulary) for i in by_id)
    if not counted or len(by_id) != len(vocabulary):
        raise files.damaged(name, "tokenizer.json is damaged: every token needs an id of its own")
    # An id without a token is that of a line that stood twice in the vocabulary file.
    return [by_id.get(i, f"[unused id {i}]") for i in range(max(by_id) + 1)]
