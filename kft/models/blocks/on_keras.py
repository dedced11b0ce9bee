"""The blocks on Keras: several examples share a packed row, on any backend.

KerasHub's own graph takes one example a row and fixes the activation; this runs its weights.
Letters as in `blocks`; K examples of a packed row, P spans of an example.
"""

from kft import backend
from kft.models.blocks.dropout import Dropout
from kft.models.families import Encoding, Sizes
from kft.models.weights import Weights

backend.select()

import keras  # noqa: E402
from keras import ops  # noqa: E402


def _exact_gelu(x):
    """x · Φ(x). JAX's own uses erfc, which XLA computes on a CPU several times slower than erf."""
    if keras.backend.backend() != "jax":
        return ops.gelu(x, approximate=False)
    return 0.5 * x * (1 + ops.erf(x * 2**-0.5))


_ACTIVATIONS = {
    "gelu_exact": _exact_gelu,
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "relu": ops.relu,
    "silu": ops.silu,
    "tanh": ops.tanh,
}


class KerasBlocks:
    """The machine for one forward pass; see `blocks`.

    Args:
        weights: of the model. Where it has an adapter for a dense layer, `dense` lets that change
            the product.
        sizes, encoding: of the model.
        compute_type: that layers compute in.
        dropout: of this step.
    """

    def __init__(
        self, weights: Weights, sizes: Sizes, encoding: Encoding, compute_type: str, dropout: Dropout
    ):
        self.weights, self.sizes, self.encoding = weights, sizes, encoding
        self.compute_type, self.drop = compute_type, dropout

    def embed(self, name, ids):
        return ops.take(self.weights.value(f"{name}.weight"), ids, axis=0)

    def compute(self, x):
        return ops.cast(x, self.compute_type)

    def full(self, x):
        return ops.cast(x, "float32")

    def add(self, x, y):
        return x + y

    def multiply(self, x, y):
        return x * y

    def scale(self, x, number):
        return x * ops.cast(number, x.dtype)

    def dense(self, name, x):
        kernel = self.weights.value(f"{name}.weight", x.dtype)  # [inputs, outputs]
        product = ops.matmul(x, kernel)
        adapter = self.weights.adapters.get(name)
        if adapter is not None:
            product = adapter(self, x, product, kernel)
        bias = self._bias(name, x.dtype)
        return product if bias is None else product + bias

    def _bias(self, name, dtype):
        name = f"{name}.bias"
        return self.weights.value(name, dtype) if name in self.weights.parts else None

    def norm(self, name, x):
        """In float32 whatever the compute type is, as Keras does."""
        scale, offset = self.weights.value(f"{name}.weight", "float32"), self._bias(name, "float32")
        y = ops.cast(x, "float32")
        mean = ops.mean(y, axis=-1, keepdims=True)
        centred = y - mean
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        y = centred * ops.rsqrt(variance + self.encoding.epsilon) * scale
        return ops.cast(y if offset is None else y + offset, x.dtype)

    def rms_norm(self, name, x, plus=0.0):
        """In float32 whatever the compute type is."""
        y = ops.cast(x, "float32")
        y = y * ops.rsqrt(ops.mean(ops.square(y), axis=-1, keepdims=True) + self.encoding.epsilon)
        return ops.cast(y * (self.weights.value(f"{name}.weight", "float32") + plus), x.dtype)

    def activate(self, x, kind):
        return _ACTIVATIONS[kind](x)

    def split_heads(self, x, heads=None):
        heads = heads or self.sizes.num_heads
        # -1: TensorFlow does not always know how many rows there are.
        x = ops.reshape(x, (-1, x.shape[1], heads, x.shape[-1] // heads))  # [R, M, A, D]
        return ops.transpose(x, (0, 2, 1, 3))

    def merge_heads(self, x):
        x = ops.transpose(x, (0, 2, 1, 3))  # [R, M, A, D]
        return ops.reshape(x, (-1, x.shape[1], x.shape[2] * x.shape[3]))

    def visible(self, example_ids, places=None, reach=None, causal=False):
        """A mask [R, M, T]; a kernel that takes example ids would be given these instead."""
        looking = self.at_places(example_ids, places)
        same = ops.equal(looking[:, :, None], example_ids[:, None, :])
        if reach is None and not causal:
            return same
        apart = self.distances(example_ids, places)  # behind the token that is seen
        if causal:
            same = ops.logical_and(same, apart >= 0)
        return same if reach is None else ops.logical_and(same, ops.abs(apart) <= reach)

    def attend(self, query, key, value, visible, bias=None, scale=None, cap=None):
        heads, places, size = query.shape[1:]
        scale = size**-0.5 if scale is None else scale
        # A group of queries shares its keys: they stand below each other, and nothing is repeated.
        group = (-1, key.shape[1], heads // key.shape[1] * places)
        query = ops.reshape(query * ops.cast(scale, query.dtype), (*group, size))
        scores = ops.cast(self.products(query, key), "float32")
        scores = ops.reshape(scores, (-1, heads, places, key.shape[2]))  # [R, A, M, T]
        scores = scores if bias is None else scores + ops.cast(bias, "float32")
        scores = scores if cap is None else self.cap(scores, cap)
        scores = ops.where(visible[:, None], scores, -1e9)
        weights = self.drop(
            ops.cast(ops.softmax(scores, axis=-1), query.dtype), self.encoding.attention_dropout
        )
        attended = ops.matmul(ops.reshape(weights, (*group, key.shape[2])), value)
        return ops.reshape(attended, (-1, heads, places, value.shape[-1]))

    def cap(self, x, number):
        return ops.tanh(x / number) * number

    def match(self, name, x):
        return ops.matmul(x, ops.transpose(self.weights.value(f"{name}.weight", x.dtype)))

    def table(self, name):
        return self.compute(self.weights.value(f"{name}.weight"))[None]

    def distances(self, ids, places=None):
        """Of places in the row: between tokens of one example these are those in the example."""
        place = ops.arange(ids.shape[1], dtype="int32")
        return (place[None] if places is None else places)[:, :, None] - place

    def bucket(self, distances, numbers):
        farthest = len(numbers) // 2
        return ops.take(ops.array(numbers), ops.clip(distances, -farthest, farthest) + farthest)

    def products(self, x, y):
        return ops.matmul(x, self.turn(y))

    def pick(self, x, buckets):
        return ops.take_along_axis(x, buckets[:, None], axis=-1)

    def turn(self, x):
        return ops.transpose(x, (0, 1, 3, 2))

    def flip(self, distances):
        return ops.transpose(distances, (0, 2, 1))

    def heads_first(self, x):
        return ops.transpose(x, (0, 3, 1, 2))

    def rotate(self, x, positions, rates):
        """Angles in float32 whatever the compute type is."""
        rates = ops.array(rates, "float32")
        angles = ops.cast(positions, "float32")[:, None, :, None] * rates  # [R, 1, M, D / 2]
        cos, sin = ops.cos(angles), ops.sin(angles)
        first, second = self.split(ops.cast(x, "float32"), 2)
        turned = ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return ops.cast(turned, x.dtype)

    def split(self, x, count):
        return ops.split(x, count, axis=-1)

    def take(self, x, places):
        return ops.take_along_axis(x, places[:, :, None], axis=1)

    def at_places(self, numbers, places):
        return numbers if places is None else ops.take_along_axis(numbers, places, axis=1)

    def mean(self, x, example_ids, places):
        """Over the tokens of the example that each place belongs to."""
        looking = ops.take_along_axis(example_ids, places, axis=1)  # [R, M]
        belongs = ops.cast(ops.equal(looking[:, :, None], example_ids[:, None, :]), x.dtype)  # [R, M, T]
        count = ops.maximum(ops.sum(belongs, axis=-1, keepdims=True), 1)
        return ops.matmul(belongs, x) / count

    def spans(self, x, spans):
        """[R, T, H] → [R, K, P * H], the mean over each span's tokens; zeros for an empty one."""
        slots, count = spans.shape[1:3]
        place = ops.arange(x.shape[1], dtype="int32")
        begins, ends = spans[..., 0], spans[..., 1]
        inside = ops.logical_and(place >= begins[..., None], place < ends[..., None])  # [R, K, P, T]
        inside = ops.cast(ops.reshape(inside, (-1, slots * count, x.shape[1])), x.dtype)
        lengths = ops.maximum(ops.sum(inside, axis=-1, keepdims=True), 1)
        return ops.reshape(ops.matmul(inside, x) / lengths, (-1, slots, count * x.shape[2]))

    def join(self, vectors):
        """Side by side along the last axis."""
        return ops.concatenate(vectors, axis=-1)
