"""Every training control equals a reference of a few lines, and resumes to the last bit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import build_model, run_kft
from optimizers import build_optimizer
from scipy.stats import entropy
from test_train import assert_resumed_alike, settings_with

from kft import config as configs
from kft import models, train
from kft.errors import KftError
from kft.models import losses, presets
from kft.train import controls, optim

keras = optim.keras  # kft has chosen the backend before it is imported


def build(folder, **options):
    return build_model(presets.locate(str(folder)), "classification", ["a", "b"], 2, **options)


def assert_by_part(model, values: dict[int, float], expected: dict[str, float]) -> None:
    """Each variable, by its id, has the value expected of its part, and no other."""
    for part, value in expected.items():
        assert {values[id(v)] for v in model.trainable_variables if part in v.path} == {value}, part
    assert len(values) == len(model.trainable_variables)


def test_layer_decay_is_beits(tiny_preset):
    model = build(tiny_preset)
    rates = controls.decayed_rates(model, 0.5)
    expected = {
        "token_embedding": 0.125,
        "transformer_layer_0": 0.25,
        "transformer_layer_1": 0.5,
        "head": 1.0,
    }
    assert_by_part(model, rates, expected)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_updates_are_those_of_an_optimizer_at_the_scaled_rate(name):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, 4, 3)).astype(np.float32)
    both = [keras.Variable(value, name="kernel") for value in start]
    common = {"steps": 9, "weight_decay": 0.1}
    scaled = build_optimizer(name, learning_rate=0.01, rates={id(both[0]): 0.25}, **common)
    scaled.build(both)
    alone = [keras.Variable(value, name="kernel") for value in start]
    plain = [build_optimizer(name, learning_rate=rate, **common) for rate in (0.0025, 0.01)]
    for optimizer, variable in zip(plain, alone, strict=True):
        optimizer.build([variable])
    for _ in range(9):
        gradients = [keras.ops.convert_to_tensor(g) for g in rng.normal(size=start.shape).astype(np.float32)]
        scaled.apply(gradients, both)
        for optimizer, gradient, variable in zip(plain, gradients, alone, strict=True):
            optimizer.apply([gradient], [variable])
    for ours, reference in zip(both, alone, strict=True):
        np.testing.assert_allclose(np.asarray(ours.value), np.asarray(reference.value), atol=1e-6)


def test_average_is_the_moving_average_of_the_weights_after_each_step():
    rng = np.random.default_rng(0)
    value = rng.normal(size=(4, 3)).astype(np.float32)
    variable = keras.Variable(value, name="kernel")
    optimizer = build_optimizer("sgd", learning_rate=0.1, steps=9, ema_momentum=0.7)
    optimizer.build([variable])
    average = None
    for _ in range(9):
        gradient = rng.normal(size=(4, 3)).astype(np.float32)
        value = value - 0.1 * gradient
        average = value if average is None else 0.7 * average + 0.3 * value
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    model = type("Model", (), {"optimizer": optimizer})
    optimizer.finalize_variable_values([variable])  # as `fit` does at its end
    with controls.averaged(model):
        np.testing.assert_allclose(np.asarray(variable.value), average, atol=1e-6)
    np.testing.assert_allclose(np.asarray(variable.value), value, atol=1e-6)


@pytest.mark.parametrize(
    ("controlled", "model"),
    [
        ({"layer_decay": 0.8, "ema_momentum": 0.5}, {"lora_rank": 2}),
        ({"unfreeze_every_epochs": 0.5, "layer_decay": 0.8, "ema_momentum": 0.5, "r_drop_alpha": 1.0}, {}),
        (
            {
                "optimizer": "optax:adafactor", "optax": {"min_dim_size_to_factor": 4, "momentum": 0.9},
                "gradient_accumulation_steps": 2, "layer_decay": 0.8,
            },
            {},
        ),
    ],
)  # fmt: skip
def test_a_killed_run_with_controls_ends_as_if_nothing_had_happened(
    tiny_settings, tmp_path, monkeypatch, controlled, model
):
    config = settings_with(tiny_settings, train={"checkpoint_every_steps": 3} | controlled, model=model)
    assert_resumed_alike(config, tmp_path, monkeypatch, step=14)


@pytest.mark.parametrize(
    ("model", "controlled", "message"),
    [
        ({"lora_rank": 2, "freeze_layers": 1}, {}, "`model.lora_rank` keeps the whole encoder fixed"),
        ({}, {"ema_momentum": 0.9, "gradient_accumulation_steps": 2}, "needs `train.gradient_accumulation_steps` = 1"),
        ({"lora_rank": 2}, {"unfreeze_every_epochs": 1.0}, "leave `model.lora_rank` out"),
        ({"freeze_layers": 1}, {"unfreeze_every_epochs": 1.0}, "leave `model.freeze_layers` out"),
        ({"dropout": 0.0}, {"r_drop_alpha": 1.0}, "two dropout masks, and `model.dropout` is 0"),
        ({}, {"optimizer": "optax:lion", "unfreeze_every_epochs": 1.0}, "needs an optimizer of Keras"),
    ],
)  # fmt: skip
def test_combinations_that_exclude_each_other_are_reported_at_once(model, controlled, message):
    with pytest.raises(KftError, match="1 to fix") as error:
        configs.parse({"data": {"source": "bbc_news"}, "model": model, "train": controlled})
    assert message in error.value.message


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_the_papers(gamma):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 2, 4)).astype(np.float32), rng.integers(0, 4, (3, 2))
    weights = np.array([[1, 1], [1, 0], [0.5, 0]], np.float32)
    total = 0.0
    for row, target, weight in zip(logits.reshape(-1, 4), targets.flat, weights.flat, strict=True):
        p = np.exp(row[target]) / np.exp(row).sum()
        total -= weight * (1 - p) ** gamma * np.log(p)
    got = losses.LOSSES["focal"](gamma)(targets, logits, sample_weight=weights)
    assert float(got) == pytest.approx(total / weights.sum(), rel=1e-5)


def test_new_top_layers_are_drawn_and_the_others_kept(tiny_preset):
    model, again, plain = (
        build(tiny_preset, reinit_layers=1),
        build(tiny_preset, reinit_layers=1),
        build(tiny_preset),
    )
    for ours, same, before in zip(
        model.backbone.weights, again.backbone.weights, plain.backbone.weights, strict=True
    ):
        new = "transformer_layer_1" in ours.path or "pooled_dense" in ours.path
        value = np.asarray(ours.value)
        np.testing.assert_array_equal(value, np.asarray(same.value))
        assert np.array_equal(value, np.asarray(before.value)) != new, ours.path
        if new:
            center = 1 if ours.name == "gamma" else 0
            assert np.abs(value - center).max() <= (0.05 if "kernel" in ours.path else 0), ours.path
    with pytest.raises(KftError, match="2 layers"):
        build(tiny_preset, reinit_layers=2, freeze_layers=1)


def test_schedule_counts_updates_whatever_the_accumulation():
    variable = keras.Variable(np.zeros(1, np.float32), name="kernel")
    optimizer = build_optimizer("sgd", learning_rate=1.0, steps=8, schedule="linear", gradients_per_update=2)
    optimizer.build([variable])
    for _ in range(8):
        optimizer.apply([keras.ops.ones((1,))], [variable])
    # 4 updates, at rates 1, 3/4, 1/2 and 1/4.
    assert float(variable.value[0]) == pytest.approx(-2.5)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_unfreezing_is_torchs_with_parameters_that_join_later(accumulation):
    import torch

    rng = np.random.default_rng(0)
    thaws, start = [0, 3, 6], rng.normal(size=(3, 4, 3)).astype(np.float32)
    ours = [keras.Variable(value, name="kernel") for value in start]
    optimizer = build_optimizer(
        "adamw", learning_rate=0.01, steps=12 * accumulation, weight_decay=0.1, clip_norm=1.0,
        gradients_per_update=accumulation, thaws={id(v): n for v, n in zip(ours, thaws, strict=True)},
    )  # fmt: skip
    optimizer.build(ours)
    theirs = [torch.nn.Parameter(torch.tensor(value)) for value in start]
    reference = torch.optim.AdamW([theirs[0]], lr=0.01, weight_decay=0.1)
    for update in range(12):
        gradients = rng.normal(size=start.shape).astype(np.float32)
        for _ in range(accumulation):
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], ours)
        if update in thaws[1:]:
            reference.add_param_group({"params": [theirs[thaws.index(update)]]})
        live = [p for p, thaw in zip(theirs, thaws, strict=True) if thaw <= update]
        for parameter, gradient in zip(live, gradients, strict=False):
            parameter.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_(live, 1.0)
        reference.step()
        for variable, value, thaw in zip(ours, start, thaws, strict=True):
            assert (np.asarray(variable.value).tobytes() == value.tobytes()) == (update < thaw)
    for variable, parameter in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(variable.value), parameter.detach().numpy(), atol=1e-5)


def test_layers_thaw_from_the_top(tiny_preset):
    model = build(tiny_preset)
    thaws = controls.thaw_updates(model, 2.5)
    expected = {
        "token_embedding": 8,
        "transformer_layer_0": 5,
        "transformer_layer_1": 2,
        "pooled_dense": 0,
        "head": 0,
    }
    assert_by_part(model, thaws, expected)
    never = controls.thaw_updates(model, 1e12)  # beyond what a step of 32 bits counts
    assert sorted(set(never.values())) == [0, 2**31 - 1]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_frozen_layers_end_as_they_began(tiny_settings, tiny_preset, tmp_path, capsys, backend):
    changes = {"epochs": 1, "unfreeze_every_epochs": 0.5, "r_drop_alpha": 1.0}
    config = settings_with(tiny_settings, train=changes)
    if backend == "jax":
        train.train(config, tmp_path / "run")
        assert "a layer more every 0.5 epochs; the lowest 2 (embeddings" in capsys.readouterr().err
    else:
        (tmp_path / "config.toml").write_text(configs.dump(config))
        done = run_kft(
            "train", str(tmp_path / "config.toml"), "--backend", "torch", "--run", str(tmp_path / "run")
        )
        assert done.returncode == 0, done.stderr
    trained, start = build(tiny_preset), build(tiny_preset)
    models.load_weights(trained, tmp_path / "run" / "model.weights.h5")
    for ours, before in zip(trained.weights, start.weights, strict=True):
        if "seed" not in ours.path:
            thawed = any(part in ours.path for part in ("transformer_layer_1", "pooled_dense", "head"))
            kept = np.asarray(ours.value).tobytes() == np.asarray(before.value).tobytes()
            assert kept != thawed, ours.path


def packed_batch() -> tuple:
    """Inputs, targets [2, 2] and weights of three examples in two rows."""
    ids = [[2, 5, 12, 3, 2, 8, 3, 0], [2, 11, 13, 10, 12, 3, 0, 0]]
    inputs = {
        "token_ids": ids,
        "positions": [[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5, 0, 0]],
        "segment_ids": np.zeros((2, 8)),
        "example_ids": [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 0, 0]],
        "reads": [[0, 4], [0, 0]],
    }
    weights = np.array([[1, 1], [0.5, 0]], np.float32)
    return (
        {k: np.array(v, np.int32) for k, v in inputs.items()},
        np.array([[1, 0], [1, 0]], np.int32),
        weights,
    )


def test_r_drop_is_the_papers(tiny_preset):
    """A step's gradient on JAX is that of two passes by hand, with the same dropout seed."""
    import jax
    import jax.numpy as jnp

    model = build(tiny_preset, r_drop_alpha=30.0, dropout=0.5)
    inputs, targets, weights = packed_batch()
    optimizer = build_optimizer("sgd", learning_rate=1.0, steps=1)
    model.compile(optimizer=optimizer, loss=losses.LOSSES["cross_entropy"]())
    optimizer.build(model.trainable_variables)
    parts = (
        model.trainable_variables, model.non_trainable_variables, optimizer.variables, model.metrics_variables
    )  # fmt: skip
    trained, others, *more = ([v.value for v in part] for part in parts)

    def by_hand(trained):
        one, after = model.stateless_call(trained, others, inputs, training=True)
        two, _ = model.stateless_call(trained, after, inputs, training=True)
        p, q = (jax.nn.log_softmax(logits) for logits in (one, two))
        picked = [jnp.take_along_axis(x, targets[..., None], axis=-1)[..., 0] for x in (p, q)]
        entropy = -(picked[0] + picked[1]) / 2
        apart = ((jnp.exp(p) * (p - q)).sum(-1) + (jnp.exp(q) * (q - p)).sum(-1)) / 2
        return ((entropy + 30.0 * apart) * weights).sum() / weights.sum(), apart

    (loss, apart), gradients = jax.value_and_grad(by_hand, has_aux=True)(trained)
    assert apart.max() > 1e-4  # the two masks differ
    logs, state = model.train_step((trained, others, *more), (inputs, targets, weights))
    assert float(logs["loss"]) == pytest.approx(float(loss), rel=1e-5)
    for before, after, gradient in zip(trained, state[0], gradients, strict=True):
        np.testing.assert_allclose(before - after, gradient, atol=1e-5)


