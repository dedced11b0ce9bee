"""Gemma 3 (Kamath et al. 2025), its texts: near layers turn faster, queries and keys normalised."""

from dataclasses import replace

from kft.models.families import decoders, gemma, gemma2, llama
from kft.models.families.record import Sizes
from kft.models.families.settings import Settings, unsupported

NAMES = replace(gemma2.NAMES, head_norms=True)
BASES = {decoders.FULL: 1_000_000.0, decoders.SLIDING: 10_000.0}  # of a config that names none


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`.

    Raises:
        KftError: scores are capped, which no published model has and transformers leaves out.
    """
    if settings.get("attn_logit_softcapping") is not None:
        raise unsupported(settings.name, "`attn_logit_softcapping` must be null")
    layers, every = settings.size("num_hidden_layers"), settings.size("sliding_window_pattern", default=6)
    kinds = [decoders.SLIDING if (i + 1) % every else decoders.FULL for i in range(layers)]
    return decoders.sizes(
        settings,
        tied=True,
        rope_parameters={kind: decoders.rope(settings, base, kind) for kind, base in BASES.items()},
        **gemma2.scales(settings, None, None),
        **decoders.windows(settings, kinds, settings.get("sliding_window", 4096)),
    )


GEMMA3 = replace(
    llama.family("gemma3_text", "Gemma3", NAMES, embed=gemma.embed),
    architecture="Gemma3TextModel",
    sizes=sizes,
    encoding=gemma2.encoding,
    to_config=gemma2.to_config,
)
