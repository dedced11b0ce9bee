"""BERT as plain TensorFlow operations over a run's weights: no Keras in the graph, and no compilation for a new shape.

Letters: B examples, T tokens in the longest, H hidden units, A heads, D = H / A, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kft import backend
from kft.models import Architecture

# Examples are computed by like length, in chunks of about so many tokens: little padding, and memory that does not grow
# with the request. On 2 cores, 32 sentences of mixed lengths a call: 1024 answers 64 texts/s, 2048 46, no chunks 26.
CHUNK_TOKENS = 1024


@dataclass(frozen=True)
class Encoder:
    """The model of a run. Make its variables with `make_variables`, and keep them on the module that is saved."""

    architecture: Architecture
    variables: dict[str, Any]

    def logits(self, ids: Any, segments: Any, mask: Any) -> Any:
        """int32 [B, T] three times → float32 [B, C]; where mask is 0, there is no token."""
        tf = backend.tensorflow()
        tf.debugging.assert_less_equal(
            tf.shape(ids)[1],
            self.architecture.backbone["max_sequence_length"],
            "more token ids than the model has positions for",
        )
        seen = tf.cast(mask, tf.bool)[:, None, None, :]  # [B, 1, 1, T]
        x = self._embed(tf, ids, segments)  # [B, T, H]
        last = self.architecture.backbone["num_layers"] - 1
        for i in range(last):
            x = self._layer(tf, i, x, x, seen)
        if self.architecture.pooling == "mean":
            x = self._layer(tf, last, x, x, seen)
            weight = tf.cast(mask, tf.float32)[:, :, None]
            pooled = tf.reduce_sum(x * weight, 1) / tf.maximum(tf.reduce_sum(weight, 1), 1.0)
        else:
            first = self._layer(tf, last, x[:, :1], x, seen)[:, 0]  # [B, H]
            pooled = tf.tanh(self._dense(tf, "pooler.dense", first))
        return self._dense(tf, "classifier", pooled)

    def logits_of_ragged(self, ids: Any, segments: Any) -> Any:
        """Ragged int32 [B, tokens] twice → float32 [B, C], computed by like length."""
        tf = backend.tensorflow()
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        order = tf.argsort(lengths, direction="DESCENDING")
        ids, segments, lengths = (tf.gather(rows, order) for rows in (ids, segments, lengths))
        count = tf.size(lengths)

        def compute(begin: Any, made: Any) -> tuple[Any, Any]:
            end = tf.minimum(begin + tf.maximum(CHUNK_TOKENS // lengths[begin], 1), count)
            part, mask = ids[begin:end].to_tensor(), tf.sequence_mask(lengths[begin:end], dtype=tf.int32)
            return end, tf.concat([made, self.logits(part, segments[begin:end].to_tensor(), mask)], 0)

        outputs = self.architecture.outputs
        _, made = tf.while_loop(
            lambda begin, made: begin < count,
            compute,
            (tf.constant(0), tf.zeros([0, outputs])),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, outputs])),
            parallel_iterations=1,
        )
        return tf.gather(made, tf.math.invert_permutation(order))

    def _embed(self, tf: Any, ids: Any, segments: Any) -> Any:
        words, positions, kinds = (
            self.variables[f"embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        )
        x = tf.gather(words, ids) + positions[: tf.shape(ids)[1]] + tf.gather(kinds, segments)
        return self._norm(tf, "embeddings.LayerNorm", x)

    def _layer(self, tf: Any, i: int, x: Any, context: Any, seen: Any) -> Any:
        """One layer for the tokens x [B, Q, H], which attend to context [B, T, H] where seen."""
        at = f"encoder.layer.{i}"
        query = self._heads(tf, f"{at}.attention.self.query", x)  # [B, A, Q, D]
        key = self._heads(tf, f"{at}.attention.self.key", context)  # [B, A, T, D]
        value = self._heads(tf, f"{at}.attention.self.value", context)
        scores = tf.matmul(query * query.shape[-1] ** -0.5, key, transpose_b=True)  # [B, A, Q, T]
        weights = tf.nn.softmax(tf.where(seen, scores, -1e9))
        attended = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])  # [B, Q, A, D]
        attended = self._dense(tf, f"{at}.attention.output.dense", tf.reshape(attended, tf.shape(x)))
        x = self._norm(tf, f"{at}.attention.output.LayerNorm", x + attended)
        hidden = ACTIVATIONS[self.architecture.encoding.activation](tf)(
            self._dense(tf, f"{at}.intermediate.dense", x)
        )
        return self._norm(tf, f"{at}.output.LayerNorm", x + self._dense(tf, f"{at}.output.dense", hidden))

    def _heads(self, tf: Any, name: str, x: Any) -> Any:
        heads = self.architecture.backbone["num_heads"]
        shape = tf.shape(x)
        made = tf.reshape(self._dense(tf, name, x), [shape[0], shape[1], heads, x.shape[-1] // heads])
        return tf.transpose(made, [0, 2, 1, 3])

    def _dense(self, tf: Any, name: str, x: Any) -> Any:
        kernel, bias = self.variables[f"{name}.weight"], self.variables[f"{name}.bias"]
        flat = tf.reshape(x, [-1, kernel.shape[0]])  # one large product is faster than B small ones
        made = tf.nn.bias_add(tf.matmul(flat, kernel), bias)
        return (
            made if len(x.shape) == 2 else tf.reshape(made, [*tf.unstack(tf.shape(x)[:-1]), kernel.shape[1]])
        )

    def _norm(self, tf: Any, name: str, x: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        scale, offset = self.variables[f"{name}.weight"], self.variables[f"{name}.bias"]
        return (x - mean) * tf.math.rsqrt(variance + self.architecture.encoding.epsilon) * scale + offset


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
}
