"""Every example once an epoch, whole, in its own place; order from (seed, epoch) alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft import batches
from kft.tasks.record import Reads, read_first
from kft.text import Tokens


def make_tokens(lengths, seed: int = 0) -> Tokens:
    rng = np.random.default_rng(seed)
    lengths = np.asarray(lengths)
    return Tokens(
        ids=rng.integers(1, 1000, lengths.sum()).astype(np.int32),
        offsets=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        second_starts=(lengths // 2).astype(np.int32),
        full_lengths=lengths.astype(np.int32),
    )


def first(targets: np.ndarray, weights: np.ndarray | None = None) -> Reads:
    """The first token of each example is read."""
    weights = np.ones(len(targets), np.float32) if weights is None else weights
    return read_first(len(targets), targets=targets, weights=weights)


def read_back(inputs: dict, target, weight) -> list[tuple[tuple[int, ...], int]]:
    """(token ids, target) of a step's examples as the encoder reads them; checks all arrays."""
    examples = []
    for r in range(inputs["token_ids"].shape[0]):
        for k in range(inputs["reads"].shape[1]):
            if weight[r, k] == 0:
                assert not (inputs["example_ids"][r] == k + 1).any()
                continue
            places = np.flatnonzero(inputs["example_ids"][r] == k + 1)
            assert places[0] == inputs["reads"][r, k]
            assert (np.diff(places) == 1).all()
            assert (inputs["positions"][r, places] == np.arange(len(places))).all()
            assert (inputs["segment_ids"][r, places] == (np.arange(len(places)) >= len(places) // 2)).all()
            examples.append((tuple(inputs["token_ids"][r, places].tolist()), int(target[r, k])))
    padding = inputs["example_ids"] == 0
    assert not inputs["token_ids"][padding].any()
    return examples


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=90),
    batch_size=st.integers(1, 17),
    packed=st.booleans(),
    devices=st.sampled_from([1, 2, 4]),
)
def test_every_example_is_seen_once_an_epoch(lengths, batch_size, packed, devices):
    tokens = make_tokens(lengths)
    targets = np.arange(len(lengths), dtype=np.int32)
    plan = batches.plan(np.array(lengths), batch_size, 2, 7, packed=packed, devices=devices)
    assert plan.packed_rows % devices == 0
    for epoch in range(2):
        steps = list(batches.dataset(plan, tokens, first(targets), epoch))
        seen = [read_back(*step) for step in steps]
        counts = [len(step) for step in seen]
        assert counts[:-1] == [batch_size] * (plan.steps - 1)
        assert sum(counts) == len(lengths)
        for ids, target in sum(seen, []):
            assert ids == tuple(tokens.ids[tokens.offsets[target] : tokens.offsets[target + 1]].tolist())
        assert sorted(target for _, target in sum(seen, [])) == targets.tolist()


def test_order_is_a_function_of_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(5, 50, 100)
    plan = batches.plan(lengths, 16, 3, 1)
    again = batches.plan(lengths, 16, 3, 1)
    assert (batches.placement(plan, 2).examples == batches.placement(again, 2).examples).all()
    assert (batches.placement(plan, 0).examples != batches.placement(plan, 1).examples).any()
    other = batches.plan(lengths, 16, 3, 2)
    assert (batches.placement(plan, 0).examples != batches.placement(other, 0).examples).any()


def test_resumed_epoch_goes_on_with_the_same_steps():
    tokens = make_tokens(np.random.default_rng(0).integers(5, 50, 100))
    plan = batches.plan(np.diff(tokens.offsets), 16, 1, 0)
    targets, weights = np.arange(100, dtype=np.int32), np.ones(100, np.float32)
    whole = list(batches.dataset(plan, tokens, first(targets, weights), 0))
    rest = list(batches.dataset(plan, tokens, first(targets, weights), 0, first_step=4))
    assert len(rest) == len(whole) - 4
    for a, b in zip(whole[4:], rest, strict=True):
        assert all((a[0][name] == b[0][name]).all() for name in batches.INPUT_NAMES)
        assert (a[1] == b[1]).all()


def test_regression_targets_have_the_shape_of_the_predictions():
    tokens = make_tokens([4, 5, 6])
    plan = batches.plan(np.array([4, 5, 6]), 3, 1, 0)
    targets = np.array([[0.5], [1.5], [2.5]], np.float32)
    _, placed, weights = next(batches.dataset(plan, tokens, first(targets), 0))
    assert placed.shape == (*weights.shape, 1)
    assert placed.sum() == 4.5


def test_class_weights_reach_the_batch():
    tokens = make_tokens([4, 5, 6])
    plan = batches.plan(np.array([4, 5, 6]), 3, 1, 0)
    weights = np.array([0.5, 2.0, 4.0], np.float32)
    _, _, placed = next(batches.dataset(plan, tokens, first(np.zeros(3, np.int32), weights), 0))
    assert sorted(placed[placed > 0].tolist()) == [0.5, 2.0, 4.0]


