"""Layer-wise decay, averaged weights and LoRA equal references of a few lines, and resume to the last bit."""

import numpy as np
import pytest
from test_train import Killed, _die_before, assert_same_run, settings_with

from kft import config as configs
from kft import controls, models, optim, presets, tasks, train
from kft.errors import KftError

keras = optim.keras  # kft has chosen the backend before it is imported


def build(folder, **options):
    return models.build(presets.locate(str(folder)), "classification", ["a", "b"], 2, **options)


def test_layer_decay_is_beits(tiny_preset):
    model = build(tiny_preset)
    rates = controls.decayed_rates(model, 0.5)
    expected = {
        "token_embedding": 0.125,
        "transformer_layer_0": 0.25,
        "transformer_layer_1": 0.5,
        "head": 1.0,
    }
    for part, rate in expected.items():
        found = {rates[id(v)] for v in model.trainable_variables if part in v.path}
        assert found == {rate}, part
    assert len(rates) == len(model.trainable_variables)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_updates_are_those_of_an_optimizer_at_the_scaled_rate(name):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, 4, 3)).astype(np.float32)
    both = [keras.Variable(value, name="kernel") for value in start]
    common = {"steps": 9, "weight_decay": 0.1}
    scaled = optim.build(name, learning_rate=0.01, rates={id(both[0]): 0.25}, **common)
    scaled.build(both)
    alone = [keras.Variable(value, name="kernel") for value in start]
    plain = [optim.build(name, learning_rate=rate, **common) for rate in (0.0025, 0.01)]
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
    optimizer = optim.build("sgd", learning_rate=0.1, steps=9, ema_momentum=0.7)
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


def test_lora_is_kernel_plus_scaled_product_and_is_merged_when_saved(tiny_preset, tmp_path):
    model, plain = build(tiny_preset, lora_rank=2, lora_alpha=6.0), build(tiny_preset)
    names = {v.path.split("/")[-1] for v in model.trainable_variables}
    assert names == {"lora_kernel_a", "lora_kernel_b", "kernel", "bias"}  # the latter of pooler and head
    rng = np.random.default_rng(0)
    for ours, before in zip(
        model.backbone.transformer_layers, plain.backbone.transformer_layers, strict=True
    ):
        for name in ("_query_dense", "_value_dense"):
            dense, start = (getattr(layer._self_attention_layer, name) for layer in (ours, before))
            dense.lora_kernel_b.assign(rng.normal(size=dense.lora_kernel_b.shape))
            a, b = np.asarray(dense.lora_kernel_a.value), np.asarray(dense.lora_kernel_b.value)
            expected = np.asarray(start.kernel.value) + 6.0 / 2 * a @ b
            np.testing.assert_allclose(np.asarray(dense.kernel), expected, atol=1e-5)
            start.kernel.assign(expected)
    models.save(model, tmp_path / "model.weights.h5")
    loaded = build(tiny_preset)
    models.load_weights(loaded, tmp_path / "model.weights.h5")
    # `weights` leaves out the seeds' states, which the file need not bring back.
    for ours, reference in zip(loaded.backbone.weights, plain.backbone.weights, strict=True):
        np.testing.assert_allclose(np.asarray(ours.value), np.asarray(reference.value), atol=1e-5)


def test_a_killed_run_with_controls_ends_as_if_nothing_had_happened(tiny_settings, tmp_path, monkeypatch):
    config = settings_with(
        tiny_settings,
        train={"checkpoint_every_steps": 3, "layer_decay": 0.8, "ema_momentum": 0.5},
        model={"lora_rank": 2},
    )
    train.train(config, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        _die_before(patched, "Recorder.on_train_batch_end", 14)
        train.train(config, tmp_path / "killed")
    train.resume(tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_combinations_that_exclude_each_other_are_told_at_once():
    settings = {
        "data": {"source": "bbc_news"},
        "model": {"lora_rank": 2, "freeze_layers": 1},
        "train": {"ema_momentum": 0.9, "gradient_accumulation_steps": 2},
    }
    with pytest.raises(KftError, match="2 to fix"):
        configs.parse(settings)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_the_papers(gamma):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 2, 4)).astype(np.float32), rng.integers(0, 4, (3, 2))
    weights = np.array([[1, 1], [1, 0], [0.5, 0]], np.float32)
    total = 0.0
    for row, target, weight in zip(logits.reshape(-1, 4), targets.flat, weights.flat, strict=True):
        p = np.exp(row[target]) / np.exp(row).sum()
        total -= weight * (1 - p) ** gamma * np.log(p)
    found = tasks.TASKS["classification"].loss(0.0, gamma)(targets, logits, sample_weight=weights)
    assert float(found) == pytest.approx(total / weights.sum(), rel=1e-5)


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
