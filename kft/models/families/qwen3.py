"""Qwen 3 (Yang et al. 2025): a Llama whose queries and keys are normalised head by head."""

from kft.models.families import decoders, encoders, ggml
from kft.models.families.parts import held_parts
from kft.models.families.qwen2 import to_config, upper_windows
from kft.models.families.record import DECODER, Family, Sizes
from kft.models.families.settings import Settings

NAMES = decoders.Names(head_norms=True)
HEAD_SIZE = 128  # of a config that does not name it


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`."""
    size = settings.size("head_dim", default=HEAD_SIZE)
    return decoders.sizes(settings, head_dim=size, **upper_windows(settings))


QWEN3 = Family(
    name="qwen3",
    shape=DECODER,
    prefix="model.",
    architecture="Qwen3Model",
    hub=None,
    heads=decoders.heads("Qwen3"),
    template=decoders.TEMPLATE,
    sizes=sizes,
    encoding=decoders.encoding,
    to_config=to_config,
    weights=decoders.weights(NAMES),
    parts=held_parts,
    depth=decoders.depth,
    adapters=decoders.ADAPTERS,
    run=encoders.encoder(decoders.embed, decoders.layer(NAMES), decoders.sight, decoders.finish(NAMES)),
    gguf=ggml.plain("qwen3"),
)
