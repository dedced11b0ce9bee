"""Runs a KerasHub BERT backbone's weights over packed rows.

KerasHub's own graph takes one example a row and always uses the tanh approximation of GELU. This one lets several
examples share a row, uses the GELU that the checkpoint was trained with, and computes the last layer only where the
head reads it. Letters as in `batches`: R packed rows, T tokens, M read places, P spans; H hidden units, A heads, D = H / A.
"""

from dataclasses import dataclass

import numpy as np

from kft import backend

backend.select()

import keras  # noqa: E402
from keras import ops  # noqa: E402


def _exact_gelu(x):
    """x · Φ(x). JAX's own goes through erfc, which XLA computes on a CPU at several times the cost of erf."""
    if keras.backend.backend() != "jax":
        return ops.gelu(x, approximate=False)
    return 0.5 * x * (1 + ops.erf(x * 2**-0.5))


ACTIVATIONS = {
    "gelu_exact": _exact_gelu,
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "relu": ops.relu,
    "silu": ops.silu,
}


@dataclass(frozen=True)
class Encoding:
    """What the weights alone do not tell: activation (a key of ACTIVATIONS), LayerNorm epsilon, dropout rates."""

    activation: str
    epsilon: float
    dropout: float
    attention_dropout: float


def encode_first_tokens(backbone, inputs: dict, encoding: Encoding, pooling: str, dropout):
    """The vector of each example that the head reads.

    Args:
        backbone: a `keras_hub.models.BertBackbone`; its weights are used, its graph is not.
        inputs: int32 `token_ids`, `positions`, `segment_ids`, `example_ids` [R, T] and `reads` [R, M]; where
            examples have marked words also `spans` [R, M, P, 2].
        encoding: activation, epsilon and dropout rates.
        pooling: "cls", the first token through BERT's tanh pooler, or "mean" of the example's tokens.
        dropout: of this step, a `Dropout`.

    Returns:
        [R, M, H] in the compute type, or [R, M, (1 + P) * H]: the same vector, then the mean of each span's tokens in the
        last layer. Places that no example reads hold finite values without meaning.
    """
    x = _embed(backbone, inputs, encoding.epsilon)
    x = dropout(x, encoding.dropout)  # [R, T, H]
    example_ids, reads = inputs["example_ids"], inputs["reads"]
    same_example = ops.equal(example_ids[:, :, None], example_ids[:, None, :])  # [R, T, T]
    *lower, last = backbone.transformer_layers
    for layer in lower:
        x = _layer(layer, x, x, same_example, encoding, dropout)
    if pooling == "mean" or "spans" in inputs:  # more than the first tokens are read
        x = _layer(last, x, x, same_example, encoding, dropout)
        first = POOLINGS[pooling](backbone, x, example_ids, reads)  # [R, M, H]
        spans = [_mean_of_spans(x, inputs["spans"])] if "spans" in inputs else []
        return ops.concatenate([first, *spans], axis=-1) if spans else first
    read = ops.take_along_axis(x, reads[:, :, None], axis=1)  # [R, M, H]
    seen = _same_example(example_ids, reads)
    read = _layer(last, read, x, seen, encoding, dropout)
    return ops.tanh(_dense(backbone.pooled_dense, read))


def _same_example(example_ids, reads):
    """Whether a token belongs to the example that is read at a place, [R, M, T]."""
    read_ids = ops.take_along_axis(example_ids, reads, axis=1)  # [R, M]
    return ops.equal(read_ids[:, :, None], example_ids[:, None, :])


def _pooled(backbone, x, example_ids, reads):
    return ops.tanh(_dense(backbone.pooled_dense, ops.take_along_axis(x, reads[:, :, None], axis=1)))


def _embed(backbone, inputs: dict, epsilon: float):
    x = (
        ops.take(backbone.token_embedding.embeddings, inputs["token_ids"], axis=0)
        + ops.take(backbone.position_embedding.position_embeddings, inputs["positions"], axis=0)
        + ops.take(backbone.segment_embedding.embeddings, inputs["segment_ids"], axis=0)
    )
    x = _layer_norm(backbone.embeddings_layer_norm, x, epsilon)
    return ops.cast(x, backbone.embeddings_layer_norm.compute_dtype)


def _layer(layer, x, context, visible, encoding: Encoding, dropout):
    """One transformer layer for the tokens x [R, Q, H] that attend to context [R, T, H] where visible [R, Q, T]."""
    attention = layer._self_attention_layer
    attended = _attend(attention, x, context, visible, lambda p: dropout(p, encoding.attention_dropout))
    attended = dropout(_merge_heads(attention._output_dense, attended), encoding.dropout)
    x = _layer_norm(layer._self_attention_layer_norm, x + attended, encoding.epsilon)
    hidden = ACTIVATIONS[encoding.activation](_dense(layer._feedforward_intermediate_dense, x))
    hidden = dropout(_dense(layer._feedforward_output_dense, hidden), encoding.dropout)
    return _layer_norm(layer._feedforward_layer_norm, x + hidden, encoding.epsilon)


