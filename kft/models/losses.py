"""Losses and divergences by name; the tasks say which one they train on.

Letters as in `batches`: R packed rows, M read places of one, C outputs. A loss takes targets [R,
M, …], outputs of the head [R, M, C] and weights [R, M]; it is the weighted mean over the read
places.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kft import backend

backend.select()

import keras  # noqa: E402

MEAN = "mean_with_sample_weight"


class _SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of integer targets with label smoothing (Szegedy et al. 2016, section 7)."""

    def __init__(self, label_smoothing: float):
        super().__init__(name="cross_entropy", reduction=MEAN)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        one_hot = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )


class _Focal(keras.losses.Loss):
    """Cross-entropy times (1 - p) ** gamma, p the target's probability (Lin et al. 2017, eq. 4)."""

    def __init__(self, gamma: float):
        super().__init__(name="focal", reduction=MEAN)
        self.gamma = gamma

    def call(self, y_true, y_pred):
        one_hot = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        log_p = keras.ops.sum(one_hot * keras.ops.log_softmax(y_pred, axis=-1), axis=-1)
        # The gradient of 0 ** gamma is not finite for gamma < 1, hence the floor.
        return -keras.ops.power(keras.ops.maximum(1 - keras.ops.exp(log_p), 1e-7), self.gamma) * log_p


class _BinaryCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of C targets 0 and 1, positives weighted as torch's `pos_weight`."""

    def __init__(self, positive_weights: tuple[float, ...] | None = None):
        super().__init__(name="binary_cross_entropy", reduction=MEAN)
        self.positive_weights = positive_weights

    def call(self, y_true, y_pred):
        ops = keras.ops
        y_true = ops.cast(y_true, y_pred.dtype)
        # -log σ(x) = softplus(-x), -log(1 - σ(x)) = softplus(x), both without overflow.
        positive, negative = ops.softplus(-y_pred), ops.softplus(y_pred)
        if self.positive_weights is not None:
            positive = positive * ops.convert_to_tensor(np.array(self.positive_weights, np.float32))
        return ops.mean(y_true * positive + (1 - y_true) * negative, axis=-1)


class _CrossEntropyAmongRivals(keras.losses.Loss):
    """Cross-entropy of a softmax over rivals: the read places of a step that share a number.

    The last of a place's targets is the number of its rivals, those before it are 1 where the place
    is the right one. Only right places have a weight, so the weighted mean is one over questions.
    Empty places make up a question without weight.
    """

    def __init__(self):
        super().__init__(name="cross_entropy_among_rivals", reduction=MEAN)

    def call(self, y_true, y_pred):
        log_p = _log_softmax_among_rivals(_together(y_true), y_pred)
        return -keras.ops.reshape(log_p, keras.ops.shape(y_pred)[:2])


class _CrossEntropyOfSpans(keras.losses.Loss):
    """Mean cross-entropy of start and end, each a softmax over the rivals of a packed row.

    Targets of a place are 1 or 0 for start, the same for end, and the number of its rivals. A place
    has half a weight for each of the two, so that the weighted mean is one over spans. Rivals stand
    in one packed row: memory grows with R * M * M.
    """

    def __init__(self):
        super().__init__(name="cross_entropy_of_spans", reduction=MEAN)

    def call(self, y_true, y_pred):
        ops = keras.ops
        ends = ops.cast(y_true[..., :2], y_pred.dtype)
        loss = -ops.sum(ends * _log_softmax_of_spans(y_true, y_pred), axis=-1)
        return loss / ops.maximum(ops.sum(ends, axis=-1), 1.0)


def _log_softmax_of_spans(y_true, y_pred):
    """Log-probability of each read place as start and as end of its span, [R, M, 2]."""
    ops, together = keras.ops, _together_in_rows(y_true[..., -1])
    rivals = ops.where(together[..., None], y_pred[:, None], ops.cast(-1e9, y_pred.dtype))  # [R, M, M, 2]
    return y_pred - ops.logsumexp(rivals, axis=2)


def _together_in_rows(numbers):
    """Whether two places of a packed row have the same number, of [R, M] → [R, M, M]."""
    return keras.ops.equal(numbers[:, :, None], numbers[:, None, :])


