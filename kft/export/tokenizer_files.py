"""A run's tokenizer as the files that transformers and Hugging Face's tokenizers read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from kft.errors import KftError
from kft.export.proof import FAULT_HINT, Reference
from kft.export.source import Source
from kft.text import rules_of, vocabulary_lines


def write(source: Source, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, and vocab.txt of BERT's own tokenizer."""
    tokenizer, rules = source.tokenizer, rules_of(source.tokenizer)
    definition = json.loads(tokenizer.content) | {
        "truncation": {
            "direction": "Right",
            "max_length": source.max_length,
            "strategy": "LongestFirst",
            "stride": 0,
        }
    }
    (folder / "tokenizer.json").write_text(json.dumps(definition, ensure_ascii=False) + "\n", "utf-8")
    said: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}  # does what tokenizer.json says
    if rules is not None:
        (folder / "vocab.txt").write_bytes(vocabulary_lines(rules.vocabulary))
        said = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": rules.lowercase,
            "strip_accents": rules.strip_accents,
            "tokenize_chinese_chars": rules.tokenize_chinese_chars,
        }
    segments = ["token_type_ids"] if source.architecture.kind.template.segments else []
    said |= {
        "model_input_names": ["input_ids", *segments, "attention_mask"],
        "model_max_length": source.max_length,
        **tokenizer.special_tokens,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(said, indent=2) + "\n", "utf-8")


def check(source: Source, expected: Reference, folder: Path) -> None:
    """Raises KftError: tokenizer.json gives other token ids than the run."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for i, row in enumerate(expected.frame.iter_rows()):
        begin, end = expected.tokens.offsets[i : i + 2]
        if not np.array_equal(tokenizer.encode(*row).ids, expected.tokens.ids[begin:end]):
            raise KftError(f"tokenizer.json splits {row[0][:60]!r} otherwise than the run", FAULT_HINT)
