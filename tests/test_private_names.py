"""The private names of other packages that kft relies on, listed; fails when one is gone."""

import ast
import re
from pathlib import Path

import pytest

KFT = Path(__file__).parents[1] / "kft"
# name → where it is used. pyproject's upper bounds name the versions with which this was tried.
KERAS_OPTIMIZERS = {
    "_apply_weight_decay": {"train/controls.py"},
    "_backend_update_step": {"train/optax_bridge.py"},
    "_model_variables_moving_average": {"train/controls.py"},
    "_trainable_variables": {"train/controls.py"},
    "_use_weight_decay": {"train/controls.py", "train/optax_bridge.py"},
}
KERAS_HUB_LAYERS = dict.fromkeys(
    (
        "_feedforward_intermediate_dense",
        "_feedforward_layer_norm",
        "_feedforward_output_dense",
        "_self_attention_layer",
        "_self_attention_layer_norm",
    ),
    {"models/families/encoders.py"},
)
DEBERTA_LAYERS = dict.fromkeys(
    ("_query_dense", "_key_dense", "_value_dense", "_output_dense"), {"models/families/deberta_v2.py"}
)
OPTUNA_TRIALS = {"_trial_id": {"studies/tune/storage.py", "studies/tune/working.py"}}

PUBLIC = {"_exit", "_replace", "_asdict", "_fields"}  # Python documents these of os and of named tuples


def private_names() -> dict[str, set[str]]:
    """Names with an underscore that a file of kft reads or defines, and that kft never makes."""
    uses, own = {}, set()
    for file in sorted(KFT.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                if isinstance(node.ctx, ast.Store):
                    own.add(node.attr)
                else:
                    uses.setdefault(node.attr, set()).add(file.relative_to(KFT).as_posix())
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
    return {name: files for name, files in uses.items() if name not in own | PUBLIC}


def test_every_private_name_is_listed():
    listed = KERAS_OPTIMIZERS | KERAS_HUB_LAYERS | DEBERTA_LAYERS | OPTUNA_TRIALS
    overridden = {"_apply_weight_decay", "_backend_update_step"}  # kft defines them for Keras to call
    assert private_names() == {name: files for name, files in listed.items() if name not in overridden}


@pytest.mark.parametrize("name", KERAS_OPTIMIZERS)
def test_keras_optimizers_have_it(name):
    from kft import backend

    backend.select()
    import keras

    optimizer = keras.optimizers.AdamW(use_ema=True)
    optimizer.build([keras.Variable([1.0])])
    assert hasattr(optimizer, name)


@pytest.mark.parametrize("name", KERAS_HUB_LAYERS)
def test_keras_hub_layers_have_it(name):
    from kft import backend

    hub = backend.keras_hub()
    layer = hub.layers.TransformerEncoder(intermediate_dim=4, num_heads=2)
    layer.build((None, None, 4))
    assert hasattr(layer, name)


@pytest.mark.parametrize("name", DEBERTA_LAYERS)
def test_the_attention_of_deberta_has_it(name):
    from kft import backend

    sizes = dict.fromkeys(("vocabulary_size", "num_heads", "hidden_dim", "intermediate_dim"), 2)
    backbone = backend.keras_hub().models.DebertaV3Backbone(**sizes, num_layers=1)
    assert hasattr(backbone.transformer_layers[0]._self_attention_layer, name)


@pytest.mark.parametrize("name", OPTUNA_TRIALS)
def test_optuna_trials_have_it(name):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert hasattr(optuna.create_study().ask(), name)


def test_keras_hub_is_known_in_the_families_alone():
    """Its backbones' attributes and classes; bare programs take the class from the request."""
    names = "|".join(
        (
            r"\w+Backbone\b(?! )",
            r"\w+TextClassifier\w*",
            r"\.transformer_layers",
            r"\.(token|position|segment)_embedding\b",
            r"\.embeddings_layer_norm",
            r"\.pooled_dense",
            r"_self_attention|_feedforward",
        )
    )
    got = {
        f"{file.relative_to(KFT).as_posix()}: {match}"
        for file in KFT.rglob("*.py")
        if "families" not in file.parts
        for match in re.findall(rf"(?:{names})", file.read_text("utf-8"))
    }
    assert not got
