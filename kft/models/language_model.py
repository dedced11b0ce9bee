"""A decoder and its vocabulary: packed rows → what each read place says of the next token."""

import numpy as np

from kft import backend
from kft.errors import KftError
from kft.models import presets
from kft.models.blocks.dropout import Dropout
from kft.models.blocks.on_keras import KerasBlocks
from kft.models.families import DECODER, NEXT_TOKEN
from kft.models.holder import Holder
from kft.models.presets import Preset
from kft.models.weights import Weights

backend.select()

import keras  # noqa: E402
from keras import ops  # noqa: E402

# Places whose logits are computed at a time: 256 times 128,256 tokens of Llama 3 are 131 MB.
CHUNK_PLACES = 256


class LanguageModel(keras.Model):
    """A decoder whose head is its vocabulary. Make it with `build_language_model`.

    Letters as in `batches`: R rows, M read places; V tokens of the vocabulary.

    Attributes:
        family, sizes, encoding: of the preset.
        backbone: the layers that hold the weights.
        named: all weights by the checkpoint's names.
        adapters: low-rank adapters by the names of their dense layers.
    """

    def __init__(self, preset: Preset, precision: str = "float32", seed: int = 0):
        super().__init__(name="language_model")
        self.family, self.sizes, self.encoding = preset.family, preset.sizes, preset.encoding
        self.backbone = Holder(self.family.weights(self.sizes) | self.head_table, precision)
        self.named = Weights(self.family.parts(self.backbone))
        self.adapters = {}
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    @property
    def head_table(self):
        """{name: Weight} of the last kernel; empty where the table of tokens is it."""
        if self.sizes.more["tie_word_embeddings"]:
            return {}
        return self.family.head_weights(NEXT_TOKEN, self.sizes, self.sizes.vocabulary_size)

    def blocks(self, training: bool = False) -> KerasBlocks:
        """The machine for one forward pass."""
        dropout = Dropout(self.seed_generator if training else None)
        compute_type = self.backbone.dtype_policy.compute_dtype
        return KerasBlocks(self.named, self.sizes, self.encoding, compute_type, dropout)

    def call(self, inputs, training=False):
        """The logits float32 [R, M, V] of the token after each place `inputs["reads"]` [R, M]."""
        blocks = self.blocks(training)
        return self.logits(blocks, self.family.run(blocks, inputs, inputs["reads"]))

    def logits(self, blocks: KerasBlocks, x):
        """float32 [R, M, V] of the vectors [R, M, H] after the last norm."""
        layer = self.family.heads[NEXT_TOKEN].output
        product = blocks.dense(layer, x) if self.head_table else blocks.match(self.family.tokens, x)
        product, cap = blocks.full(product), self.sizes.more.get("final_logit_softcapping")
        return product if cap is None else blocks.cap(product, cap)

    def log_likelihood(self, inputs, targets, training=False):
        """float32 [R, M]: log probability of the tokens targets [R, M] after the read places.

        The logits of CHUNK_PLACES places are in memory at a time, in the backward pass too.
        """
        blocks = self.blocks(training)
        x = self.family.run(blocks, inputs, inputs["reads"])  # [R, M, H]
        width, places = x.shape[-1], targets.shape[0] * targets.shape[1]
        chunks = -(-places // CHUNK_PLACES)
        size = -(-places // chunks)
        spare = chunks * size - places
        x = ops.pad(ops.reshape(x, (places, width)), ((0, spare), (0, 0)))
        x = ops.reshape(x, (chunks, 1, size, width))
        wanted = ops.reshape(ops.pad(ops.reshape(targets, (places,)), ((0, spare),)), (chunks, 1, size))

        def of_chunk(vectors, tokens):
            logits = self.logits(blocks, vectors)  # [1, size, V]
            chosen = ops.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
            return chosen - ops.logsumexp(logits, axis=-1)

        of_chunk = keras.remat(of_chunk)
        result = ops.map(lambda chunk: of_chunk(*chunk), (x, wanted))  # [chunks, 1, size]
        return ops.reshape(ops.reshape(result, (-1,))[:places], targets.shape)


def build_language_model(preset: Preset, precision: str = "float32", seed: int = 0) -> LanguageModel:
    """The language model of a Hugging Face folder, with its weights.

    Args:
        preset: from `presets.locate`.
        precision: "float32" or "mixed_bfloat16".
        seed: of dropout.

    Raises:
        KftError: it is no language model, or its weights cannot be read.
    """
    if preset.family.shape != DECODER:
        raise KftError(
            f"{preset.name}: is an encoder, which continues no text", "choose a decoder, such as a Llama"
        )
    model = LanguageModel(preset, precision, seed)
    head: dict[str, np.ndarray] = presets.head_weights(preset, NEXT_TOKEN) if model.head_table else {}
    missing = [name for name in model.head_table if name not in head]
    if missing:
        raise KftError(f"{preset.name}: the weights hold no {missing[0]}", "choose a language model")
    model.named.assign(presets.encoder_weights(preset) | head)
    return model
