"""A run with low-rank adapters → a folder that peft loads onto their base."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from kft import evaluate, models
from kft.errors import KftError
from kft.export import proof, tokenizer_files
from kft.export.source import Source
from kft.models import low_rank, presets
from kft.models.presets.peft_folder import CONFIG, FACTORS, PREFIX, WEIGHTS


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Writes adapter_config.json, adapter_model.safetensors and the tokenizer's files.

    Raises:
        KftError: the run has no adapters, or their base is no Hugging Face checkpoint.
    """
    run = source.loaded.run
    if not run.adapters.exists():
        raise KftError(
            f"{run.path}: has no low-rank adapters",
            "train with --set model.lora_rank=8; `--to hf` exports a whole model",
        )
    lora, adapters = low_rank.load(run.adapters)
    base = _base(source)
    content = json.dumps(_config(source, lora, list(adapters), base), indent=2) + "\n"
    (folder / CONFIG).write_text(content, "utf-8")
    # Not `save_file`, whose files only their owner may read: a server often runs as somebody else.
    (folder / WEIGHTS).write_bytes(save(_tensors(source, adapters), metadata={"format": "pt"}))
    tokenizer_files.write(source, folder)
    return {}


def prove(source: Source, folder: Path) -> dict[str, Any]:
    """Proves a folder: kft, and peft if installed, read it back on its base with the run's answers.

    Raises:
        KftError: they answer otherwise.
    """
    expected = proof.reference(source)
    preset = presets.locate(str(folder))
    labels = preset.head.labels if source.labels else ()  # in the run's order, whatever their names are
    goal = models.Goal(source.architecture.task, source.architecture.outputs, labels)
    model = models.build(preset, goal)
    with proof.full_precision():
        logits = evaluate.predict_logits(model, expected.tokens)
    result = _compare(source, expected, logits, "kft reading the folder")
    base = f"loads onto {preset.path}, which must be there"
    if not all(importlib.util.find_spec(name) for name in ("peft", "transformers", "torch")):
        note = "compared by kft alone, and not timed: peft, transformers or torch is not installed"
        return {"comparison": result | {"read_by": ["kft"]}, "notes": [base, note]}
    request = proof.texts_of(source, expected) | {
        "base": str(preset.path),
        "outputs": source.architecture.outputs,
    }
    answers = proof.in_fresh_process("on_peft.py", folder, request)
    result = _compare(source, expected, np.array(answers["logits"]), "peft")
    return {
        "comparison": result | {"read_by": ["kft", "peft"]},
        "benchmark": answers["benchmark"],
        "notes": [base],
    }


def _base(source: Source) -> str:
    """What adapter_config.json calls the base: a name on the Hugging Face Hub, or a folder."""
    settings = source.loaded.config.model
    if settings.from_run is not None:
        raise KftError(
            f"{source.loaded.run.path}: its adapters stand on another run, which peft cannot load",
            "`--to hf` exports a whole model",
        )
    preset = presets.locate(settings.preset, adapter_base=settings.adapter_base)
    if preset.kind != "huggingface" or preset.adapter is not None:
        raise KftError(
            f"{preset.name}: is no Hugging Face checkpoint, which peft needs as a base",
            "`--to hf` exports a whole model",
        )
    return settings.preset.removeprefix("hf://") if settings.preset.startswith("hf://") else str(preset.path)


def _config(source: Source, lora: low_rank.Lora, dense: list[str], base: str) -> dict[str, Any]:
    """The content of adapter_config.json; what it leaves out is as peft takes it by itself."""
    architecture = source.architecture
    layers = architecture.head
    whole = dict.fromkeys(name.split(".")[0] for name in layers.layers)
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rank_stabilised,
        "use_dora": lora.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "target_modules": [architecture.kind.prefix + name for name in dense],
        "modules_to_save": list(whole),
    }


def _tensors(source: Source, adapters: dict[str, low_rank.Factors]) -> dict[str, np.ndarray]:
    architecture = source.architecture
    prefix, layers = PREFIX + architecture.kind.prefix, architecture.head
    tensors = {}
    for name, factors in adapters.items():
        for suffix, part in FACTORS.items():
            array = vars(factors)[part]
            if array is not None:
                tensors[f"{prefix}{name}.{suffix}"] = array.T
    kind = models.head_kind(architecture.task)
    table = architecture.kind.head_weights(kind, architecture.sizes, architecture.outputs)
    for name in table:
        tensors[(PREFIX if layers.owns(name) else prefix) + name] = source.weights[name].T
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _compare(source: Source, expected: proof.Reference, logits: np.ndarray, what: str) -> dict[str, Any]:
    result = proof.check(proof.compare_logits(source, expected, logits), what)
    return result | {"max_logit_difference": proof.logit_difference(source, expected, logits)}
