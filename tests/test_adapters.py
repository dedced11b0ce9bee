"""Low-rank adapters do what peft's do, are merged and kept, and go to peft and come from it."""

import json
import shutil

import numpy as np
import pytest
import tiny
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from test_train import Killed, _die_before, assert_resumed_alike, settings_with

from kft import export, models, runs, train
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


def peft_model(folder, lora: dict, outputs: int = 2):
    """peft's, untrained, on the checkpoint in a folder."""
    import peft
    from transformers import AutoModelForSequenceClassification

    suffixes = {
        "query": ["query"], "key": ["key"], "value": ["value"], "output": ["attention.output.dense"],
        "feedforward": ["intermediate.dense", "output.dense"],
    }  # fmt: skip
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        use_rslora=lora.get("rank_stabilised", False),
        use_dora=lora.get("dora", False),
        target_modules=[s for target in lora.get("targets", ("query", "value")) for s in suffixes[target]],
        modules_to_save=["pooler"],
    )
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=outputs)
    return peft.get_peft_model(base, config)


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
        "reads": [[0, 4], [0, 0]],
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
    lora, got = low_rank.load(tmp_path / "adapters.safetensors")
    assert lora == models.Lora(**VARIANTS[2])
    for name, factors in adapters.factors_of(model).items():
        for part, array in vars(factors).items():
            assert array.tobytes() == vars(got[name])[part].tobytes()
    (tmp_path / "adapters.safetensors").write_bytes(b"nothing")
    with pytest.raises(KftError, match="is missing or damaged"):
        low_rank.load(tmp_path / "adapters.safetensors")


@pytest.mark.parametrize("lora", VARIANTS)
def test_as_many_parameters_train_as_with_peft(tiny_preset, lora):
    ours = models.parameter_counts(build(tiny_preset, lora))["trainable"]
    assert ours == peft_model(tiny_preset, lora).get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("lora", VARIANTS)
def test_what_peft_saved_is_a_preset(tiny_preset, tmp_path, lora):
    import torch

    theirs = peft_model(tiny_preset, lora, outputs=3).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    theirs.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[2, 11, 13, 10, 12, 3]])
    with torch.no_grad():
        expected = theirs(input_ids=ids).logits.numpy()[0]
    preset = presets.locate(str(tmp_path / "adapter"))
    assert preset.head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    ours = models.build(preset, models.Goal("classification", 3, preset.head.labels))
    np.testing.assert_allclose(logits_of(ours)[1, 0], expected, atol=1e-5)


def test_the_base_of_adapters_is_looked_for(tiny_preset, tmp_path):
    folder = tmp_path / "adapter"
    peft_model(tiny_preset, VARIANTS[0]).save_pretrained(folder)
    settings = json.loads((folder / "adapter_config.json").read_text())

    def written(**changes) -> None:
        (folder / "adapter_config.json").write_text(json.dumps(settings | changes))

    written(base_model_name_or_path="/nowhere/at/all")
    with pytest.raises(KftError, match="its base '/nowhere/at/all' is no folder here") as caught:
        presets.locate(str(folder))
    assert "model.adapter_base" in caught.value.hint
    assert presets.locate(str(folder), adapter_base=str(tiny_preset)).path == tiny_preset
    with pytest.raises(KftError, match="holds no adapters of peft's"):
        presets.locate(str(tiny_preset), adapter_base=str(tiny_preset))
    shutil.copytree(tiny_preset, folder / "base")
    written(base_model_name_or_path="base")
    assert presets.locate(str(folder)).path == folder / "base"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "is an adapter of type 'IA3'"),
        ({"bias": "all"}, "`bias` = 'all' is not supported"),
        ({"use_qalora": True}, "`use_qalora` = True is not supported"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the base's own weights"),
    ],
)
def test_adapters_that_cannot_be_merged(tiny_preset, tmp_path, changes, message):
    peft_model(tiny_preset, VARIANTS[0]).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | changes))
    with pytest.raises(KftError, match=message):
        presets.locate(str(tmp_path))


