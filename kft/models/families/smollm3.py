"""SmolLM3 (Bakouch et al. 2025): a Llama some of whose layers know no positions."""

from dataclasses import replace

from kft.models.families import decoders, llama
from kft.models.families.record import Sizes
from kft.models.families.settings import Settings, damaged

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


SMOLLM3 = replace(
    llama.family("smollm3", "SmolLM3", decoders.Names()),
    sizes=sizes,
    to_config=decoders.to_config_of_windows,
)
