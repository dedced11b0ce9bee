"""Gemma 2 (Rivière et al. 2024): norms on both sides, alternating windows, capped scores."""

from dataclasses import replace
from functools import partial
from typing import Any

from kft.models.families import decoders, gemma, llama
from kft.models.families.record import Sizes
from kft.models.families.settings import Settings

NAMES = decoders.Names(
    before=("input_layernorm", "pre_feedforward_layernorm"),
    after=("post_attention_layernorm", "post_feedforward_layernorm"),
    kind="offset",
)
KEYS = decoders.KEYS | {"activation": "hidden_activation"}
encoding = partial(decoders.encoding, activation="gelu_pytorch_tanh", keys=KEYS)
to_config = partial(decoders.to_config, keys=KEYS)


def sizes(settings: Settings) -> Sizes:
    """See `Family.sizes`."""
    layers = settings.size("num_hidden_layers")
    kinds = [decoders.FULL if i % 2 else decoders.SLIDING for i in range(layers)]
    window = settings.get("sliding_window", 4096)
    return decoders.sizes(
        settings, tied=True, **scales(settings, 50.0, 30.0), **decoders.windows(settings, kinds, window)
    )


def scales(settings: Settings, score_cap: float | None, logit_cap: float | None) -> dict[str, Any]:
    """What scores are divided by and below what they stay; the caps of a config that names none."""
    return {
        "head_dim": settings.size("head_dim", default=gemma.HEAD_SIZE),
        "query_pre_attn_scalar": settings.number("query_pre_attn_scalar", 256),
        "attn_logit_softcapping": settings.number("attn_logit_softcapping", score_cap),
        "final_logit_softcapping": settings.number("final_logit_softcapping", logit_cap),
    }


GEMMA2 = replace(
    llama.family("gemma2", "Gemma2", NAMES, embed=gemma.embed),
    sizes=sizes,
    encoding=encoding,
    to_config=to_config,
)