def _attend(attention, x, context, visible, drop):
    """Softmax attention, heads first: [R, A, Q, D]."""
    query = _split_heads(attention._query_dense, x)  # [R, A, Q, D]
    key = _split_heads(attention._key_dense, context)  # [R, A, T, D]
    value = _split_heads(attention._value_dense, context)
    scale = query.shape[-1] ** -0.5
    scores = ops.matmul(
        query * ops.cast(scale, query.dtype), ops.transpose(key, (0, 1, 3, 2))
    )  # [R, A, Q, T]
    scores = ops.where(visible[:, None], ops.cast(scores, "float32"), -1e9)
    weights = ops.cast(ops.softmax(scores, axis=-1), query.dtype)
    return ops.matmul(drop(weights), value)


def _split_heads(dense, x):
    """Projects [R, T, H] to heads [R, A, T, D]; `dense` is Keras's EinsumDense with kernel [H, A, D], bias [A, D]."""
    hidden, heads, size = dense.kernel.shape
    kernel = ops.cast(ops.reshape(dense.kernel, (hidden, heads * size)), x.dtype)
    bias = ops.cast(ops.reshape(dense.bias, (heads * size,)), x.dtype)
    x = ops.reshape(ops.matmul(x, kernel) + bias, (*x.shape[:2], heads, size))
    return ops.transpose(x, (0, 2, 1, 3))


def _merge_heads(dense, x):
    """Projects heads [R, A, T, D] to [R, T, H]; kernel [A, D, H]."""
    heads, size, hidden = dense.kernel.shape
    kernel = ops.cast(ops.reshape(dense.kernel, (heads * size, hidden)), x.dtype)
    x = ops.transpose(x, (0, 2, 1, 3))  # [R, T, A, D]
    x = ops.reshape(x, (*x.shape[:2], heads * size))
    return ops.matmul(x, kernel) + ops.cast(dense.bias, x.dtype)


def _dense(dense, x):
    return ops.matmul(x, ops.cast(dense.kernel, x.dtype)) + ops.cast(dense.bias, x.dtype)


def _layer_norm(norm, x, epsilon: float):
    """In float32 whatever the compute type is, as Keras does."""
    y = ops.cast(x, "float32")
    mean = ops.mean(y, axis=-1, keepdims=True)
    centred = y - mean
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    y = centred * ops.rsqrt(variance + epsilon) * ops.cast(norm.gamma, "float32") + ops.cast(
        norm.beta, "float32"
    )
    return ops.cast(y, x.dtype)


def _mean_of_examples(backbone, x, example_ids, reads):
    """[R, T, H] → [R, M, H], the mean over the tokens of the example that is read at each place."""
    belongs = ops.cast(_same_example(example_ids, reads), x.dtype)  # [R, M, T]
    count = ops.maximum(ops.sum(belongs, axis=-1, keepdims=True), 1)
    return ops.matmul(belongs, x) / count


def _mean_of_spans(x, spans):
    """[R, T, H] → [R, M, P * H], the mean over the tokens of each span; of an empty one zeros."""
    rows, places, count, _ = spans.shape
    place = ops.arange(x.shape[1], dtype="int32")
    begins, ends = spans[..., 0], spans[..., 1]
    inside = ops.logical_and(place >= begins[..., None], place < ends[..., None])  # [R, M, P, T]
    inside = ops.cast(ops.reshape(inside, (-1, places * count, x.shape[1])), x.dtype)
    lengths = ops.maximum(ops.sum(inside, axis=-1, keepdims=True), 1)
    return ops.reshape(ops.matmul(inside, x) / lengths, (-1, places, count * x.shape[2]))


class Dropout:
    """Inverted dropout at the numbered places of one forward pass, all from one seed of the step.

    `seed_generator` is a `keras.random.SeedGenerator`, or None in prediction: then nothing is dropped.

    On JAX the mask is a hash of (seed, place, index of the element), which XLA fuses into its user: JAX's own
    random bits take a third of a training step on a CPU. Other backends use Keras's dropout.
    """

    def __init__(self, seed_generator=None):
        self.generator = seed_generator
        self.hashed = keras.backend.backend() == "jax"
        self.seed = seed_generator.next() if seed_generator is not None and self.hashed else None
        self.place = 0

    def __call__(self, x, rate: float):
        if self.generator is None or rate == 0:
            return x
        if not self.hashed:
            return keras.random.dropout(x, rate, seed=self.generator)
        self.place += 1
        keep = _hashed_bits(self.seed, self.place, x.shape) >= np.uint32(round(rate * 2**32))
        return ops.where(keep, x / ops.cast(1 - rate, x.dtype), ops.cast(0, x.dtype))


def _hashed_bits(seed, place: int, shape: tuple[int, ...]):
    """uint32 bits of `shape`: murmur3's finalizer (Appleby, MurmurHash3.cpp) over counter and key, twice keyed."""
    import jax.numpy as jnp
    from jax import lax

    key = _mix(seed[0] + jnp.uint32(0x9E3779B9))
    key = _mix(key ^ seed[1])
    key = _mix(key + jnp.uint32(place * 0x85EBCA6B & 0xFFFFFFFF))
    index = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        index = index + lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride & 0xFFFFFFFF)
        stride *= shape[axis]
    return _mix(_mix(index * jnp.uint32(0x9E3779B9) + key) ^ key)


def _mix(x):
    import jax.numpy as jnp

    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


# (backbone, last layer [R, T, H], example_ids [R, T], reads [R, M]) → [R, M, H]
POOLINGS = {"cls": _pooled, "mean": _mean_of_examples}
