"""Llama 2, 3, 3.1 and 3.2 (Touvron et al. 2023, Grattafiori et al. 2024), TinyLlama, SmolLM2."""

from kft.models.families import decoders, encoders, ggml
from kft.models.families.parts import held_parts
from kft.models.families.record import DECODER, Family

NAMES = decoders.Names()

LLAMA = Family(
    name="llama",
    shape=DECODER,
    prefix="model.",
    architecture="LlamaModel",
    hub=None,
    heads=decoders.heads("Llama"),
    template=decoders.TEMPLATE,
    sizes=decoders.sizes,
    encoding=decoders.encoding,
    to_config=decoders.to_config,
    weights=decoders.weights(NAMES),
    parts=held_parts,
    depth=decoders.depth,
    adapters=decoders.ADAPTERS,
    run=encoders.encoder(decoders.embed, decoders.layer(NAMES), decoders.sight, decoders.finish(NAMES)),
    gguf=ggml.interleaved("llama"),
)
