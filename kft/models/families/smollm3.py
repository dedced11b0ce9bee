"""SmolLM3 (Bakouch et al. 2025): a Llama some of whose layers know no positions."""

from typing import Any

from kft.models.families import decoders, encoders
from kft.models.families.parts import held_parts
from kft.models.families.record import DECODER, Encoding, Family, Sizes
from kft.models.families.settings import Settings, damaged

NAMES = decoders.Names()
BASE = 2_000_000.0  # of the rotary angles of a config that names none


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`; `no_rope_layers` says 1 of layers that know positions."""
    layers, every = settings.size("num_hidden_layers"), settings.size("no_rope_layer_interval", default=4)
    turned = settings.get("no_rope_layers") or [int((i + 1) % every != 0) for i in range(layers)]
    if len(turned) != layers or not set(turned) <= {0, 1}:
        raise damaged(settings.name, "config.json: `no_rope_layers` must be 0 or 1 for each layer")
    window = settings.get("sliding_window") if settings.flag("use_sliding_window") else None
    kinds = [decoders.FULL if window is None or knows else decoders.SLIDING for knows in turned]
    return decoders.sizes(
        settings,
        tied=True,
        rope_parameters=decoders.rope(settings, BASE),
        no_rope_layers=turned,
        **decoders.windows(settings, kinds, window),
    )


def to_config(sizes: Sizes, encoding: Encoding) -> dict[str, Any]:
    """See `Family.to_config`."""
    slides = {"use_sliding_window": sizes.more["sliding_window"] is not None}
    return decoders.to_config(sizes, encoding) | slides


SMOLLM3 = Family(
    name="smollm3",
    shape=DECODER,
    prefix="model.",
    architecture="SmolLM3Model",
    hub=None,
    heads=decoders.heads("SmolLM3"),
    template=decoders.TEMPLATE,
    sizes=sizes,
    encoding=decoders.encoding,
    to_config=to_config,
    weights=decoders.weights(NAMES),
    parts=held_parts,
    depth=decoders.depth,
    adapters=decoders.ADAPTERS,
    run=encoders.encoder(decoders.embed, decoders.layer(NAMES), decoders.sight, decoders.finish(NAMES)),
)
