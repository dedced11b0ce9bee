"""Llama 2, 3, 3.1 and 3.2 (Touvron et al. 2023, Grattafiori et al. 2024), TinyLlama, SmolLM2."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kft.models.families import decoders, encoders, ggml
from kft.models.families.parts import held_parts
from kft.models.families.record import DECODER, Family


def family(
    name: str,
    transformers: str,
    names: decoders.Names,
    output_bias: bool = True,
    embed: Callable[..., Any] = decoders.embed,
) -> Family:
    """A decoder of Llama's kind; where it differs its own file replaces a field.

    Args:
        name: the `model_type` of its config.json.
        transformers: what the names of transformers' classes begin with.
        names: of its layers' norms.
        output_bias: see `decoders.weights`.
        embed: (blocks, inputs) → x [R, T, H].
    """
    return Family(
        name=name,
        shape=DECODER,
        prefix="model.",
        architecture=f"{transformers}Model",
        hub=None,
        heads=decoders.heads(transformers),
        template=decoders.TEMPLATE,
        sizes=decoders.sizes,
        encoding=decoders.encoding,
        to_config=decoders.to_config,
        weights=decoders.weights(names, output_bias),
        parts=held_parts,
        depth=decoders.depth,
        adapters=decoders.ADAPTERS,
        run=encoders.encoder(embed, decoders.layer(names), decoders.sight, decoders.finish(names)),
    )


LLAMA = replace(family("llama", "Llama", decoders.Names()), gguf=ggml.interleaved("llama"))
