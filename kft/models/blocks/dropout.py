"""Dropout whose masks cost next to nothing: on JAX a hash that XLA fuses into its user."""

import numpy as np

from kft import backend

backend.select()

import keras  # noqa: E402
from keras import ops  # noqa: E402


class Dropout:
    """Inverted dropout at the numbered places of one forward pass, all from one seed of the step.

    `seed_generator` is a `keras.random.SeedGenerator`, or None in prediction: then nothing is
    dropped.

    On JAX the mask is a hash of (seed, place, index of the element), which XLA fuses into its user:
    JAX's own random bits take a third of a training step on a CPU. Other backends use Keras's
    dropout.
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
    """uint32 bits of `shape`: murmur3's finalizer (Appleby, MurmurHash3.cpp), keyed twice."""
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