def test_r_drop_on_torch_is_that_of_its_own_functions(tiny_preset):
    code = f"""
import os, sys
os.environ["KERAS_BACKEND"] = "torch"
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
import torch.nn.functional as F
from test_controls import build, keras, losses, packed_batch
model = build({str(tiny_preset)!r}, r_drop_alpha=30.0, dropout=0.5)
inputs, y, weights = (keras.tree.map_structure(torch.tensor, part) for part in packed_batch())
model.compile(loss=losses.LOSSES["cross_entropy"]())
first = model(inputs, training=True)
seed = model.seed_generator.state.value.clone()
loss = model.compute_loss(inputs, y, first, weights, training=True)
model.seed_generator.state.assign(seed)
logits = [x.reshape(4, 2) for x in (first, model(inputs, training=True))]
entropy = sum(F.cross_entropy(x, y.reshape(4).long(), reduction="none") for x in logits) / 2
p, q = (x.log_softmax(1) for x in logits)
apart = sum(F.kl_div(a, b, log_target=True, reduction="none").sum(1) for a, b in ((p, q), (q, p))) / 2
expected = ((entropy + 30 * apart) * weights.reshape(4)).sum() / weights.sum()
assert apart.max() > 1e-4 and torch.allclose(loss, expected, rtol=1e-5), (loss, expected, apart)
variables = [v.value for v in model.trainable_variables]
for ours, theirs in zip(*(torch.autograd.grad(x, variables, retain_graph=True) for x in (loss, expected))):
    assert torch.allclose(ours, theirs, atol=1e-5)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_divergence_of_choices_and_scores():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 2, 3, 1)).astype(np.float32)
    question = np.array([[1, 2, 1], [2, 1, 0]])  # 0: an empty slot
    got = np.asarray(losses.DIVERGENCES["rivals"](np.stack([question > 0, question], -1), one, two))
    for number in (1, 2):
        mask = question == number
        p, q = (np.exp(x[..., 0][mask]) / np.exp(x[..., 0][mask]).sum() for x in (one, two))
        np.testing.assert_allclose(got[mask], (entropy(p, q) + entropy(q, p)) / 2, rtol=1e-4)
    squared = losses.DIVERGENCES["values"](None, one, two)
    np.testing.assert_allclose(np.asarray(squared), (one - two)[..., 0] ** 2, rtol=1e-5)
