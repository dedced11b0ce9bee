"""An update is Σ weight · loss / Σ weight over all of it: steps, packed rows, devices."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import sentences, write_csv
from optimizers import build_optimizer
from safetensors.numpy import load_file
from test_controls import build, packed_batch
from test_train import history, settings_with

from kft import batches, runs, train
from kft.models import losses
from kft.train import optim, updates

keras = optim.keras  # kft has chosen the backend before it is imported

UNEQUAL = {"positive": 0.3, "negative": 5.0}
EPOCHS = 6


def settings_of(tiny_settings: dict, file: Path, batch_size: int, **changes):
    """Eight examples are one update, in any number of steps, so updates are the same."""
    section = {
        "epochs": EPOCHS, "batch_size": batch_size, "gradient_accumulation_steps": -(-8 // batch_size),
        "class_weight": UNEQUAL, "epsilon": 1e-3, "keep_checkpoints": True, "schedule": "constant",
    }  # fmt: skip
    return settings_with(
        tiny_settings,
        data={"train": str(file), "validation": str(file)},
        model={"dropout": 0.0},
        train=section | changes,
    )


@pytest.fixture(scope="module")
def eight(tmp_path_factory) -> Path:
    return write_csv(tmp_path_factory.mktemp("eight") / "films.csv", sentences(8))


@pytest.fixture(scope="module")
def whole(eight, tiny_settings, tmp_path_factory) -> Path:
    """A run whose updates are single steps."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train.train(settings_of(tiny_settings, eight, 8), folder)
    return folder


def last_weights(run: Path, checkpoint: int = -1) -> dict[str, np.ndarray]:
    """The weights after a run's last epoch, best or not; of the epoch before with -2."""
    arrays = load_file(runs.checkpoint_files(runs.RunDir(run))[checkpoint])
    return {
        name: array
        for name, array in arrays.items()
        if name.startswith("model/") and array.dtype == np.float32
    }


def assert_same_weights(a: Path, b: Path) -> None:
    one, other, before = last_weights(a), last_weights(b), last_weights(a, -2)
    assert max(np.abs(one[name] - before[name]).max() for name in one) > 1e-4  # they do change
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("batch_size", "packing"), [(8, False), (4, True), (4, False), (2, True), (1, True), (1, False)]
)
def test_however_many_steps_an_update_takes(whole, eight, tiny_settings, tmp_path, batch_size, packing):
    train.train(settings_of(tiny_settings, eight, batch_size, packing=packing), tmp_path / "run")
    assert_same_weights(whole, tmp_path / "run")
    losses = [
        [line["train_loss"] for line in history(run, "evaluation")] for run in (whole, tmp_path / "run")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.parametrize("batch_size", [8, 2])
def test_on_eight_devices(whole, eight, tiny_settings, tmp_path, batch_size):
    from kft import config as configs

    (tmp_path / "config.toml").write_text(configs.dump(settings_of(tiny_settings, eight, batch_size)))
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = ["train", str(tmp_path / "config.toml"), "--run", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "kft.cli", *command], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert_same_weights(whole, tmp_path / "run")


def test_steps_of_unequal_size(eight, tiny_settings, tmp_path):
    """Eight examples in steps of 3, 3 and 2 are one update of 8."""
    train.train(settings_of(tiny_settings, eight, 8), tmp_path / "whole")
    train.train(settings_of(tiny_settings, eight, 3), tmp_path / "parts")
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_the_last_update_of_a_run_takes_what_is_left():
    """Six steps, four to an update: the second has two gradients of 1, and two of 0."""
    variable = keras.Variable(np.zeros(1, np.float32), name="kernel")
    optimizer = build_optimizer("sgd", learning_rate=1.0, steps=6, gradients_per_update=4)
    optimizer.build([variable])
    for _ in range(6):
        optimizer.apply([keras.ops.ones((1,))], [variable])
    assert float(variable.value[0]) == -1
    model = SimpleNamespace(optimizer=optimizer, trainable_variables=[variable])
    updates.complete_last(model, SimpleNamespace(gradients_per_update=4), steps=6)
    assert float(variable.value[0]) == -1.5
    updates.complete_last(model, SimpleNamespace(gradients_per_update=4), steps=8)  # nothing is lacking
    assert float(variable.value[0]) == -1.5


def test_questions_whose_right_choice_alone_has_a_weight(tiny_settings, tmp_path):
    rows = [(text, i // 2, i % 2) for i, (text, _) in enumerate(sentences(8))]
    file = str(write_csv(tmp_path / "questions.csv", rows, ("text", "question", "label")))
    for name, size in (("whole", 4), ("parts", 1)):
        section = {"batch_size": size, "gradient_accumulation_steps": 4 // size, "epochs": 3, "epsilon": 1e-3}
        section |= {"keep_checkpoints": True, "schedule": "constant"}
        config = settings_with(
            tiny_settings,
            task="choice",
            data={"train": file, "validation": file, "group": "question"},
            model={"dropout": 0.0},
            train=section,
        )
        train.train(config, tmp_path / name)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_the_second_mask_counts_by_the_share_too(tiny_preset):
    model = build(tiny_preset, r_drop_alpha=30.0, dropout=0.5)
    model.compile(loss=losses.LOSSES["cross_entropy"]())
    inputs, targets, weights = packed_batch()
    state = np.asarray(model.seed_generator.state.value)
    got = []
    for more in ({}, {"share": np.full(2, 1.5, np.float32)}):
        model.seed_generator.state.assign(state)
        outputs = model(inputs, training=True)
        got.append(float(model.compute_loss(inputs | more, targets, outputs, weights, training=True)))
    assert got[1] == pytest.approx(1.5 * got[0], rel=1e-6)
    assert float(model.mean_loss.result()) == pytest.approx(got[0], rel=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "accumulated", "epochs"), [(3, 2, 3), (4, 7, 2), (5, 1, 2), (2, 100, 1)]
)
def test_shares_add_up(batch_size, accumulated, epochs):
    """By a plain loop over the run's steps."""
    rng = np.random.default_rng(0)
    weights = rng.random(17) * (rng.random(17) > 0.3)
    plan = batches.plan(rng.integers(3, 9, 17), batch_size, epochs, seed=3)
    totals = [
        sum(weights[i] for i in step if i >= 0)
        for e in range(epochs)
        for step in batches.placement(plan, e).examples
    ]
    got = np.concatenate([updates.shares(plan, weights, e, epochs, accumulated) for e in range(epochs)])
    for begin in range(0, len(totals), accumulated):
        members = totals[begin : begin + accumulated]
        expected = [accumulated * total / sum(members) if sum(members) else 0 for total in members]
        np.testing.assert_allclose(got[begin : begin + accumulated], expected, rtol=1e-5)


def test_an_update_without_weight_has_no_share():
    plan = batches.plan(np.full(8, 4), 2, 1, seed=0)
    assert updates.shares(plan, np.zeros(8), 0, 1, 2).tolist() == [0, 0, 0, 0]


def test_unequal_weights_are_logged_as_the_mean_they_are(whole, eight, tiny_settings, tmp_path):
    """The first line of a run of one example a step, before it learns, over all examples."""
    config = settings_of(tiny_settings, eight, 1, learning_rate=1e-12, epochs=1, log_every_steps=3)
    train.train(config, tmp_path / "run")
    lines = history(tmp_path / "run", "train")
    assert [line["step"] for line in lines] == [3, 6, 8]
    first = history(whole, "train")[0]["loss"]
    assert history(tmp_path / "run", "evaluation")[0]["train_loss"] == pytest.approx(first, rel=1e-5)
