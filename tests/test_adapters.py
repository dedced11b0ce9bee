"""Low-rank adapters do what peft's do, are merged and kept, and go to peft and come from it."""

import numpy as np
import pytest
from test_train import Killed, _die_before, assert_same_run, settings_with

from kft import models, runs, train
from kft.errors import KftError
from kft.models import adapters, low_rank, presets
from kft.train import optim

keras = optim.keras  # kft has chosen the backend before it is imported

EVERY = ("query", "key", "value", "output", "feedforward")
VARIANTS = [
    {"rank": 2, "alpha": 6.0},
    {"rank": 4, "alpha": 6.0, "rank_stabilised": True, "targets": EVERY},
    {"rank": 2, "alpha": 6.0, "dora": True, "targets": EVERY},
]


def build(folder, lora: dict | None = None, **options):
    start = models.Start(lora=models.Lora(**lora) if lora else None, **options)
    return models.build(presets.locate(str(folder)), models.Goal("classification", 2, ("a", "b")), start)


def perturb(model, seed: int = 0) -> None:
    """Adapters as if they had been trained."""
    rng = np.random.default_rng(seed)
    for adapter in model.adapters.values():
        for variable in adapter.variables:
            noise = rng.normal(scale=0.3, size=variable.shape).astype(np.float32)
            variable.assign(np.asarray(variable.value) + noise)


def batch() -> dict[str, np.ndarray]:
    """Two rows, three examples."""
    inputs = {
        "token_ids": [[2, 5, 12, 3, 2, 8, 3, 0], [2, 11, 13, 10, 12, 3, 0, 0]],
        "positions": [[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5, 0, 0]],
        "segment_ids": np.zeros((2, 8)),
        "example_ids": [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 0, 0]],
        "first_tokens": [[0, 4], [0, 0]],
    }
    return {key: np.array(value, np.int32) for key, value in inputs.items()}


def logits_of(model) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(batch())))


@pytest.mark.parametrize("lora", VARIANTS)
def test_training_starts_from_the_model_as_it_is(tiny_preset, lora):
    np.testing.assert_allclose(logits_of(build(tiny_preset, lora)), logits_of(build(tiny_preset)), atol=1e-6)


def test_a_is_drawn_as_peft_draws_it(tiny_preset):
    a = np.asarray(next(iter(build(tiny_preset, {"rank": 64, "alpha": 1.0}).adapters.values())).a)
    bound = a.shape[0] ** -0.5
    assert 0.95 * bound < np.abs(a).max() <= bound
    assert abs(a.std() - bound / 3**0.5) < 0.1 * bound


@pytest.mark.parametrize("lora", VARIANTS)
def test_merged_weights_answer_as_the_adapters_do(tiny_preset, tmp_path, lora):
    model = build(tiny_preset, lora)
    perturb(model)
    before = {name: array.copy() for name, array in model.named.arrays().items()}
    models.save(model, tmp_path / "model.weights.h5")
    for name, array in model.named.arrays().items():
        assert array.tobytes() == before[name].tobytes(), name
    merged = build(tiny_preset)
    models.load_weights(merged, tmp_path / "model.weights.h5")
    assert np.abs(logits_of(merged) - logits_of(build(tiny_preset))).max() > 0.01
    np.testing.assert_allclose(logits_of(merged), logits_of(model), atol=2e-6)


def test_the_file_of_adapters_is_read_back(tiny_preset, tmp_path):
    model = build(tiny_preset, VARIANTS[2])
    perturb(model)
    models.save_adapters(model, tmp_path / "adapters.safetensors")
    lora, found = low_rank.load(tmp_path / "adapters.safetensors")
    assert lora == models.Lora(**VARIANTS[2])
    for name, factors in adapters.factors_of(model).items():
        for part, array in vars(factors).items():
            assert array.tobytes() == vars(found[name])[part].tobytes()
    (tmp_path / "adapters.safetensors").write_bytes(b"nothing")
    with pytest.raises(KftError, match="is missing or damaged"):
        low_rank.load(tmp_path / "adapters.safetensors")


@pytest.mark.parametrize(
    ("more", "controlled"),
    [
        ({"lora_dropout": 0.2, "lora_targets": "all"}, {"layer_decay": 0.8, "ema_momentum": 0.5}),
        ({"lora_dora": True, "lora_alpha": 4.0}, {"gradient_accumulation_steps": 2}),
    ],
)
def test_a_killed_run_with_adapters_ends_as_if_nothing_had_happened(
    tiny_settings, tmp_path, monkeypatch, more, controlled
):
    changes = {"checkpoint_every_steps": 3} | controlled
    config = settings_with(tiny_settings, train=changes, model={"lora_rank": 2} | more)
    train.train(config, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 14)
        train.train(config, tmp_path / "killed")
    train.resume(tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    kept = [runs.RunDir(tmp_path / name).adapters.read_bytes() for name in ("whole", "killed")]
    assert kept[0] == kept[1]
