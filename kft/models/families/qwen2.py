"""Qwen 2 and 2.5 (Yang et al. 2024): a Llama whose queries, keys and values have biases."""

from typing import Any

from kft.models.families import decoders, encoders, ggml
from kft.models.families.parts import held_parts
from kft.models.families.record import DECODER, Encoding, Family, Sizes
from kft.models.families.settings import Settings

NAMES = decoders.Names()


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`; no config names the biases."""
    return decoders.sizes(settings, attention_bias=True, mlp_bias=False, **upper_windows(settings))


def upper_windows(settings: Settings) -> dict[str, Any]:
    """Layers from `max_window_layers` on see near tokens alone, where `use_sliding_window` is."""
    layers, first = settings.size("num_hidden_layers"), settings.size("max_window_layers", 0, 28)
    window = settings.get("sliding_window", 4096) if settings.flag("use_sliding_window") else None
    kinds = [decoders.FULL if window is None or i < first else decoders.SLIDING for i in range(layers)]
    return decoders.windows(settings, kinds, window)


def to_config(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    """See `Family.to_config`."""
    slides = {"use_sliding_window": sizes.more["sliding_window"] is not None}
    return decoders.to_config(sizes, encoding) | slides


QWEN2 = Family(
    name="qwen2",
    shape=DECODER,
    prefix="model.",
    architecture="Qwen2Model",
    hub=None,
    heads=decoders.heads("Qwen2"),
    template=decoders.TEMPLATE,
    sizes=sizes,
    encoding=decoders.encoding,
    to_config=to_config,
    weights=decoders.weights(NAMES, output_bias=False),
    parts=held_parts,
    depth=decoders.depth,
    adapters=decoders.ADAPTERS,
    run=encoders.encoder(decoders.embed, decoders.layer(NAMES), decoders.sight, decoders.finish(NAMES)),
    gguf=ggml.plain("qwen2"),
)
