"""Token ids → the tokens of examples in a TensorFlow graph, equal to `kft.text.rows`."""

from typing import Any

from kft import backend
from kft.text.templates import Frame


def pack(first: Any, second: Any | None, parts: Frame, max_length: int) -> tuple[Any, Any]:
    """(token ids, segment ids), ragged int32 [N, T], truncated as `encode` does.

    Args:
        first: ids of the first texts, ragged int32 [N, tokens].
        second: of the second texts, or None.
        parts: the special tokens of an example.
        max_length: tokens of an example at most.

    The segment ids are 1 from the second text on.
    """
    tf = backend.tensorflow()
    count = first.nrows()
    before, between, after = (
        tf.tile(tf.constant([ids], tf.int32, [1, len(ids)]), [count, 1])
        for ids in (parts.before, parts.between, parts.after)
    )
    limit = max_length - parts.special
    if second is None:
        ids = tf.concat([before, first[:, :limit], after], 1)
        return ids, tf.zeros_like(ids)
    a, b = first.row_lengths(), second.row_lengths()
    short = tf.minimum(tf.minimum(a, b), limit // 2)
    fits = a + b <= limit
    first = _cut(tf, first, tf.where(fits, a, tf.where(a > b, limit - short, short)))
    second = _cut(tf, second, tf.where(fits, b, tf.where(a > b, short, limit - short)))
    one, two = tf.concat([before, first, between], 1), tf.concat([second, after], 1)
    return tf.concat([one, two], 1), tf.concat([tf.zeros_like(one), tf.ones_like(two)], 1)


def _cut(tf: Any, tokens: Any, lengths: Any) -> Any:
    return tf.ragged.boolean_mask(tokens, tf.ragged.range(tokens.row_lengths()) < lengths[:, None])
