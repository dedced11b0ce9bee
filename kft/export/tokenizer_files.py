"""A run's tokenizer as the files that transformers and Hugging Face's tokenizers read."""

import json
from pathlib import Path

import numpy as np
import tokenizers

from kft import text as tokens
from kft.errors import KftError
from kft.export.proof import FAULT_HINT, Reference
from kft.export.source import Source
from kft.text.tokenizers.wordpiece import MAX_WORD_CHARACTERS, SPECIAL_TOKENS

_ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")  # in the order of SPECIAL_TOKENS


def write(source: Source, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and vocab.txt."""
    tokenizer = source.loaded.tokenizer
    tokens.save_vocabulary(source.vocabulary, folder / "vocab.txt")
    _whole(source).save(str(folder / "tokenizer.json"))
    told = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.tokenize_chinese_chars,
        "model_max_length": source.max_length,
        **dict(zip(_ROLES, SPECIAL_TOKENS, strict=True)),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def check(source: Source, expected: Reference, folder: Path) -> None:
    """Raises KftError: tokenizer.json gives other token ids than the run."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for i, row in enumerate(expected.frame.iter_rows()):
        begin, end = expected.rows.offsets[i : i + 2]
        if not np.array_equal(tokenizer.encode(*row).ids, expected.rows.ids[begin:end]):
            raise KftError(f"tokenizer.json splits {row[0][:60]!r} otherwise than the run", FAULT_HINT)


def _whole(source: Source) -> tokenizers.Tokenizer:
    ours = source.loaded.tokenizer
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {token: i for i, token in enumerate(source.vocabulary)},
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_WORD_CHARACTERS,
        )
    )
    made.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=ours.tokenize_chinese_chars,
        strip_accents=ours.strip_accents,
        lowercase=ours.lowercase,
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    made.add_special_tokens(
        [tokenizers.AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ours.ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    made.enable_truncation(source.max_length, strategy="longest_first")
    return made
