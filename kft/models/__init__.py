"""Preset, handle or folder → encoder and head; save it in a run, load it from one.

The names below are looked up when they are used: a preset's files are read without Keras.
"""

import importlib
from typing import Any

_PLACES = {
    "Architecture": "architecture",
    "Classifier": "classifier",
    "Goal": "building",
    "LanguageModel": "language_model",
    "Lora": "low_rank",
    "Start": "building",
    "model_fields": "architecture",
    "build": "building",
    "build_language_model": "language_model",
    "head_kind": "architecture",
    "keeps_head": "building",
    "load": "saving",
    "load_weights": "saving",
    "parameter_counts": "saving",
    "read_architecture": "architecture",
    "save": "saving",
    "save_adapters": "saving",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
