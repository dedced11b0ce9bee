"""The tokenizer in a preset's folder, from the files of Hugging Face or of KerasHub."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from kft.errors import KftError
from kft.models.presets import files, sentencepiece_file
from kft.text import Tokenizer, load_tokenizer
from kft.text.tokenizers import definition as definitions
from kft.text.tokenizers.definition import BERT_TOKENS, GPT2_TOKENS, ROBERTA_TOKENS, Definition
from kft.text.tokenizers.record import ROLES

_BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_BYTE_BPE_CLASSES = ("RobertaTokenizer", "GPT2Tokenizer")
_ALBERT_TOKENS = BERT_TOKENS | {"pad_token": "<pad>", "unk_token": "<unk>"}


def huggingface(name: str, folder: Path, embeddings: int, spare: bool = False) -> Tokenizer:
    """The tokenizer of a folder that transformers wrote.

    Args:
        name: of the preset, for messages.
        folder: its files.
        embeddings: tokens that the model has vectors for.
        spare: whether added tokens without vectors are left out; the texts' part of a model of
            texts and images has such.

    Raises:
        KftError: files are missing or damaged, or it is not a tokenizer that kft has.
    """
    said = files.read_json_or_empty(name, folder / "tokenizer_config.json")
    definition = _definition(name, folder, said)
    added = _added_tokens(name, folder, definition, said)
    definition["added_tokens"] = [entry for entry in added if not spare or entry["id"] < embeddings]
    return _load(name, definition, _roles(name, folder, definition, said), embeddings)


def keras_hub(name: str, folder: Path, embeddings: int) -> Tokenizer:
    """The tokenizer of a folder that KerasHub wrote; see `huggingface`."""
    content = files.read_json(name, folder / "tokenizer.json")
    kind, settings, assets = (
        content.get("class_name"),
        content.get("config", {}),
        folder / "assets" / "tokenizer",
    )
    if kind in _BERT_CLASSES:
        definition = _wordpiece(
            name,
            read_vocabulary(name, assets / "vocabulary.txt"),
            bool(settings.get("lowercase", False)),
            # KerasHub leaves accents alone by default; BERT strips them where it lower-cases, and
            # was trained so.
            True if settings.get("strip_accents") else None,
            bool(settings.get("split_on_cjk", True)),
        )
        return _load(name, definition, BERT_TOKENS, embeddings)
    if kind == "RobertaTokenizer":
        definition = _byte_bpe(
            name, assets / "vocabulary.json", assets / "merges.txt", bool(settings.get("add_prefix_space"))
        )
        return _load(name, definition, ROBERTA_TOKENS, embeddings)
    definition = sentencepiece_file.definition(name, assets / "vocabulary.spm", kind)
    if definition is None:
        raise KftError(f"{name}: its tokenizer is a {kind}, which kft does not know", files.ANOTHER_HINT)
    return _load(name, definition, _roles(name, folder, definition, {}), embeddings)


def read_vocabulary(name: str, path: Path) -> list[str]:
    """The lines of a vocabulary file."""
    return _lines(name, path)


def _lines(name: str, path: Path) -> list[str]:
    files.check_readable(name, path)
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise files.damaged(name, f"{path.name} is damaged: {error}") from None
    lines = content.replace("\r\n", "\n").split("\n")  # not splitlines: some tokens are line breaks
    return lines[:-1] if lines[-1] == "" else lines


def _load(name: str, definition: Definition, roles: dict[str, str], embeddings: int) -> Tokenizer:
    tokenizer = _named(name, load_tokenizer, definition, roles)
    if tokenizer.size > embeddings:
        raise files.damaged(name, f"{tokenizer.size} tokens in the vocabulary, {embeddings} in the model")
    return tokenizer


def _named(name: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """What a function makes, its error naming the preset."""
    try:
        return make(*arguments)
    except KftError as error:
        raise KftError(f"{name}: {error.message}", error.hint) from None


# --- Hugging Face


def _definition(name: str, folder: Path, said: dict) -> Definition:
    """tokenizer.json, or what transformers makes of older files.

    Some classes of transformers have settings of their own.
    """
    whole = files.read_json_or_empty(name, folder / "tokenizer.json")
    kind = str(said.get("tokenizer_class") or "").removesuffix("Fast")
    if (whole.get("model") or {}).get("vocab"):
        _check_vocabulary(name, whole)
        if kind in _BERT_CLASSES or (not kind and _named(name, definitions.kind_of, whole) == "wordpiece"):
            return _as_bert(name, whole, said)
        return _as_roberta(whole, said) if kind in _BYTE_BPE_CLASSES else dict(whole)
    if (folder / "vocab.json").exists() or kind in _BYTE_BPE_CLASSES:
        if kind and kind not in _BYTE_BPE_CLASSES:
            raise KftError(f"{name}: tokenizer.json is missing, which a {kind} needs", files.WHOLE_HINT)
        space = bool(said.get("add_prefix_space", False))
        return _byte_bpe(name, folder / "vocab.json", folder / "merges.txt", space)
    pieces = next(folder.glob("*.model"), None)
    if pieces and not (folder / "vocab.txt").exists():
        definition = sentencepiece_file.definition(name, pieces, kind)
        if definition is not None:
            return definition
        raise KftError(
            f"{name}: its tokenizer is in {pieces.name}, kft reads tokenizer.json",
            "convert it once with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    vocabulary = read_vocabulary(name, folder / "vocab.txt")
    if kind in ("", *_BERT_CLASSES):
        return _wordpiece(name, vocabulary, *_bert_settings(said))
    if not whole:
        raise KftError(f"{name}: tokenizer.json is missing, which a {kind} needs", files.WHOLE_HINT)
    plain = _wordpiece(name, vocabulary, True)
    normalizer = plain["normalizer"] | (whole.get("normalizer") or {})
    return plain | {key: value for key, value in whole.items() if key != "model"} | {"normalizer": normalizer}


def _as_bert(name: str, whole: Definition, said: dict) -> Definition:
    """tokenizer.json of a BertTokenizer, with the settings that tokenizer_config.json has."""
    model = whole["model"]
    if model.get("type", "WordPiece") != "WordPiece" or model.get("continuing_subword_prefix", "##") != "##":
        raise KftError(
            f"{name}: tokenizer.json must hold a WordPiece model with ## prefixes, not {model.get('type')}",
            files.ANOTHER_HINT,
        )
    plain = _named(name, definitions.wordpiece, model["vocab"], *_bert_settings(said))
    return whole | {key: plain[key] for key in ("normalizer", "pre_tokenizer", "decoder", "model")}


def _bert_settings(said: dict) -> tuple[bool, bool | None, bool]:
    return (
        bool(said.get("do_lower_case", True)),
        said.get("strip_accents"),
        bool(said.get("tokenize_chinese_chars", True)),
    )


def _as_roberta(whole: Definition, said: dict) -> Definition:
    """tokenizer.json of a RobertaTokenizer, with `add_prefix_space` of tokenizer_config.json."""
    splitter = whole.get("pre_tokenizer") or {}
    if splitter.get("type") != "ByteLevel" or "add_prefix_space" not in said:
        return dict(whole)
    return whole | {"pre_tokenizer": splitter | {"add_prefix_space": bool(said["add_prefix_space"])}}


def _wordpiece(name: str, vocabulary: list[str], *settings: bool | None) -> Definition:
    """BERT's tokenizer; of a token that occurs twice the later id counts, as in transformers."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    return _named(name, definitions.wordpiece, ids, *settings)


