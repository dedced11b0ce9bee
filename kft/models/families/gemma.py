"""Gemma (Mesnard et al. 2024): a Llama with scaled vectors of tokens and norms that add 1."""

from dataclasses import replace
from typing import Any

from kft.models.families import decoders, llama
from kft.models.families.record import Encoding, Sizes
from kft.models.families.settings import Settings

HEAD_SIZE = 256  # of a config that does not name it


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`."""
    return decoders.sizes(settings, tied=True, head_dim=settings.size("head_dim", default=HEAD_SIZE))


def encoding(settings: Settings) -> Encoding:
    """See `Family.encoding`; the first configs say "gelu" and mean its tanh approximation."""
    result = decoders.encoding(settings, "gelu_pytorch_tanh")
    exact = settings.get("hidden_act") == "gelu"
    return replace(result, activation="gelu_tanh") if exact else result


def embed(blocks: Any, inputs: dict[str, Any]) -> Any:
    """The vectors of tokens, as long as the norms expect them."""
    return blocks.scale(decoders.embed(blocks, inputs), blocks.sizes.hidden_size**0.5)


GEMMA = replace(
    llama.family("gemma", "Gemma", decoders.Names(kind="offset"), embed=embed),
    sizes=sizes,
    encoding=encoding,
)
