"""A run → a KerasHub preset folder, which KerasHub's own classifier loads.

KerasHub's BERT always uses the tanh approximation of GELU, and its tokenizer treats a few
characters otherwise than BERT's. Both are measured and reported; neither is hidden.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kft import backend
from kft.errors import KftError
from kft.export import proof
from kft.export.source import Source
from kft.text import Tokenizer, rules_of

# Of a probability, or of a score's standard deviation: what the tanh approximation may change at
# most.
APPROXIMATION_TOLERANCE = 0.02


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Writes the preset."""
    _make(source).save_to_preset(str(folder))
    return {}


def prove(source: Source, folder: Path) -> dict[str, Any]:
    """Measures a preset on the run's tokens and on raw texts, in a fresh process.

    Raises:
        KftError: on the run's tokens it answers otherwise than the run, or further off than the
        approximation explains.
    """
    expected = proof.reference(source)
    answers = proof.in_fresh_process("on_keras_hub.py", folder, _request(source, expected))
    by_tokens, by_texts = (
        proof.compare_logits(source, expected, answers[name]) for name in ("of_tokens", "of_texts")
    )
    if not _is_exact(source):
        by_tokens["tolerance"] = APPROXIMATION_TOLERANCE * max(1.0, source.architecture.score_scale)
        by_tokens["labels_changed_by_approximation"] = by_tokens.pop("labels_that_differ", 0)
    by_tokens["exact"] = _is_exact(source)
    proof.check(by_tokens, "the preset")
    return {
        "comparison": by_tokens,
        "comparison_of_raw_texts": by_texts,
        "benchmark": answers["benchmark"],
        "notes": _notes(source, by_tokens, by_texts),
    }


def _notes(source: Source, by_tokens: dict[str, Any], by_texts: dict[str, Any]) -> list[str]:
    notes = []
    if not by_tokens["exact"]:
        changed = by_tokens["labels_changed_by_approximation"]
        notes.append(
            "keras       KerasHub's BERT approximates GELU, the run does not: answers differ by up to "
            f"{by_tokens['max_difference']:.1e}, {changed} of {by_tokens['examples']} labels change"
        )
    if by_texts["max_difference"] > by_tokens["tolerance"]:
        notes.append(
            f"tokenizer   KerasHub's splits some texts (odd spaces, full-width signs) otherwise: answers to raw texts of many "
            f"alphabets differ by up to {by_texts['max_difference']:.1e}, {by_texts.get('labels_that_differ', 0)} of "
            f"{by_texts['examples']} labels change"
        )
    return notes


def _is_exact(source: Source) -> bool:
    hub = source.architecture.kind.hub
    return source.architecture.encoding.activation == hub.activation


def _make(source: Source) -> Any:
    """The run's weights as KerasHub's own classifier, which gives logits or scores."""
    models, hub = backend.keras_hub().models, source.architecture.kind.hub
    arguments = _TOKENIZERS.get(source.tokenizer.kind, lambda tokenizer: None)(source.tokenizer)
    if hub is None or hub.classifier is None:
        raise KftError(
            f"KerasHub has no classifier of the family {source.architecture.family}",
            "--to hf and --to onnx hold it",
        )
    if arguments is None:
        raise KftError(
            f"the run's tokenizer has other rules than KerasHub's {hub.tokenizer}",
            "--to hf and --to onnx hold it",
        )
    tokenizer = getattr(models, hub.tokenizer)(**arguments)
    preprocessor = getattr(models, hub.preprocessor)(tokenizer, sequence_length=source.max_length)
    classifier = getattr(models, hub.classifier)(
        backbone=source.loaded.model.backbone,
        num_classes=source.architecture.outputs,
        preprocessor=preprocessor,
        dropout=source.architecture.head_dropout,
    )
    for name, attribute in hub.head.items():
        arrays = [source.weights[f"{name}.{part}"] for part in ("weight", "bias")]
        getattr(classifier, attribute).set_weights(arrays)
    return classifier


def _request(source: Source, expected: proof.Reference) -> dict[str, Any]:
    """The request to the program: the run's tokens, padded as the preset pads, and the texts."""
    names = ("token_ids", "segment_ids", "padding_mask")
    padded = (
        np.pad(array, [(0, 0), (0, source.max_length - array.shape[1])])
        for array in proof.padded(expected.tokens)
    )
    inputs = {name: array.tolist() for name, array in zip(names, padded, strict=True)}
    if not source.architecture.kind.segments:
        del inputs["segment_ids"]
    return {
        "classifier": source.architecture.kind.hub.classifier,
        "inputs": inputs,
        **proof.texts_of(source, expected),
    }


def _wordpiece(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """Arguments of KerasHub's tokenizer; None where that has not the rules."""
    rules = rules_of(tokenizer)
    return rules and {
        "vocabulary": list(rules.vocabulary),
        "lowercase": rules.lowercase,
        "strip_accents": rules.strip_accents,
        "split_on_cjk": rules.tokenize_chinese_chars,
    }


def _byte_bpe(tokenizer: Tokenizer) -> dict[str, Any]:
    merges = json.loads(tokenizer.content)["model"]["merges"]
    pairs = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return {"vocabulary": dict(tokenizer.vocabulary), "merges": pairs}


_TOKENIZERS = {"wordpiece": _wordpiece, "byte_bpe": _byte_bpe}
