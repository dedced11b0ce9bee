"""A model as plain TensorFlow operations over a run's weights, without Keras.

Letters: B examples, T tokens in the longest, M read places, H hidden units, A heads, D = H / A, C
classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kft import backend
from kft.models import heads
from kft.models.architecture import Architecture

# Examples are computed by like length, in chunks of about so many tokens: little padding, and
# memory that does not grow with the request. On 2 cores, 32 sentences of mixed lengths a call: 1024
# answers 64 texts/s, 2048 46, no chunks 26.
CHUNK_TOKENS = 1024


@dataclass(frozen=True)
class Encoder:
    """A run's model. Keep the variables of `make_variables` on the module that is saved."""

    architecture: Architecture
    variables: dict[str, Any]

    def logits(self, ids: Any, segments: Any, mask: Any) -> Any:
        """int32 [B, T] three times → float32 [B, C]; where mask is 0, there is no token."""
        return self._logits(ids, segments, mask, backend.tensorflow().constant([0]))[:, 0]

    def logits_of_tokens(self, ids: Any, segments: Any, mask: Any) -> Any:
        """The same of every token, float32 [B, T, C]."""
        return self._logits(ids, segments, mask, None)

    def _logits(self, ids: Any, segments: Any, mask: Any, places: Any) -> Any:
        tf = backend.tensorflow()
        length = tf.shape(ids)[1]
        tf.debugging.assert_less_equal(
            length, self.architecture.sizes.max_length, "more token ids than the model has positions for"
        )
        inputs = {
            "token_ids": ids,
            "segment_ids": segments,
            "positions": tf.range(length)[None],
            "example_ids": mask,
        }
        blocks = TensorFlowBlocks(tf, self.architecture, self.variables)
        return heads.logits(blocks, self.architecture, inputs, places)

    def logits_of_ragged(self, ids: Any, segments: Any) -> Any:
        """Ragged int32 [B, tokens] twice → float32 [B, C], computed by like length."""
        tf = backend.tensorflow()
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        order = tf.argsort(lengths, direction="DESCENDING")
        ids, segments, lengths = (tf.gather(rows, order) for rows in (ids, segments, lengths))
        count = tf.size(lengths)

        def compute(begin: Any, logits: Any) -> tuple[Any, Any]:
            end = tf.minimum(begin + tf.maximum(CHUNK_TOKENS // lengths[begin], 1), count)
            part, mask = ids[begin:end].to_tensor(), tf.sequence_mask(lengths[begin:end], dtype=tf.int32)
            return end, tf.concat([logits, self.logits(part, segments[begin:end].to_tensor(), mask)], 0)

        outputs = self.architecture.outputs
        _, logits = tf.while_loop(
            lambda begin, logits: begin < count,
            compute,
            (tf.constant(0), tf.zeros([0, outputs])),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, outputs])),
            parallel_iterations=1,
        )
        return tf.gather(logits, tf.math.invert_permutation(order))


