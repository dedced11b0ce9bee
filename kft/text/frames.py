"""The texts of a frame of examples → tokens, with those of its marked words."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from kft.errors import KftError
from kft.tasks.record import Inputs
from kft.text.rows import Tokens, encode, find_spans
from kft.text.templates import Template
from kft.text.tokenizers import Tokenizer
from kft.text.windows import windows

WHOLE = 2**30  # tokens: no text is longer


def encode_frame(
    tokenizer: Tokenizer,
    template: Template,
    frame: pl.DataFrame,
    inputs: Inputs,
    encode: Callable[..., Tokens] = encode,
) -> Tokens:
    """The tokens of a frame's examples.

    Args:
        tokenizer: from `load_tokenizer`.
        template: of the model.
        frame: text, text_pair and the columns of offsets; a missing text is an empty one.
        inputs: what is read of a row of the frame.
        encode: `encode` or `encode_cached`.
    """
    texts = frame["text"].fill_null("").to_list()
    pairs = frame["text_pair"].fill_null("").to_list() if inputs.paired else None
    spans = inputs.spans
    if inputs.stride is not None:
        parts = tokenizer.frame(template, inputs.paired)
        if inputs.stride >= inputs.max_length - parts.special:
            raise KftError(
                f"`model.stride` is {inputs.stride}, and a row has room for {inputs.max_length - parts.special} tokens",
                f"--set model.stride={max(inputs.max_length - parts.special, 0) // 2}",
            )
        whole = encode(tokenizer, template, texts, pairs, WHOLE, located=inputs.located)
        return windows(whole, parts, inputs.max_length, inputs.stride)
    if not spans:
        return encode(tokenizer, template, texts, pairs, inputs.max_length, located=inputs.located)
    tokens = encode(tokenizer, template, texts, pairs, inputs.max_length, located=True)
    columns = [str(end) for _, *ends in spans for end in ends]
    # A row without its text may lack offsets; then nothing is marked.
    marks = np.stack([frame[column].fill_null(0).to_numpy() for column in columns], axis=1)
    marks = marks.reshape(len(frame), len(spans), 2)
    return replace(tokens, spans=find_spans(tokens, marks, [text == "text_pair" for text, *_ in spans]))