@pytest.mark.parametrize("mean", [12, 25, 60])
def test_rows_are_nearly_full_and_steps_nearly_equal(mean):
    rng = np.random.default_rng(mean)
    lengths = np.clip(rng.gamma(4, mean / 4, 4000).astype(int), 3, 128)
    plan = batches.plan(lengths, 32, 2, 0)
    assert plan.filled > 0.93
    totals = lengths[batches.placement(plan, 0).examples].sum(axis=1)
    assert totals.max() / totals.mean() < 1.06


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 128), min_size=1, max_size=200),
    step_tokens=st.sampled_from([128, 700, 4096]),
)
def test_prediction_holds_every_example_once(lengths, step_tokens):
    tokens = make_tokens(lengths)
    shape, reads = batches.prediction_shape(np.array(lengths), 128, step_tokens), read_first(len(lengths))
    where, steps = batches.prediction_steps(tokens, shape, reads)
    got = {}
    for number, (inputs,) in enumerate(batches.prediction_batches(tokens, reads, shape, where, steps)):
        for i in np.flatnonzero(steps == number):
            r, k = where.packed_rows[0, i], where.numbers[0, i]
            example = where.examples[0, i]
            ids = inputs["token_ids"][r, inputs["example_ids"][r] == k + 1]
            assert inputs["reads"][r, k] == where.starts[0, i]
            got[example] = ids.tolist()
    for example in range(len(lengths)):
        assert got[example] == tokens.ids[tokens.offsets[example] : tokens.offsets[example + 1]].tolist()


def test_prediction_shapes_are_few():
    assert batches.prediction_shape(np.array([3, 40]), 512, 4096) == batches.PredictionShape(64, 64, 8)
    assert batches.prediction_shape(np.array([65]), 512, 4096).length == 80
    assert batches.prediction_shape(np.array([65]), 512, 4096, devices=8).packed_rows % 8 == 0


def several(counts: np.ndarray, lengths: np.ndarray, seed: int = 0, rivals: str | None = None) -> Reads:
    """A task for the test: so many places of each example are read, each with a target."""
    rng = np.random.default_rng(seed)
    places = [np.sort(rng.permutation(n)[:count]) for count, n in zip(counts, lengths, strict=True)]
    total = int(counts.sum())
    return Reads(
        offsets=np.r_[0, np.cumsum(counts)].astype(np.int64),
        places=np.concatenate([*places, np.zeros(0, int)]).astype(np.int32),
        targets=np.arange(1, total + 1, dtype=np.int32)[:, None],
        weights=rng.uniform(0.5, 2, total).astype(np.float32),
        rivals=rivals,
    )


EXAMPLES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    examples=EXAMPLES,
    batch_size=st.integers(1, 9),
    packed=st.booleans(),
    rivals=st.sampled_from([None, "example"]),
)
def test_several_places_of_an_example_keep_their_targets_and_weights(examples, batch_size, packed, rivals):
    lengths = np.array([length for length, _ in examples])
    counts = np.minimum([count for _, count in examples], lengths)
    tokens, reads = make_tokens(lengths), several(counts, lengths, rivals=rivals)
    owner = np.repeat(np.arange(len(lengths)), counts)
    plan = batches.plan(lengths, batch_size, 1, 3, packed=packed, reads=reads)
    got = []
    for inputs, targets, weights in batches.dataset(plan, tokens, reads, 0):
        groups: dict[int, set[int]] = {}
        for r, m in zip(*np.nonzero(weights), strict=True):
            read = int(targets[r, m, 0]) - 1
            example, place = owner[read], inputs["reads"][r, m]
            assert weights[r, m] == reads.weights[read]
            # The place holds the token that was meant, in the example that was meant.
            assert inputs["positions"][r, place] == reads.places[read]
            assert inputs["token_ids"][r, place] == tokens.ids[tokens.offsets[example] + reads.places[read]]
            same = inputs["example_ids"][r] == inputs["example_ids"][r, place]
            assert same.sum() == lengths[example]
            if rivals:
                groups.setdefault(int(targets[r, m, -1]), set()).add(int(example))
            got.append(read)
        assert all(len(owners) == 1 for owners in groups.values()) and 0 not in groups
    assert sorted(got) == list(range(counts.sum()))


@settings(max_examples=60, deadline=None)
@given(examples=EXAMPLES, step_tokens=st.sampled_from([64, 500]))
def test_predictions_come_back_by_place(examples, step_tokens):
    lengths = np.array([length for length, _ in examples])
    counts = np.minimum([count for _, count in examples], lengths)
    tokens, reads = make_tokens(lengths), replace(several(counts, lengths), targets=None)
    shape = batches.prediction_shape(lengths, 64, step_tokens, counts=counts)
    where, steps = batches.prediction_steps(tokens, shape, reads)
    # A model that answers with the token that it reads.
    outputs = [
        np.take_along_axis(inputs["token_ids"], inputs["reads"], axis=1)[:, :, None]
        for (inputs,) in batches.prediction_batches(tokens, reads, shape, where, steps)
    ]
    answers = batches.predicted(np.concatenate(outputs), reads, where, steps)
    owner = np.repeat(np.arange(len(lengths)), counts)
    assert answers[:, 0].tolist() == tokens.ids[tokens.offsets[owner] + reads.places].tolist()
