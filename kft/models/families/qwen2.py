"""Qwen 2 and 2.5 (Yang et al. 2024): a Llama whose queries, keys and values have biases."""

from dataclasses import replace
from typing import Any

from kft.models.families import decoders, ggml, llama
from kft.models.families.record import Sizes
from kft.models.families.settings import Settings


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`; no config names the biases."""
    return decoders.sizes(settings, attention_bias=True, mlp_bias=False, **upper_windows(settings))


def upper_windows(settings: Settings) -> dict[str, Any]:
    """Layers from `max_window_layers` on see near tokens alone, where `use_sliding_window` is."""
    layers, first = settings.size("num_hidden_layers"), settings.size("max_window_layers", 0, 28)
    window = settings.get("sliding_window", 4096) if settings.flag("use_sliding_window") else None
    kinds = [decoders.FULL if window is None or i < first else decoders.SLIDING for i in range(layers)]
    return decoders.windows(settings, kinds, window)


QWEN2 = replace(
    llama.family("qwen2", "Qwen2", decoders.Names(), output_bias=False),
    sizes=sizes,
    to_config=decoders.to_config_of_windows,
    gguf=ggml.plain("qwen2"),
)
