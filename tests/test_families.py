"""Every family: its table and numbers are transformers', on every backend, packed or not."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from conftest import build_model
from safetensors.numpy import load_file, save_file
from test_train import Killed, _die_before, assert_same_run

from kft import batches, evaluate, export, train
from kft import config as configs
from kft.models import heads, presets
from kft.models.blocks.dropout import Dropout
from kft.models.blocks.on_keras import KerasBlocks
from kft.models.families import ANSWERS, ENCODER, FAMILIES, MULTIPLE_CHOICE, SEQUENCE, TOKEN_CLASSES
from kft.models.families.settings import Settings
from kft.text import Tokens, encode

LABELS = ["a", "b", "c"]
# Families that are trained, killed and exported everywhere here, one for each way to attend and to
# name layers; test_train and test_export do that of BERT. The others are trained and exported once.
TRAINED = ("roberta", "deberta-v2", "modernbert")
ENCODERS = [name for name, family in FAMILIES.items() if family.shape == ENCODER]
OTHERS = tuple(name for name in ENCODERS if name not in (*TRAINED, "bert"))
KINDS = [(SEQUENCE, "classification", LABELS), (MULTIPLE_CHOICE, "choice", [])]
EVERY = [(name, *kind) for name in ENCODERS for kind in KINDS]
OUTPUTS = {SEQUENCE: 3, MULTIPLE_CHOICE: 1, TOKEN_CLASSES: 3, ANSWERS: 2}
HEADS = [(name, kind) for name in ENCODERS for kind in FAMILIES[name].heads]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function: (family, kind of head or None) → a checkpoint's folder, made once.

    With a head its weights are large, so that logits are: a small error would hide in small ones.
    """
    root, written = tmp_path_factory.mktemp("families"), {}

    def of(family: str, kind: str | None = None) -> Path:
        if (family, kind) not in written:
            labels = LABELS if kind in (SEQUENCE, TOKEN_CLASSES) else None
            wide = {"initializer_range": 1.0} if kind else {}
            written[family, kind] = tiny.make(root / f"{family}-{kind}", family, kind, labels, **wide)
        return written[family, kind]

    return of


