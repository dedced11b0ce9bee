"""Token ids → rows of tokens in a TensorFlow graph, equal to `kft.text.rows` and `.windows`."""

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


def pack_windows(
    first: Any, second: Any | None, parts: Frame, max_length: int, stride: int
) -> tuple[Any, Any, Any]:
    """(token ids, segment ids), ragged int32 [W, T], and int32 [W], the example of each window.

    Args:
        first, second, parts: as for `pack`.
        max_length: tokens of a window at most.
        stride: tokens that a window shares with the one before, see `kft.text.windows`.

    In the graph InvalidArgumentError: a first text leaves no room for the second.
    """
    tf = backend.tensorflow()
    cut = first if second is None else second
    special = [tf.constant(list(ids), tf.int32) for ids in (parts.before, parts.between, parts.after)]
    room = tf.fill([cut.nrows()], tf.constant(max_length - parts.special, tf.int64))
    if second is not None:
        room -= first.row_lengths()
    narrow = "the first text leaves the second no room in `max_length` tokens"
    with tf.control_dependencies([tf.debugging.assert_greater(room, tf.constant(stride, tf.int64), narrow)]):
        room = tf.identity(room)
    lengths, step = cut.row_lengths(), room - stride
    counts = 1 + tf.maximum(-((room - lengths) // step), 0)
    example = tf.repeat(tf.range(tf.size(counts)), counts)
    number = tf.range(tf.size(example, tf.int64)) - tf.repeat(tf.cumsum(counts, exclusive=True), counts)
    begin = number * tf.gather(step, example)
    end = tf.minimum(begin + tf.gather(room, example), tf.gather(lengths, example))
    starts = tf.gather(cut.row_starts(), example)
    pieces = tf.gather(cut.flat_values, tf.ragged.range(starts + begin, starts + end))
    before, between, after = (tf.tile(ids[None], [tf.size(example), 1]) for ids in special)
    if second is None:
        ids = tf.concat([before, pieces, after], 1)
        return ids, tf.zeros_like(ids), example
    one, two = tf.concat([before, tf.gather(first, example), between], 1), tf.concat([pieces, after], 1)
    segments = tf.concat([tf.zeros_like(one), tf.ones_like(two)], 1)
    return tf.concat([one, two], 1), segments, example


def _cut(tf: Any, tokens: Any, lengths: Any) -> Any:
    return tf.ragged.boolean_mask(tokens, tf.ragged.range(tokens.row_lengths()) < lengths[:, None])
