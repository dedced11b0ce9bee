"""Mistral (Jiang et al. 2023): a Llama all of whose layers may see near tokens alone."""

from dataclasses import replace

from kft.models.families import decoders, llama
from kft.models.families.record import Sizes
from kft.models.families.settings import Settings

WINDOW = 4096  # of a config that does not name one; `null` is none


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`."""
    layers, window = settings.size("num_hidden_layers"), settings.get("sliding_window", WINDOW)
    kinds = [decoders.FULL if window is None else decoders.SLIDING] * layers
    more = decoders.windows(settings, kinds, window)
    return decoders.sizes(settings, **more)


MISTRAL = replace(llama.family("mistral", "Mistral", decoders.Names()), sizes=sizes)
