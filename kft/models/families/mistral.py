"""Mistral (Jiang et al. 2023): a Llama all of whose layers may see near tokens alone."""

from kft.models.families import decoders, encoders
from kft.models.families.parts import held_parts
from kft.models.families.record import DECODER, Family, Sizes
from kft.models.families.settings import Settings

NAMES = decoders.Names()
WINDOW = 4096  # of a config that does not name one; `null` is none


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`."""
    layers, window = settings.size("num_hidden_layers"), settings.get("sliding_window", WINDOW)
    kinds = [decoders.FULL if window is None else decoders.SLIDING] * layers
    more = decoders.windows(settings, kinds, window)
    return decoders.sizes(settings, **more)


MISTRAL = Family(
    name="mistral",
    shape=DECODER,
    prefix="model.",
    architecture="MistralModel",
    hub=None,
    heads=decoders.heads("Mistral"),
    template=decoders.TEMPLATE,
    sizes=sizes,
    encoding=decoders.encoding,
    to_config=decoders.to_config,
    weights=decoders.weights(NAMES),
    parts=held_parts,
    depth=decoders.depth,
    adapters=decoders.ADAPTERS,
    run=encoders.encoder(decoders.embed, decoders.layer(NAMES), decoders.sight, decoders.finish(NAMES)),
)
