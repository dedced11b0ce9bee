"""Folders of peft's `save_pretrained`: low-rank adapters and whole weights on a checkpoint."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kft.errors import KftError
from kft.models.families import SEQUENCE, Family, Head, Sizes, numbered_labels
from kft.models.low_rank import Factors, merge
from kft.models.presets import files
from kft.models.presets.record import Preset
from kft.tasks.problems import ONE_CLASS, VALUE

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of every name in a file of peft's
FACTORS = {"lora_A.weight": "a", "lora_B.weight": "b", "lora_magnitude_vector": "magnitude"}
# Settings under which the adapters mean something else than `low_rank.merge` does.
_OTHER = (
    "fan_in_fan_out", "lora_bias", "layer_replication", "use_qalora", "use_bdlora", "arrow_config",
    "alora_invocation_tokens", "trainable_token_indices", "target_parameters",
)  # fmt: skip
# Ways to start the adapters that change the base's own weights, too.
_CHANGE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).exists() and not (folder / "model.safetensors").exists()


def read(name: str, folder: Path, base: str | None, locate: Callable[[str], Preset]) -> Preset:
    """The preset that a base and the adapters in a folder make together.

    Args:
        name: as the user gave it.
        folder: peft's.
        base: the base's folder or handle; None takes the one that adapter_config.json names.
        locate: name → preset.

    Raises:
        KftError: there is no such base, the adapters are of a kind that kft cannot merge, or they
        do not fit it.
    """
    config = _config(name, folder)
    preset = locate(base or _base_of(name, folder, config))
    if preset.kind != "huggingface":
        raise KftError(
            f"{name}: its base {preset.name} is no Hugging Face checkpoint",
            "give the checkpoint that it was trained on: --set model.adapter_base=FOLDER",
        )
    changes = _changes(name, folder, preset.family, preset.sizes)
    return replace(preset, name=name, adapter=folder, head=_head(folder, preset, changes.replaced))


def encoder_weights(preset: Preset, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The base's weights with the adapters merged into them, in float32."""
    changes = _changes(preset.name, preset.adapter, preset.family, preset.sizes)
    arrays = arrays | {name: array for name, array in changes.replaced.items() if name in arrays}
    scale = _scales(_config(preset.name, preset.adapter))
    for dense, factors in changes.adapters.items():
        kernel = f"{dense}.weight"
        arrays[kernel] = merge(arrays[kernel], factors, scale(dense, factors.a.shape[1]))
    return arrays


def head_weights(preset: Preset, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The base's head with those weights in place that the folder holds whole."""
    changes = _changes(preset.name, preset.adapter, preset.family, preset.sizes)
    own = _head_names(preset.family)
    return arrays | {name: array for name, array in changes.replaced.items() if name in own}


def _config(name: str, folder: Path) -> dict[str, Any]:
    config = files.read_json(name, folder / CONFIG)
    kind = config.get("peft_type")
    other = [key for key in _OTHER if config.get(key)]
    start = config.get("init_lora_weights")
    if kind != "LORA":
        raise KftError(f"{name}: is an adapter of type {kind!r}, kft reads LORA", files.ANOTHER_HINT)
    if other or config.get("bias", "none") != "none":
        key = other[0] if other else "bias"
        raise KftError(f"{name}: {CONFIG}: `{key}` = {config[key]!r} is not supported", _MERGE_HINT)
    if isinstance(start, str) and start.startswith(_CHANGE_BASE):
        raise KftError(
            f"{name}: {CONFIG}: `init_lora_weights` = {start!r} changes the base's own weights", _MERGE_HINT
        )
    return config


_MERGE_HINT = (
    "merge it once with peft: PeftModel.from_pretrained(BASE, FOLDER).merge_and_unload().save_pretrained(NEW)"
)


def _base_of(name: str, folder: Path, config: dict[str, Any]) -> str:
    base = config.get("base_model_name_or_path") or ""
    for path in (folder / base, Path(base).expanduser()):
        if base and path.is_dir():
            return str(path)
    if re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", base):
        return f"hf://{base}"
    raise KftError(
        f"{name}: its base {base!r} is no folder here", "give it with --set model.adapter_base=FOLDER"
    )


def _scales(config: dict[str, Any]) -> Callable[[str, int], float]:
    """(dense layer, rank) → what its product is scaled by; patterns are peft's own."""

    def scale(dense: str, rank: int) -> float:
        patterns = config.get("alpha_pattern") or {}
        own = (v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", dense))
        alpha = next(own, config.get("lora_alpha", 8))
        return alpha / (rank**0.5 if config.get("use_rslora") else rank)

    return scale


@dataclass(frozen=True)
class _Changes:
    """What a folder's file says: adapters of dense layers, and weights in place of the base's.

    Names are without the encoder's prefix; kernels are [inputs, outputs].
    """

    adapters: dict[str, Factors]
    replaced: dict[str, np.ndarray]


def _changes(name: str, folder: Path, family: Family, sizes: Sizes) -> _Changes:
    """Raises KftError: the file is missing or damaged, or holds what has no place in the family."""
    table = family.weights(sizes)
    parts: dict[str, dict[str, np.ndarray]] = {}
    replaced = {}
    with files.open_safetensors(name, folder / WEIGHTS) as opened:
        for key in opened.keys():  # noqa: SIM118
            own = key.removeprefix(PREFIX).removeprefix(family.prefix)
            array = opened.get_tensor(key).astype(np.float32)
            dense, part = next(
                ((own.removesuffix(f".{s}"), p) for s, p in FACTORS.items() if own.endswith(s)), ("", "")
            )
            if part and f"{dense}.weight" in table:
                parts.setdefault(dense, {})[part] = array.T
            elif own in table or own in _head_names(family):
                replaced[own] = array.T
            else:
                raise KftError(f"{name}: {WEIGHTS} holds {key}, which kft cannot place", _MERGE_HINT)
    adapters = {}
    for dense, factors in parts.items():
        shapes = {part: array.shape for part, array in factors.items()}
        inputs, outputs = table[f"{dense}.weight"].shape
        rank = shapes.get("a", (0, 0))[-1]
        if shapes != {"a": (inputs, rank), "b": (rank, outputs)} | (
            {"magnitude": (outputs,)} if "magnitude" in shapes else {}
        ):
            raise files.damaged(
                name, f"{WEIGHTS}: the adapter of {dense} has the shapes {shapes}, not those of its base"
            )
        adapters[dense] = Factors(**factors)
    return _Changes(adapters, replaced)


def _head_names(family: Family) -> set[str]:
    layers = {name for head in family.heads.values() for name in head.layers}
    return {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def _head(folder: Path, preset: Preset, replaced: dict[str, np.ndarray]) -> Head | None:
    """The folder's head, else the base's; labels have names where kft or the base has them."""
    kind = preset.head.kind if preset.head else SEQUENCE
    kernel = replaced.get(f"{preset.family.heads[kind].output}.weight")
    if kernel is None:
        return preset.head
    count = kernel.shape[-1]
    given = files.read_json_or_empty(preset.name, folder / "export.json").get("labels") or []
    if not given and preset.head and len(preset.head.labels) == count:
        return preset.head
    labels = tuple(given) if len(given) == count else numbered_labels(count)
    return Head(labels, labels == tuple(given), VALUE if count == 1 else ONE_CLASS)