def tokens_of(size: int, count: int = 9, longest: int = 30) -> Tokens:
    """Random tokens for a model that has `size` tokens, without its special ones."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, longest + 1, count).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(5, size - 1, offsets[-1]).astype(np.int32)
    return Tokens(ids, offsets, lengths, lengths)


def transformers_logits(folder: Path, family: str, kind: str, tokens: Tokens) -> np.ndarray:
    import torch
    import transformers

    model = getattr(transformers, FAMILIES[family].heads[kind].architecture).from_pretrained(folder).eval()
    lengths = np.diff(tokens.offsets)
    ids = np.full((len(lengths), lengths.max()), model.config.pad_token_id)
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids[mask] = tokens.ids
    ids, mask = torch.tensor(ids), torch.tensor(mask.astype(int))
    if kind == MULTIPLE_CHOICE:
        ids, mask = ids[:, None], mask[:, None]
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits.numpy()


def assert_alike(logits: np.ndarray, expected: np.ndarray) -> None:
    """Asserts that logits are equal to 1e-5 of the largest, which is no small number."""
    largest = np.abs(expected).max()
    assert largest > 1
    np.testing.assert_allclose(logits, expected, atol=1e-5 * largest, rtol=0)


# --- The record


@pytest.mark.parametrize(("family", "kind"), HEADS)
def test_the_table_is_that_of_transformers(folder, family, kind):
    import transformers

    record = FAMILIES[family]
    model = getattr(transformers, record.heads[kind].architecture).from_pretrained(folder(family, kind))
    theirs = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    sizes = presets.locate(str(folder(family, kind))).sizes
    table = record.weights(sizes) | record.head_weights(kind, sizes, OUTPUTS[kind])
    ours = {
        name if record.heads[kind].owns(name) else record.prefix + name: weight.shape_in_file
        for name, weight in table.items()
    }
    assert ours == theirs


@pytest.mark.parametrize("family", ENCODERS)
def test_sizes_go_to_config_json_and_back(folder, family):
    record, content = FAMILIES[family], json.loads((folder(family) / "config.json").read_text())
    settings = Settings("it", content)
    sizes, encoding = record.sizes(settings), record.encoding(settings)
    again = record.to_config(sizes, encoding)
    assert (record.sizes(Settings("it", again)), record.encoding(Settings("it", again))) == (sizes, encoding)
    for key in again.keys() & content.keys():
        assert again[key] == content[key], key


@pytest.mark.parametrize("family", ENCODERS)
def test_depth_and_adapters_name_what_the_model_holds(folder, family):
    record = FAMILIES[family]
    model = build_model(presets.locate(str(folder(family))), "classification", LABELS, 3)
    names, sizes = set(model.named.parts), model.architecture.sizes
    depths = {record.depth(name) for name in names}
    layers = record.own_layers(sizes)
    assert depths == {None, *range(layers + 1)}
    adapted = record.adapted(tuple(record.adapters), sizes)
    assert {f"{name}.weight" for name in adapted} <= names
    patterns = {pattern for target in record.adapters.values() for pattern in target}
    assert len(set(adapted)) == len(adapted) == len(patterns) * layers
    # Every variable of the model has a name, and only one.
    ids = [id(part.value) for part in model.named.parts.values()]
    assert sorted(ids) == sorted(id(v) for v in model.weights if "seed" not in v.path)


@pytest.mark.parametrize("family", ENCODERS)
def test_what_is_unfolded_folds_back(folder, family):
    preset = presets.locate(str(folder(family)))
    record, arrays = preset.family, presets.encoder_weights(preset)
    file = record.unfold(arrays, preset.sizes)
    assert {name: array.shape for name, array in file.items()} == {
        name: weight.shape for name, weight in record.weights(preset.sizes).items()
    }
    for name, array in record.fold(file, preset.sizes).items():
        np.testing.assert_array_equal(array, arrays[name])


# --- Numbers


@pytest.mark.parametrize(("family", "kind", "task", "labels"), EVERY)
def test_logits_are_those_of_transformers(folder, family, kind, task, labels):
    preset = presets.locate(str(folder(family, kind)))
    tokens = tokens_of(16)
    logits = evaluate.predict_logits(build_model(preset, task, labels, len(labels) or 1), tokens)
    assert_alike(logits, transformers_logits(preset.path, family, kind, tokens))


@pytest.mark.parametrize(("family", "kind"), [head for head in HEADS if head[1] in (TOKEN_CLASSES, ANSWERS)])
def test_heads_that_read_every_token(folder, family, kind):
    """The encoder's vector of every token, through the checkpoint's own layers."""
    import torch
    import transformers

    preset = presets.locate(str(folder(family, kind)))
    assert (preset.head.kind, len(preset.head.labels)) == (kind, OUTPUTS[kind])
    layers = preset.family.heads[kind]
    arrays = presets.encoder_weights(preset) | presets.head_weights(preset, kind)
    weights = SimpleNamespace(parts=arrays, adapters={}, value=lambda name, dtype=None: arrays[name])
    blocks = KerasBlocks(weights, preset.sizes, preset.encoding, "float32", Dropout())
    ids = np.arange(5, 12)[None]
    inputs = {
        "token_ids": ids,
        "segment_ids": 0 * ids,
        "positions": np.arange(7)[None],
        "example_ids": 0 * ids + 1,
    }
    model = SimpleNamespace(kind=preset.family, head=layers, pooling="cls", spans=0, head_dropout=0.0)
    logits = heads.logits(blocks, model, inputs, np.arange(7, dtype=np.int32)[None])
    theirs = getattr(transformers, layers.architecture).from_pretrained(preset.path).eval()
    with torch.no_grad():
        output = theirs(input_ids=torch.tensor(ids))
    expected = (
        output.logits if kind == TOKEN_CLASSES else torch.stack([output.start_logits, output.end_logits], -1)
    )
    assert_alike(np.array(logits), expected.numpy())


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_every_backend_gives_them(folder, tmp_path, backend):
    jobs = [[str(folder(family, kind)), task, labels] for family, kind, task, labels in EVERY]
    command = [sys.executable, __file__, json.dumps(jobs), str(tmp_path / "logits.npz")]
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "logits.npz") as logits:
        for i, (family, kind, _, _) in enumerate(EVERY):
            expected = transformers_logits(folder(family, kind), family, kind, tokens_of(16))
            assert_alike(logits[str(i)], expected)


@pytest.mark.parametrize(("family", "pooling"), [(name, "cls") for name in ENCODERS] + [("bert", "mean")])
def test_packed_equals_alone(folder, family, pooling):
    model = build_model(presets.locate(str(folder(family))), "classification", LABELS, 3, pooling=pooling)
    tokens = tokens_of(16)
    packed = evaluate.predict_logits(model, tokens)
    for i, (begin, end) in enumerate(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)):
        length = np.array([end - begin], np.int32)
        alone = Tokens(tokens.ids[begin:end], np.array([0, end - begin]), length, length)
        shape = batches.PredictionShape(1, 32, 1)
        np.testing.assert_allclose(evaluate.predict_logits(model, alone, shape)[0], packed[i], atol=1e-6)


@pytest.mark.parametrize("family", ENCODERS)
def test_what_no_checkpoint_gave_is_drawn(folder, family):
    """Of a bare encoder's head all but a pooler of the encoder's own, of a classifier nothing."""
    layers, bare = FAMILIES[family].heads[SEQUENCE], presets.locate(str(folder(family)))
    has_pooler = f"{layers.pooler}.weight" in load_file(bare.path / "model.safetensors")
    expected = layers.layers[1:] if has_pooler else layers.layers
    assert build_model(bare, "classification", LABELS, 3).drawn == expected
    whole = presets.locate(str(folder(family, SEQUENCE)))
    assert build_model(whole, "classification", LABELS, 3).drawn == ()
    assert build_model(whole, "classification", ["x", "y", "z"], 3).drawn == (layers.output,)


@pytest.mark.parametrize(
    ("family", "name"),
    [("roberta", "RobertaForMaskedLM"), ("roberta", "RobertaForSequenceClassification")],
)
def test_the_encoder_of_another_checkpoint_is_read(tmp_path, family, name):
    """Of a masked language model, and of a classifier of other labels: keeps its dense layer."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(family, **tiny.SIZES, **tiny.CONFIGS[family], num_labels=4)
    torch.manual_seed(0)
    theirs = getattr(transformers, name)(config)
    theirs.save_pretrained(tmp_path)
    tiny.TOKENIZERS[family](tmp_path)
    model = build_model(presets.locate(str(tmp_path)), "classification", LABELS, 3)
    state, arrays = theirs.state_dict(), model.named.arrays()
    query = "encoder.layer.1.attention.self.query.weight"
    np.testing.assert_array_equal(arrays[query], state["roberta." + query].numpy().T)
    own = "classifier.dense.weight"
    if own in state:
        np.testing.assert_array_equal(arrays[own], state[own].numpy().T)
    assert arrays["classifier.out_proj.weight"].shape == (8, 3)


