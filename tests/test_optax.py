"""optax's optimizers by name: their own updates, and mistakes before anything trains."""

import numpy as np
import optax
import pytest
from conftest import assert_not_imported, run_kft
from optimizers import build_optimizer

from kft import config as configs
from kft.config import optax_names
from kft.errors import KftError
from kft.train import optim

keras = optim.keras


@pytest.mark.parametrize(
    ("name", "settings", "masks", "accumulation"),
    [
        ("lion", {"b1": 0.8, "weight_decay": 0.1}, ["mask"], 1),
        ("adamw", {"b2": 0.99, "nesterov": True}, ["mask"], 1),
        ("lamb", {"weight_decay": 0.1, "eps": 1e-5}, ["mask"], 1),
        ("adafactor", {"min_dim_size_to_factor": 3, "weight_decay_rate": 1e-3}, ["weight_decay_mask"], 2),
        ("lars", {"weight_decay": 0.1, "trust_coefficient": 0.1}, ["weight_decay_mask"], 1),
        ("rmsprop", {"momentum": 0.9, "centered": True}, [], 1),
    ],
)
def test_updates_are_optaxs_own(name, settings, masks, accumulation):
    rng = np.random.default_rng(0)
    start = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    start = {key: value.astype(np.float32) for key, value in start.items()}
    ours = [keras.Variable(value, name=key) for key, value in start.items()]
    optimizer = build_optimizer(
        f"optax:{name}", optax=settings, learning_rate=0.02, steps=10 * accumulation, schedule="linear",
        warmup_fraction=0.2, clip_norm=1.0, gradients_per_update=accumulation,
    )  # fmt: skip
    optimizer.build(ours)
    up, down = optax.linear_schedule(0, 0.02, 2), optax.linear_schedule(0.02, 0, 8)
    mask = dict.fromkeys(masks, {"kernel": True, "bias": False})
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0),
        getattr(optax, name)(optax.join_schedules([up, down], [2]), **settings, **mask),
    )
    weights, state = start, theirs.init(start)
    for _ in range(8):
        mean = dict.fromkeys(start, 0.0)
        for _ in range(accumulation):
            gradients = {key: rng.normal(size=v.shape).astype(np.float32) for key, v in start.items()}
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients.values()], ours)
            mean = {key: mean[key] + g / accumulation for key, g in gradients.items()}
        updates, state = theirs.update(mean, state, weights)
        weights = optax.apply_updates(weights, updates)
    for variable in ours:
        assert np.abs(np.asarray(variable.value) - start[variable.name]).max() > 1e-3
        np.testing.assert_allclose(np.asarray(variable.value), weights[variable.name], atol=1e-6)


def test_every_optimizer_that_is_offered_works():
    assert {"lion", "adafactor", "lamb", "nadamw", "sgd"} <= optax_names.optimizers().keys()
    for name in optax_names.optimizers():
        variable = keras.Variable(np.ones((4, 3), np.float32), name="kernel")
        optimizer = build_optimizer(f"optax:{name}", learning_rate=0.01, steps=9)
        optimizer.build([variable])
        optimizer.apply([keras.ops.ones((4, 3))], [variable])
        value = np.asarray(variable.value)
        assert np.isfinite(value).all() and (value != 1).all(), name


def test_decay_of_kfts_own_setting_goes_to_optax_and_spares_biases():
    variables = [keras.Variable(np.ones(3, np.float32), name=name) for name in ("kernel", "bias")]
    optimizer = build_optimizer("optax:adamw", learning_rate=0.1, steps=1, weight_decay=0.5)
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros(3)] * 2, variables)
    np.testing.assert_allclose(np.asarray(variables[0].value), 0.95, rtol=1e-6)
    assert np.asarray(variables[1].value).tolist() == [1, 1, 1]


MISTAKES = [
    ({"optimizer": "optax:lyon"}, "optax has no optimizer 'lyon' that fits here, did you mean `optax:lion`?"),
    ({"optimizer": "optax:lbfgs"}, "optax has no optimizer 'lbfgs' that fits here"),
    ({"optimizer": "optax:lion", "optax": {"b3": 0.9}}, "`train.optax.b3` is not a setting: optax:lion takes b1, b2, mu_dtype, weight_decay"),
    ({"optimizer": "optax:sgd", "weight_decay": 0.1}, "`train.weight_decay` is not for this optimizer: optax:sgd takes momentum"),
    ({"optimizer": "optax:lion", "weight_decay": 0.1, "optax": {"weight_decay": 0.1}}, "are one setting"),
    ({"optimizer": "optax:adam", "beta_2": 0.9}, "`train.beta_2` is not for optax's optimizers"),
    ({"optax": {"b1": 0.9}}, "`train.optax` needs an optimizer of optax"),
    ({"optimizer": "optax:lion", "optax": {"b1": [1]}}, "`train.optax` must be a table of numbers, strings, true or false"),
    ({"optimizer": "optax:"}, "`train.optimizer` must be 'adam', 'adamw', 'sgd' or one of optax's such as 'optax:lion', got: 'optax:'"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), MISTAKES)
def test_mistakes_are_reported_with_the_config(settings, message):
    with pytest.raises(KftError, match="1 to fix") as error:
        configs.parse({"data": {"source": "bbc_news"}, "train": settings})
    assert message in error.value.message


def test_a_value_that_optax_does_not_take_is_reported_before_the_first_step():
    optimizer = build_optimizer("optax:lion", optax={"b1": "much"}, learning_rate=0.1, steps=1)
    with pytest.raises(KftError, match="optax:lion does not take b1 = 'much'"):
        optimizer.build([keras.Variable(np.ones(3, np.float32), name="kernel")])


def test_torch_and_optax_exclude_each_other():
    settings = ("--backend", "torch", "--set", "train.optimizer=optax:lion")
    done = run_kft("train", *settings)
    assert done.returncode == 1 and "runs on JAX only, and `backend` is torch" in done.stderr


def test_a_mistake_needs_no_keras():
    code = (
        "from click.testing import CliRunner; from kft.cli import main\n"
        "assert CliRunner().invoke(main, ['train', '--set', 'train.optimizer=optax:lyon']).exit_code == 1"
    )
    assert_not_imported(code, "keras", "tensorflow", "torch")
