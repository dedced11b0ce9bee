"""The steps of an epoch, filled ahead by TensorFlow's threads, and those of a prediction."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kft import backend
from kft.batches.fill import Step, each, fill
from kft.batches.packing import first_fit
from kft.batches.plan import Placement, Plan, placement
from kft.tasks.record import Reads
from kft.text import Tokens

PREDICTION_LENGTHS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
STEPS_AHEAD = 4


def dataset(
    plan: Plan, tokens: Tokens, reads: Reads, epoch: int, first_step: int = 0
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """The steps of an epoch from `first_step` on: (inputs, targets, weights) of each.

    Args:
        plan: for the lengths of `tokens` and for `reads`.
        tokens: the N examples.
        reads: the places of each that the head reads, with targets and weights.

    Yields inputs `token_ids`, `positions`, `segment_ids`, `example_ids` int32 [R, T] and `reads`
    int32 [R, M]; where the tokens have P spans also `spans` int32 [R, M, P, 2], the places in the
    packed row where each begins and before which it ends; targets [R, M, …], of rivals
    [R, M, … + 1] with the number that rivals share; weights float32 [R, M]. Empty places hold 0.
    """
    where = placement(plan, epoch)
    shape = (plan.packed_rows, plan.length, plan.reads)

    def steps() -> Iterator[tuple]:
        for s in range(first_step, plan.steps):
            real = where.examples[s] >= 0
            parts = (where.examples, where.packed_rows, where.starts, where.numbers, where.reads)
            yield fill(Step(shape, *(a[s][real] for a in parts)), tokens, reads)

    return _filled_ahead(steps, plan.steps - first_step)


def _filled_ahead(steps: Callable[[], Iterator[tuple]], count: int) -> Iterator[tuple]:
    """Yields the same steps from a `tf.data.Dataset`: filled while the model computes."""
    first = next(steps(), None)
    if first is None:
        return
    tf = backend.tensorflow()
    signature = tf.nest.map_structure(lambda array: tf.TensorSpec(array.shape, array.dtype), first)
    data_set = tf.data.Dataset.from_generator(steps, output_signature=signature)
    options = tf.data.Options()
    # There is nothing to tune here, and the end of a tuned data set waits for its tuner, which
    # sleeps 10 ms, then twice as long each time: an epoch of 6 seconds could take 10.23.
    options.autotune.enabled = False
    data_set = data_set.apply(tf.data.experimental.assert_cardinality(count)).prefetch(STEPS_AHEAD)
    # A generator, since Keras takes no iterator of another kind.
    yield from data_set.with_options(options).as_numpy_iterator()


@dataclass(frozen=True)
class PredictionShape:
    """R, T and M of prediction batches."""

    packed_rows: int
    length: int
    reads: int


def prediction_shape(
    lengths: np.ndarray, max_length: int, step_tokens: int, devices: int = 1, counts: np.ndarray | None = None
) -> PredictionShape:
    """One of a few fixed shapes, so that compiled programs are found again for other files.

    Args:
        lengths: tokens of each example to come; T is the shortest fixed length that holds the
            longest.
        max_length: the model's limit, which T need not pass when one example fills it.
        step_tokens: about how many tokens, R × T, a step takes.
        devices: R is a multiple of this number.
        counts: places of each example that are read; None where it is one. Where it is more, M is
            as large as T.
    """
    longest = int(max(lengths, default=1))
    length = next((n for n in PREDICTION_LENGTHS if n >= longest), max(longest, max_length))
    packed_rows = max(step_tokens // length, 1)
    most = 1 if counts is None else int(max(counts, default=1))
    reads = max(length // 8, 1) if most <= 1 else length
    return PredictionShape(-(-packed_rows // devices) * devices, length, reads)


def prediction_steps(tokens: Tokens, shape: PredictionShape, reads: Reads) -> tuple[Placement, np.ndarray]:
    """Where each example goes when all are predicted once: placement (S = 1) and steps, int64 [N].

    Examples are packed longest first, so that steps near each other hold examples of like length.
    """
    lengths = np.diff(tokens.offsets)
    order = np.argsort(-lengths, kind="stable")
    packed_rows, *places = first_fit(lengths[order], shape.length, shape.reads, reads.counts[order])
    return Placement(
        order[None], packed_rows[None] % shape.packed_rows, *(a[None] for a in places)
    ), packed_rows // shape.packed_rows


def prediction_batches(
    tokens: Tokens, reads: Reads, shape: PredictionShape, where: Placement, steps: np.ndarray
) -> Iterator[tuple[dict[str, np.ndarray]]]:
    """The steps of `prediction_steps`: inputs as in `dataset`, each in a tuple of its own.

    No `tf.data.Dataset`: TensorFlow never lets go of the functions that data sets are made from,
    nor of the arrays that those read, and a file may be predicted in thousands of pieces.
    """
    order = np.argsort(steps, kind="stable")
    bounds = np.searchsorted(steps[order], np.arange(steps.max(initial=-1) + 2))
    parts = (where.examples, where.packed_rows, where.starts, where.numbers, where.reads)
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        indices = order[begin:end]
        step = Step((shape.packed_rows, shape.length, shape.reads), *(a[0][indices] for a in parts))
        yield fill(step, tokens, reads)


def predicted(outputs: np.ndarray, reads: Reads, where: Placement, steps: np.ndarray) -> np.ndarray:
    """The outputs of each place that is read, float32 [M of all, C], in the order of `reads`.

    Args:
        outputs: of all steps, one after the other, [S * R, M, C].
        reads: what is read.
        where, steps: of `prediction_steps`.
    """
    examples, packed_rows = where.examples[0], len(outputs) // (int(steps.max()) + 1)
    which, within = each(reads.offsets, examples)
    result = np.empty((len(reads.places), outputs.shape[-1]), np.float32)
    packed_row = (steps * packed_rows + where.packed_rows[0])[which]
    result[reads.offsets[examples][which] + within] = outputs[packed_row, where.reads[0][which] + within]
    return result