def _mean_of_windows(y_pred, windows):
    """Outputs [R, M, C] → at each place the mean over the places of the same number [R, M].

    Sums of a comparison, not scattered ones: these have no order on a GPU.
    """
    ops = keras.ops
    together, flat = _same(windows), ops.reshape(y_pred, (-1, y_pred.shape[-1]))  # [RM, RM], [RM, C]
    total = ops.sum(ops.where(together[:, :, None], flat[None], 0.0), axis=1)
    count = ops.sum(ops.cast(together, flat.dtype), axis=1, keepdims=True)
    return ops.reshape(total / count, ops.shape(y_pred))


def _largest_of_windows(y_pred, windows):
    """The same with the largest of each of the C outputs."""
    ops = keras.ops
    together, flat = _same(windows), ops.reshape(y_pred, (-1, y_pred.shape[-1]))
    largest = ops.max(ops.where(together[:, :, None], flat[None], ops.cast(-1e9, flat.dtype)), axis=1)
    return ops.reshape(largest, ops.shape(y_pred))


def _cross_entropy(label_smoothing: float = 0.0) -> keras.losses.Loss:
    if label_smoothing:
        return _SmoothedCrossEntropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=MEAN)


def _together(y_true):
    """Whether two read places of a step are rivals, [R * M, R * M]."""
    return _same(y_true[..., -1])


def _same(numbers):
    """Whether two places of a step have the same number, of [R, M] → [R * M, R * M]."""
    flat = keras.ops.reshape(numbers, (-1,))
    return keras.ops.equal(flat[:, None], flat[None, :])


def _log_softmax_among_rivals(together, y_pred):
    """Log-probability of each read place among its rivals, [R * M]."""
    ops = keras.ops
    score = ops.reshape(y_pred, (-1,))
    rivals = ops.where(together, score[None, :], ops.cast(-1e9, score.dtype))  # [R * M, R * M]
    return score - ops.logsumexp(rivals, axis=1)


def _apart(log_p, log_q):
    """Each outcome's part of (KL(p‖q) + KL(q‖p)) / 2, from log-probabilities of any shape."""
    return (keras.ops.exp(log_p) - keras.ops.exp(log_q)) * (log_p - log_q) / 2


def _between_classes(y_true, p, q):
    log_p, log_q = (keras.ops.log_softmax(logits, axis=-1) for logits in (p, q))
    return keras.ops.sum(_apart(log_p, log_q), axis=-1)


def _between_labels(y_true, p, q):
    ops = keras.ops
    yes = _apart(-ops.softplus(-p), -ops.softplus(-q))
    no = _apart(-ops.softplus(p), -ops.softplus(q))
    return ops.mean(yes + no, axis=-1)


def _between_rivals(y_true, p, q):
    ops, together = keras.ops, _together(y_true)
    parts = _apart(*(_log_softmax_among_rivals(together, scores) for scores in (p, q)))
    return ops.reshape(ops.sum(ops.where(together, parts[None, :], 0.0), axis=1), ops.shape(p)[:2])


def _between_spans(y_true, p, q):
    ops = keras.ops
    parts = _apart(*(_log_softmax_of_spans(y_true, scores) for scores in (p, q)))  # [R, M, 2]
    together = ops.cast(_together_in_rows(y_true[..., -1]), p.dtype)
    ends = ops.cast(y_true[..., :2], p.dtype)
    sums = ops.sum(ends * ops.matmul(together, parts), axis=-1)
    return sums / ops.maximum(ops.sum(ends, axis=-1), 1.0)


def _between_values(y_true, p, q):
    return keras.ops.square(p - q)[..., 0]


# name → (options) → a Keras loss.
LOSSES: dict[str, Callable[..., keras.losses.Loss]] = {
    "cross_entropy": _cross_entropy,
    "focal": _Focal,
    "mse": lambda: keras.losses.MeanSquaredError(reduction=MEAN),
    "binary_cross_entropy": _BinaryCrossEntropy,
    "cross_entropy_among_rivals": _CrossEntropyAmongRivals,
    "cross_entropy_of_spans": _CrossEntropyOfSpans,
}
# name → (targets, outputs, outputs) → [R, M], how far two outputs [R, M, C] of each read place are
# apart: half the sum of both Kullback-Leibler divergences (of labels their mean, of rivals where
# the right one stands), or the squared difference.
DIVERGENCES: dict[str, Callable[..., Any]] = {
    "classes": _between_classes,
    "labels": _between_labels,
    "rivals": _between_rivals,
    "spans": _between_spans,
    "values": _between_values,
}
# How windows answer together → (outputs [R, M, C], numbers [R, M] of their examples) → [R, M, C].
MERGED: dict[str, Callable[..., Any]] = {"mean": _mean_of_windows, "max": _largest_of_windows}