def _byte_bpe(name: str, vocabulary: Path, merges: Path, add_prefix_space: bool) -> Definition:
    ids = files.read_json(name, vocabulary)
    lines = [line for line in _lines(name, merges) if line and not line.startswith("#version")]
    usual = {} if _usual_bytes(ids) is ROBERTA_TOKENS else {"special": GPT2_TOKENS}
    definition = _named(name, partial(definitions.byte_bpe, **usual), ids, lines)
    definition["pre_tokenizer"] = definition["pre_tokenizer"] | {"add_prefix_space": add_prefix_space}
    return definition


def _usual_bytes(ids: Collection[str]) -> dict[str, str]:
    """Role → special token of RoBERTa, or of GPT-2 where those are in the vocabulary."""
    plain = GPT2_TOKENS["eos_token"] in ids and ROBERTA_TOKENS["cls_token"] not in ids
    return GPT2_TOKENS if plain else ROBERTA_TOKENS


def _check_vocabulary(name: str, whole: Definition) -> None:
    """Raises KftError: ids are not numbers, or two tokens have the same."""
    vocabulary = whole["model"]["vocab"]
    if isinstance(vocabulary, list):  # a Unigram model's: (token, score) in id order
        return
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [None]
    counted = all(type(i) is int and 0 <= i < 2 * len(vocabulary) for i in ids)
    if not counted or len(set(ids)) != len(vocabulary):
        raise files.damaged(name, "tokenizer.json is damaged: every token needs an id of its own")


def _roles(name: str, folder: Path, definition: Definition, said: dict) -> dict[str, str]:
    """Role → special token: as the folder says, else as models of this kind have them."""
    said = files.read_json_or_empty(name, folder / "special_tokens_map.json") | said
    ids = definitions.ids_of(definition)
    kind = _named(name, definitions.kind_of, definition)
    usual = BERT_TOKENS if kind == "wordpiece" or "[PAD]" in ids else _usual_bytes(ids)
    if "[CLS]" in ids and "<pad>" in ids:
        usual = _ALBERT_TOKENS
    roles = {}
    for role in ROLES:
        token = _token(said.get(role) or usual.get(role))
        if token in ids:
            roles[role] = token
        elif role in ("cls_token", "sep_token", "pad_token") and said.get(role):
            raise KftError(
                f"{name}: tokenizer_config.json: `{role}` is {token}, which the vocabulary has not",
                files.ANOTHER_HINT,
            )
    return roles


def _added_tokens(name: str, folder: Path, definition: Definition, said: dict) -> list[dict[str, Any]]:
    """The added tokens of all the files that may list some; transformers takes them together."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    older = files.read_json_or_empty(name, folder / "added_tokens.json")
    added = {
        i: plain | {"id": i, "content": token, "special": False, "normalized": True}
        for token, i in older.items()
    }
    for i, entry in (said.get("added_tokens_decoder") or {}).items():
        added[int(i)] = plain | {
            key: value for key, value in entry.items() if key in plain or key == "content"
        }
        added[int(i)]["id"] = int(i)
    for entry in definition.get("added_tokens") or []:
        added[entry["id"]] = plain | entry
    vocabulary = definition["model"]["vocab"]
    if isinstance(vocabulary, dict):
        # A special token of its roles is an added one even where no file lists it.
        usual = BERT_TOKENS if definitions.kind_of(definition) == "wordpiece" else ROBERTA_TOKENS
        known = {entry["content"] for entry in added.values()}
        for token in (_token(said.get(role)) or token for role, token in usual.items()):
            if token not in known and token in vocabulary:
                added[vocabulary[token]] = plain | {"id": vocabulary[token], "content": token}
    return [added[i] for i in sorted(added)]


def _token(entry: Any) -> str | None:
    """A token as a role names it: by itself, or with its settings."""
    return entry.get("content") if isinstance(entry, dict) else entry
