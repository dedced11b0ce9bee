"""Qwen 3 (Yang et al. 2025): a Llama whose queries and keys are normalised head by head."""

from dataclasses import replace

from kft.models.families import decoders, ggml, llama
from kft.models.families.qwen2 import upper_windows
from kft.models.families.record import Sizes
from kft.models.families.settings import Settings

HEAD_SIZE = 128  # of a config that does not name it


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`."""
    size = settings.size("head_dim", default=HEAD_SIZE)
    return decoders.sizes(settings, head_dim=size, **upper_windows(settings))


QWEN3 = replace(
    llama.family("qwen3", "Qwen3", decoders.Names(head_norms=True)),
    sizes=sizes,
    to_config=decoders.to_config_of_windows,
    gguf=ggml.plain("qwen3"),
)