class TensorFlowBlocks:
    """The machine, see `blocks`: a row is one example, its id 1, and 0 without a token."""

    def __init__(self, tf: Any, architecture: Architecture, variables: dict[str, Any]):
        self.tf, self.variables = tf, variables
        self.sizes, self.encoding = architecture.sizes, architecture.encoding

    def embed(self, name: str, ids: Any) -> Any:
        return self.tf.gather(self.variables[f"{name}.weight"], ids)

    def compute(self, x: Any) -> Any:
        return x

    full = compute

    def drop(self, x: Any, rate: float) -> Any:
        return x

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def multiply(self, x: Any, y: Any) -> Any:
        return x * y

    def scale(self, x: Any, number: float) -> Any:
        return x * number

    def dense(self, name: str, x: Any) -> Any:
        tf, kernel = self.tf, self.variables[f"{name}.weight"]
        flat = tf.reshape(x, [-1, kernel.shape[0]])  # one large product is faster than B small ones
        product, bias = tf.matmul(flat, kernel), self.variables.get(f"{name}.bias")
        product = product if bias is None else tf.nn.bias_add(product, bias)
        return tf.reshape(product, [*tf.unstack(tf.shape(x)[:-1]), kernel.shape[1]])

    def norm(self, name: str, x: Any) -> Any:
        tf = self.tf
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        y = (x - mean) * tf.math.rsqrt(variance + self.encoding.epsilon) * self.variables[f"{name}.weight"]
        offset = self.variables.get(f"{name}.bias")
        return y if offset is None else y + offset

    def activate(self, x: Any, kind: str) -> Any:
        return ACTIVATIONS[kind](self.tf)(x)

    def split_heads(self, x: Any) -> Any:
        tf, heads = self.tf, self.sizes.num_heads
        shape = tf.shape(x)
        x = tf.reshape(x, [shape[0], shape[1], heads, x.shape[-1] // heads])
        return tf.transpose(x, [0, 2, 1, 3])

    def merge_heads(self, x: Any) -> Any:
        tf = self.tf
        x = tf.transpose(x, [0, 2, 1, 3])  # [B, M, A, D]
        shape = tf.shape(x)
        return tf.reshape(x, [shape[0], shape[1], x.shape[2] * x.shape[3]])

    def visible(self, example_ids: Any, places: Any = None, reach: int | None = None) -> Any:
        """All tokens of the row, whoever looks: [B, 1, 1, T]; within a reach [B, 1, M, T]."""
        tokens = self.tf.cast(example_ids, self.tf.bool)[:, None, None, :]
        if reach is None:
            return tokens
        return tokens & (abs(self.distances(example_ids, places)) <= reach)[:, None]

    def attend(
        self, query: Any, key: Any, value: Any, visible: Any, bias: Any = None, scale: float | None = None
    ) -> Any:
        tf, scale = self.tf, query.shape[-1] ** -0.5 if scale is None else scale
        scores = self.products(query * scale, key)  # [B, A, M, T]
        scores = scores if bias is None else scores + bias
        return tf.matmul(tf.nn.softmax(tf.where(visible, scores, -1e9)), value)

    def table(self, name: str) -> Any:
        return self.variables[f"{name}.weight"][None]

    def distances(self, ids: Any, places: Any = None) -> Any:
        """[1, M, T]"""
        place = self.tf.range(self.tf.shape(ids)[1])
        return ((place if places is None else places)[:, None] - place)[None]

    def bucket(self, distances: Any, numbers: Any) -> Any:
        tf, farthest = self.tf, len(numbers) // 2
        return tf.gather(numbers, tf.clip_by_value(distances, -farthest, farthest) + farthest)

    def products(self, x: Any, y: Any) -> Any:
        return self.tf.matmul(x, y, transpose_b=True)

    def pick(self, x: Any, buckets: Any) -> Any:
        tf, shape = self.tf, self.tf.shape(x)
        buckets = tf.broadcast_to(buckets[:, None], [shape[0], shape[1], shape[2], tf.shape(buckets)[2]])
        return tf.gather(x, buckets, batch_dims=3)

    def turn(self, x: Any) -> Any:
        return self.tf.transpose(x, [0, 1, 3, 2])

    def flip(self, distances: Any) -> Any:
        return self.tf.transpose(distances, [0, 2, 1])

    def heads_first(self, x: Any) -> Any:
        return self.tf.transpose(x, [0, 3, 1, 2])

    def rotate(self, x: Any, positions: Any, rates: Any) -> Any:
        tf = self.tf
        rates = tf.constant(rates, tf.float32)
        angles = tf.cast(positions, tf.float32)[:, None, :, None] * rates
        cos, sin = tf.cos(angles), tf.sin(angles)
        first, second = self.split(x, 2)
        return tf.concat([first * cos - second * sin, second * cos + first * sin], -1)

    def split(self, x: Any, count: int) -> Any:
        return self.tf.split(x, count, axis=-1)

    def take(self, x: Any, places: Any) -> Any:
        return self.tf.gather(x, places, axis=1)

    def at_places(self, numbers: Any, places: Any) -> Any:
        return numbers if places is None else self.take(numbers, places)

    def mean(self, x: Any, example_ids: Any, places: Any) -> Any:
        """The same for every place: [B, 1, H]."""
        tf = self.tf
        weight = tf.cast(example_ids, tf.float32)[:, :, None]
        return (tf.reduce_sum(x * weight, 1) / tf.maximum(tf.reduce_sum(weight, 1), 1.0))[:, None]


def make_variables(weights: dict[str, Any]) -> dict[str, Any]:
    """The weights as TensorFlow variables, which a SavedModel keeps in a file of their own."""
    tf = backend.tensorflow()
    return {
        name: tf.Variable(value, trainable=False, name=name.replace(".", "_"))
        for name, value in weights.items()
    }


ACTIVATIONS: dict[str, Callable] = {
    "gelu_exact": lambda tf: lambda x: tf.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda tf: lambda x: tf.nn.gelu(x, approximate=True),
    "relu": lambda tf: tf.nn.relu,
    "silu": lambda tf: tf.nn.silu,
    "tanh": lambda tf: tf.tanh,
}