def test_names_of_an_older_time_are_read(folder, tmp_path):
    """Google's own BERT checkpoints call LayerNorm's weights gamma and beta."""
    path = tmp_path / "old"
    shutil.copytree(folder("bert"), path)
    tensors = load_file(path / "model.safetensors")
    old = {
        re.sub("LayerNorm.bias$", "LayerNorm.beta", re.sub("LayerNorm.weight$", "LayerNorm.gamma", name)): t
        for name, t in tensors.items()
    }
    assert len(old.keys() - tensors.keys()) == 10
    save_file(old, path / "model.safetensors")
    for name, array in presets.encoder_weights(presets.locate(str(path))).items():
        np.testing.assert_array_equal(
            array, presets.encoder_weights(presets.locate(str(folder("bert"))))[name]
        )


def run_of(preset: presets.Preset, named, inputs: dict, places=None) -> np.ndarray:
    """Hidden states of a family's own forward pass."""
    blocks = KerasBlocks(named, preset.sizes, preset.encoding, "float32", Dropout())
    return np.array(preset.family.run(blocks, inputs, places))


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.hub])
def test_a_random_preset_of_keras_hub(folder, tmp_path, family):
    """KerasHub saves it, kft reads it, and both compute the same."""
    import keras_hub

    hub = FAMILIES[family].hub
    tokenizer = tiny.keras_hub_tokenizer(hub.tokenizer)
    sizes = replace(presets.locate(str(folder(family))).sizes, vocabulary_size=tokenizer.vocabulary_size())
    backbone = getattr(keras_hub.models, hub.backbone)(**hub.arguments(sizes), dropout=0.1)
    for variable in backbone.weights:  # biases and norms too, which start at 0 and 1
        variable.assign(variable + 0.2 * np.random.default_rng(3).normal(size=variable.shape))
    backbone.save_to_preset(str(tmp_path))
    tokenizer.save_to_preset(str(tmp_path))
    preset = presets.locate(str(tmp_path))
    assert (preset.family.name, preset.sizes) == (family, sizes)
    ids = np.arange(5, 14, dtype=np.int32)[None]
    theirs = {"token_ids": ids, "padding_mask": 0 * ids + 1, "segment_ids": 0 * ids}
    expected = backbone({name: theirs[name] for name in backbone.input})
    expected = expected["sequence_output"] if isinstance(expected, dict) else expected
    model = build_model(preset, "classification", LABELS, 3)
    inputs = {"token_ids": ids, "segment_ids": 0 * ids, "positions": ids - 5, "example_ids": 0 * ids + 1}
    np.testing.assert_allclose(run_of(preset, model.named, inputs), np.array(expected), atol=1e-5)
    texts = ["the quick brown fox", "a good film", "what a bad  plot"]
    if preset.tokenizer.kind == "unigram":  # KerasHub runs SentencePiece itself
        assert preset.tokenizer.encode(texts) == [list(map(int, ids)) for ids in tokenizer(texts)]