def test_adapters_of_another_base(tiny_preset, tmp_path):
    model = peft_model(tiny_preset, VARIANTS[0])
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    key = next(key for key in tensors if "lora_B" in key)
    save_file(tensors | {key: tensors[key][:4].copy()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(KftError, match="not those of its base"):
        presets.locate(str(tmp_path))
    save_file(
        tensors | {"base_model.model.lm_head.weight": tensors[key]}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises(KftError, match="lm_head.weight, which kft cannot place"):
        presets.locate(str(tmp_path))


@pytest.fixture(scope="module")
def adapted_run(tiny_settings, tmp_path_factory):
    """A run with DoRA on every kernel."""
    model = {"lora_rank": 2, "lora_alpha": 8.0, "lora_dora": True, "lora_targets": "all"}
    folder = tmp_path_factory.mktemp("runs") / "adapted"
    train.train(settings_with(tiny_settings, model=model, train={"learning_rate": 0.05}), folder)
    return folder


def test_adapters_of_an_older_form_cannot_go_on(tiny_settings, tmp_path, monkeypatch):
    config = settings_with(tiny_settings, model={"lora_rank": 2}, train={"checkpoint_every_steps": 3})
    with monkeypatch.context() as patched, pytest.raises(Killed):
        _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 5)
        train.train(config, tmp_path / "run")
    (file,) = runs.checkpoint_files(runs.RunDir(tmp_path / "run"))
    with safe_open(file, "np") as stored:
        metadata = stored.metadata()
    arrays = load_file(file)
    arrays["model/0000"] = arrays["model/0000"][:1].copy()
    save_file(arrays, file, metadata=metadata)
    with pytest.raises(KftError, match="is of an older kft, whose low-rank adapters had another form"):
        train.resume(tmp_path / "run")


class TestExport:
    def test_peft_answers_as_the_run_does(self, adapted_run, tmp_path):
        result = export.export(adapted_run, "peft", tmp_path / "out")
        assert result["comparison"]["read_by"] == ["kft", "peft"]
        assert result["comparison"]["max_logit_difference"] < 1e-5
        names = {file.name for file in (tmp_path / "out").iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "export.json"} < names
        # As a preset it has its labels, in the order of the run's.
        preset = presets.locate(str(tmp_path / "out"))
        assert list(preset.head.labels) == runs.read_labels(runs.RunDir(adapted_run))

    def test_of_roberta_too(self, tiny_settings, tmp_path):
        """Its head is two layers, which train and are saved whole."""
        base = tiny.make(tmp_path / "base", "roberta")
        model = {"preset": str(base), "lora_rank": 2, "lora_rank_stabilised": True, "lora_targets": "all"}
        config = settings_with(tiny_settings, model=model, train={"epochs": 1, "learning_rate": 0.05})
        train.train(config, tmp_path / "run")
        result = export.export(tmp_path / "run", "peft", tmp_path / "out")
        assert result["comparison"]["read_by"] == ["kft", "peft"]
        assert result["comparison"]["max_logit_difference"] < 1e-5
        written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
        assert written["modules_to_save"] == ["classifier"]

    def test_trains_on_from_the_export(self, adapted_run, tiny_settings, tmp_path):
        export.export(adapted_run, "peft", tmp_path / "out", verify=False)
        changes = {"epochs": 1, "learning_rate": 1e-9}
        config = settings_with(tiny_settings, model={"preset": str(tmp_path / "out")}, train=changes)
        result = train.train(config, tmp_path / "run")
        before = runs.read_json(runs.RunDir(adapted_run).metrics)
        assert result["metrics"]["test"]["log_loss"] == pytest.approx(before["test"]["log_loss"], abs=1e-4)

    def test_a_run_without_adapters_is_refused(self, tiny_run, tmp_path):
        with pytest.raises(KftError, match="has no low-rank adapters"):
            export.export(tiny_run, "peft", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_run_that_started_from_a_run_is_refused(self, adapted_run, tiny_run, tiny_settings, tmp_path):
        config = settings_with(
            tiny_settings, model={"lora_rank": 2, "from_run": str(tiny_run)}, train={"epochs": 1}
        )
        train.train(config, tmp_path / "run")
        with pytest.raises(KftError, match="its adapters stand on another run"):
            export.export(tmp_path / "run", "peft", tmp_path / "out")


@pytest.mark.parametrize("lora", VARIANTS)
def test_gradients_are_those_of_peft(tiny_preset, tmp_path, lora):
    """Of the sum of an example's logits, with respect to each adapter; both read the same file."""
    import jax
    import torch

    theirs = peft_model(tiny_preset, lora).eval()
    ours = build(tiny_preset, lora)
    perturb(ours)
    state = dict(theirs.named_parameters())
    names = {
        "a": "lora_A.default.weight",
        "b": "lora_B.default.weight",
        "magnitude": "lora_magnitude_vector.default.weight",
    }
    places = {
        (dense, part): state[f"base_model.model.bert.{dense}.{names[part]}"]
        for dense, factors in adapters.factors_of(ours).items()
        for part, array in vars(factors).items()
        if array is not None
    }
    head, pooler = ours.named.arrays(), "base_model.model.bert.pooler.modules_to_save.default.dense"
    with torch.no_grad():
        for (dense, part), parameter in places.items():
            parameter.copy_(torch.tensor(vars(adapters.factors_of(ours)[dense])[part].T))
        for part in ("weight", "bias"):
            state[f"{pooler}.{part}"].copy_(torch.tensor(head[f"pooler.dense.{part}"].T))
            state[f"base_model.model.classifier.modules_to_save.default.{part}"].copy_(
                torch.tensor(head[f"classifier.{part}"].T)
            )
    theirs(input_ids=torch.tensor([[2, 11, 13, 10, 12, 3]])).logits[0, 1].backward()

    trained = [v.value for v in ours.trainable_variables]
    others = [v.value for v in ours.non_trainable_variables]

    def score(values):
        return ours.stateless_call(values, others, batch())[0][1, 0, 1]

    gradients = dict(zip((id(v) for v in ours.trainable_variables), jax.grad(score)(trained), strict=True))
    for (dense, part), parameter in places.items():
        got = np.asarray(gradients[id(getattr(ours.adapters[dense], part))])
        np.testing.assert_allclose(got, parameter.grad.numpy().T, atol=1e-5, err_msg=f"{dense} {part}")


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
    assert_resumed_alike(config, tmp_path, monkeypatch, step=14)
    kept = [runs.RunDir(tmp_path / name).adapters.read_bytes() for name in ("whole", "killed")]
    assert kept[0] == kept[1]
