"""The values of a preset's config.json, checked as they are read; errors name the preset."""

from dataclasses import dataclass
from typing import Any

from kft.errors import KftError

WHOLE_HINT = "copy the whole folder again"
ANOTHER_HINT = "take another preset with --set model.preset=NAME, such as bert_base_en_uncased"

# Hugging Face's names (transformers.activations.ACT2FN) → ours; the first of each is the one that
# kft writes.
ACTIVATIONS = {
    "gelu": "gelu_exact",
    "gelu_python": "gelu_exact",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def damaged(name: str, what: str) -> KftError:
    """The error of a folder that is not as it was saved."""
    return KftError(f"{name}: {what}", WHOLE_HINT)


def unsupported(name: str, what: str) -> KftError:
    """The error of a checkpoint that is whole and that kft cannot run."""
    return KftError(f"{name}: {what}", ANOTHER_HINT)


@dataclass(frozen=True)
class Settings:
    """The content of a config.json, and the preset's name for messages."""

    name: str
    content: dict[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        return self.content.get(key, default)

    def size(self, key: str, least: int = 1, default: int | None = None) -> int:
        """A whole number; `null` counts as nothing."""
        value = self.content.get(key)
        value = default if value is None else value
        if type(value) is not int or value < least:
            raise damaged(
                self.name, f"config.json: `{key}` must be a whole number from {least}, got: {value!r}"
            )
        return value

    def rate(self, key: str, default: float | None = None) -> float:
        """A dropout rate."""
        value = self.content.get(key, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise damaged(self.name, f"config.json: `{key}` must be from 0 to below 1, got: {value!r}")
        return float(value)

    def number(self, key: str, default: float | None = None) -> float | None:
        """A positive number, or None where there is none."""
        value = self.content.get(key, default)
        if value is not None and (type(value) not in (int, float) or not 0 < value < float("inf")):
            raise damaged(self.name, f"config.json: `{key}` must be a positive number, got: {value!r}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Yes or no; `null` counts as nothing."""
        value = self.content.get(key)
        value = default if value is None else value
        if type(value) is not bool:
            raise damaged(self.name, f"config.json: `{key}` must be true or false, got: {value!r}")
        return value

    def epsilon(self, key: str, default: float) -> float:
        """What is added to a variance."""
        value = self.content.get(key, default)
        if type(value) is not float or not 0 < value < 1e-2:
            raise damaged(self.name, f"config.json: `{key}` must be a small number, got: {value!r}")
        return value

    def activation(self, key: str, default: str) -> str:
        """The activation, by our name."""
        value = self.content.get(key, default)
        if value not in ACTIVATIONS:
            raise unsupported(
                self.name, f"activation {value!r} is not supported, kft knows {', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[value]


def written_activation(ours: str) -> str:
    """Hugging Face's name of one of our activations."""
    return next(theirs for theirs, known in ACTIVATIONS.items() if known == ours)
