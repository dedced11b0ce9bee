"""GGUF files of llama.cpp: decoders with their tokenizer, dequantised, by the package `gguf`."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kft.errors import KftError
from kft.models.families import FAMILIES, NEXT_TOKEN, Family, Sizes, Weight
from kft.models.families.settings import Settings, unsupported
from kft.models.presets import files, gguf_tokenizer
from kft.models.presets.record import Preset

log = logging.getLogger(__name__)
_PLAIN = ("F32", "F16", "BF16", "F64")  # types of numbers that are not quantised
# Llama 3.1 to 3.3: the file has the divisors of the rates that these settings give.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_DIVISORS = "rope_freqs.weight"


def read(name: str, path: Path) -> Preset:
    """The preset that a GGUF file is.

    Raises:
        KftError: the package is not installed, the file is damaged, or of no family that kft reads.
    """
    opened = _open(name, path)
    family, config = opened.family, opened.config
    settings = Settings(name, config)
    sizes, encoding = family.sizes(settings), family.encoding(settings)
    _check(opened, sizes)
    quantised = sorted({tensor.tensor_type.name for tensor in opened.tensors.values()} - set(_PLAIN))
    note = f"weights dequantised from {', '.join(quantised)}" if quantised else None
    if note:
        log.warning("%s: %s", name, note)
    return Preset(
        name=name,
        kind="gguf",
        path=path,
        tokenizer=gguf_tokenizer.read(name, opened.metadata, sizes.vocabulary_size),
        family=family,
        sizes=sizes,
        encoding=encoding,
        classifier_dropout=None,
        head=None,
        note=note,
        chat_template=opened.metadata("tokenizer.chat_template"),
    )


def encoder_weights(preset: Preset) -> dict[str, np.ndarray]:
    """See `presets.encoder_weights`."""
    opened = _open(preset.name, preset.path)
    arrays = {name: opened.array(name, w) for name, w in preset.family.weights(preset.sizes).items()}
    return preset.family.fold(arrays, preset.sizes)


def head_weights(preset: Preset, kind: str) -> dict[str, np.ndarray]:
    """See `presets.head_weights`; a GGUF file has a head for the next token alone."""
    if kind != NEXT_TOKEN:
        return {}
    opened = _open(preset.name, preset.path)
    table = preset.family.head_weights(kind, preset.sizes, preset.sizes.vocabulary_size)
    return {name: opened.array(name, weight) for name, weight in table.items() if opened.tensor(name)}


@dataclass(frozen=True)
class _Opened:
    """An open file: its tensors by their names, and a function metadata key → value or None."""

    name: str
    metadata: Callable[[str], Any]
    tensors: dict[str, Any]

    @cached_property
    def family(self) -> Family:
        kind = self.metadata("general.architecture")
        known = {family.gguf.architecture: family for family in FAMILIES.values() if family.gguf}
        if kind not in known:
            raise unsupported(self.name, f"is a GGUF file of a {kind}, kft reads {', '.join(known)}")
        return known[kind]

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json would say."""
        gguf = self.family.gguf
        values = {key: self.metadata(f"{gguf.architecture}.{ours}") for ours, key in gguf.keys.items()}
        config = {key: value for key, value in values.items() if value is not None}
        table = self.tensors.get("token_embd.weight")
        if table is None:
            config["vocab_size"] = len(self.metadata("tokenizer.ggml.tokens") or ())
        else:
            config["vocab_size"] = int(table.shape[1])
        config["tie_word_embeddings"] = "output.weight" not in self.tensors
        scaling = self._scaling(f"{gguf.architecture}.rope.scaling")
        return config | ({"rope_scaling": scaling} if scaling else {})

    def _scaling(self, key: str) -> dict[str, Any] | None:
        if _DIVISORS in self.tensors:
            divisors = self.tensors[_DIVISORS].data.astype(np.float32).ravel()
            return {"rope_type": "llama3", "factor": float(np.rint(divisors.max())), **_LLAMA3}
        kind = self.metadata(f"{key}.type")
        if kind in (None, "none"):
            return None
        original = self.metadata(f"{key}.original_context_length")
        known = {"original_max_position_embeddings": original} if original else {}
        return {"rope_type": kind, "factor": self.metadata(f"{key}.factor"), **known}

    def tensor(self, name: str) -> Any:
        """The tensor of a weight by the checkpoint's name, or None."""
        stem, _, last = name.rpartition(".")
        layer = re.search(r"\.(\d+)\.", name)
        number = layer[1] if layer else ""
        theirs = self._names.get(stem.replace(f".{number}.", ".{i}.", 1) if layer else stem)
        return None if theirs is None else self.tensors.get(f"{theirs.format(i=number)}.{last}")

    @cached_property
    def _names(self) -> dict[str, str]:
        """Name in the checkpoint → name in the file, both with "{i}" for a layer's number."""
        return {ours: theirs for theirs, ours in self.family.gguf.names.items()}

    def array(self, name: str, weight: Weight) -> np.ndarray:
        """A weight as float32, a kernel as [inputs, outputs]."""
        import gguf

        tensor = self.tensor(name)
        array = np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
        heads = self.family.gguf.interleaved.get(name.split(".")[-2])
        if heads is not None:
            count = self.config.get(heads, self.config.get("num_attention_heads"))
            array = _halves(array, count)
        return np.ascontiguousarray(array.T if weight.kind == "kernel" else array)


def _halves(array: np.ndarray, heads: int) -> np.ndarray:
    """Outputs [A · D, …] that are turned half by half, of those turned in neighbouring pairs."""
    pairs = array.reshape(heads, -1, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def _open(name: str, path: Path) -> _Opened:
    try:
        import gguf
    except ImportError:
        raise KftError(
            f"{name}: reading GGUF files needs the package gguf", "pip install 'kft[gguf]'"
        ) from None
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise files.damaged(name, f"is no whole GGUF file: {error}") from None

    def metadata(key: str) -> Any:
        field = reader.get_field(key)
        value = None if field is None else field.contents()
        # float32 in the file: 1e-5 is 1e-5, not 9.99999974e-06.
        return float(str(np.float32(value))) if isinstance(value, float) else value

    return _Opened(name, metadata, {tensor.name: tensor for tensor in reader.tensors})


def _check(opened: _Opened, sizes: Sizes) -> None:
    """Raises KftError: a tensor is missing, its shape is another, or its positions are unknown."""
    for name, weight in opened.family.weights(sizes).items():
        tensor = opened.tensor(name)
        if tensor is None:
            raise files.damaged(opened.name, f"holds no {name}")
        shape = tuple(int(size) for size in tensor.shape)[::-1]  # the file names the innermost first
        expected = weight.shape[::-1] if weight.kind == "kernel" else weight.shape
        if shape != expected:
            raise files.damaged(
                opened.name, f"{tensor.name} is {list(shape)}, its metadata say {list(expected)}"
            )
    if _DIVISORS in opened.tensors:
        _check_divisors(opened, sizes)


def _check_divisors(opened: _Opened, sizes: Sizes) -> None:
    from kft.models.families.decoders import rates

    rope = sizes.more["rope_parameters"]
    plain = rates({"rope_type": "default", "rope_theta": rope["rope_theta"]}, sizes.more["head_dim"])
    divisors = opened.tensors[_DIVISORS].data.astype(np.float32).ravel()
    expected = plain / rates(rope, sizes.more["head_dim"])
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-4):
        raise unsupported(opened.name, f"{_DIVISORS} are not those of Llama 3.1 to 3.3")