# --- A run of each family


def settings_of(tiny_settings, preset: Path, **train) -> configs.Config:
    return configs.parse(
        tiny_settings
        | {"model": {"preset": str(preset), "max_length": 24}}
        | {"train": tiny_settings["train"] | train}
    )


@pytest.fixture(scope="module")
def run(folder, tiny_settings, tmp_path_factory):
    """A function: family → a run of one epoch on the tiny films, trained once."""
    trained = {}

    def of(family: str) -> Path:
        if family not in trained:
            trained[family] = tmp_path_factory.mktemp("runs") / family
            train.train(settings_of(tiny_settings, folder(family), epochs=1), trained[family])
        return trained[family]

    return of


@pytest.mark.parametrize("family", TRAINED)
def test_a_killed_run_ends_as_if_nothing_had_happened(
    folder, tiny_settings, tmp_path, monkeypatch, capsys, family
):
    config = settings_of(tiny_settings, folder(family), checkpoint_every_steps=3, layer_decay=0.8)
    train.train(config, tmp_path / "whole")
    layers = ", ".join(FAMILIES[family].heads[SEQUENCE].layers)
    assert f"head      drawn anew: {layers}; the checkpoint has none that fits" in capsys.readouterr().err
    with monkeypatch.context() as patched, pytest.raises(Killed):
        _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 14)
        train.train(config, tmp_path / "killed")
    train.resume(tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    ("family", "to"),
    [(family, to) for family in TRAINED for to in ("hf", "onnx", "savedmodel")]
    + [(family, "onnx") for family in OTHERS]
    + [("mpnet", "hf"), ("distilbert", "keras"), ("roberta", "keras")],
)
def test_exports_prove_themselves(run, tmp_path, family, to):
    """transformers, onnxruntime, TensorFlow and KerasHub read what each export writes."""
    report = export.export(run(family), to, tmp_path / "out")
    assert report["comparison"]["max_difference"] <= 1e-5
    if to in ("hf", "keras"):  # and kft goes on from it, with its head
        preset = presets.locate(report["output"])
        assert (preset.family.name, len(preset.head.labels)) == (family, 2)
        labels = ["negative", "positive"] if to == "hf" else list(preset.head.labels)
        texts = ["a good film", "the bad  plot", ""]
        tokens = encode(preset.tokenizer, preset.family.template, texts, None, 24)
        logits = evaluate.predict_logits(build_model(preset, "classification", labels, 2), tokens)
        expected = evaluate.predict_logits(evaluate.load_run(run(family)).model, tokens)
        np.testing.assert_allclose(logits, expected, atol=1e-5)


def by_backend(jobs: list, output: str) -> None:
    logits = []
    for path, task, labels in jobs:
        model = build_model(presets.locate(path), task, labels, len(labels) or 1)
        logits.append(evaluate.predict_logits(model, tokens_of(16)))
    np.savez(output, **{str(i): array for i, array in enumerate(logits)})


if __name__ == "__main__":
    by_backend(json.loads(sys.argv[1]), sys.argv[2])
