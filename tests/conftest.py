"""The tiny world: a BERT of 2 layers, width 8 and sixteen words, and sentences made of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

os.environ.setdefault("KERAS_BACKEND", "jax")  # whichever test is the first to import Keras
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD = ["good", "great", "fine"]
BAD = ["bad", "poor", "dull"]
OTHER = ["a", "the", "film", "plot", "actor"]
VOCABULARY = [*SPECIAL, *GOOD, *BAD, *OTHER]


def make_bert_folder(
    folder: Path, *, labels: list[str] | None = None, seed: int = 0, hidden_act: str = "gelu"
) -> Path:
    """A Hugging Face folder of a random BERT over VOCABULARY; a classifier with `labels`."""
    rng = np.random.default_rng(seed)
    width, inner, layers, positions = 8, 16, 2, 32

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    prefix = "bert." if labels else ""
    weights = {
        "embeddings.word_embeddings.weight": draw(len(VOCABULARY), width),
        "embeddings.position_embeddings.weight": draw(positions, width),
        "embeddings.token_type_embeddings.weight": draw(2, width),
        "pooler.dense.weight": draw(width, width),
        "pooler.dense.bias": draw(width),
    }
    # Words of one kind are alike, as in a pretrained model: a few steps then learn what they mean.
    for words, side in ((GOOD, 1.0), (BAD, -1.0)):
        for word in words:
            weights["embeddings.word_embeddings.weight"][VOCABULARY.index(word)] += side * np.resize(
                [2.0, -2.0], width
            )
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        for name, out, into in (
            ("attention.self.query", width, width),
            ("attention.self.key", width, width),
            ("attention.self.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", inner, width),
            ("output.dense", width, inner),
        ):
            weights[f"{layer}.{name}.weight"], weights[f"{layer}.{name}.bias"] = draw(out, into), draw(out)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name in norms:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + draw(width), draw(width)
    weights = {prefix + name: value for name, value in weights.items()}
    config = {
        "architectures": ["BertForSequenceClassification" if labels else "BertModel"],
        "model_type": "bert",
        "vocab_size": len(VOCABULARY),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": inner,
        "hidden_act": hidden_act,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": positions,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    if labels:
        weights["classifier.weight"], weights["classifier.bias"] = draw(len(labels), width), draw(len(labels))
        config["id2label"] = {str(i): name for i, name in enumerate(labels)}
        config["label2id"] = {name: i for i, name in enumerate(labels)}
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    )
    return folder


def build_model(preset, task: str, labels: list[str], outputs: int, **options):
    """`models.build` with its records' fields as options: pooling, spans, lora, precision …"""
    from kft import models

    goal, start = (
        {name: options.pop(name) for name in record.__dataclass_fields__ if name in options}
        for record in (models.Goal, models.Start)
    )
    goal = models.Goal(task, outputs, tuple(labels), **goal)
    return models.build(preset, goal, models.Start(**start), **options)


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) pairs that a tiny model learns: the label is the adjective's kind."""
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(count):
        label = "positive" if i % 3 else "negative"
        words = list(rng.choice(OTHER, rng.integers(1, 9))) + [
            str(rng.choice(GOOD if label == "positive" else BAD))
        ]
        pairs.append((" ".join(rng.permutation(words)), label))
    return pairs


def write_csv(path: Path, rows: list[tuple], header: tuple[str, ...] = ("text", "label")) -> Path:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def run_kft(
    *arguments: str, backend: str | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess:
    """`kft …` in a process of its own, as a user starts it."""
    environment = os.environ | ({"KERAS_BACKEND": backend} if backend else {})
    return subprocess.run(
        [sys.executable, "-m", "kft.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        env=environment,
        timeout=600,
    )


def assert_not_imported(code: str, *packages: str) -> None:
    """Runs Python code in a process, which must have imported none of the packages."""
    check = f"import sys\n{code}\nheavy = {set(packages)} & set(sys.modules)\nassert not heavy, heavy\n"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory) -> Path:
    return make_bert_folder(tmp_path_factory.mktemp("presets") / "tiny")


@pytest.fixture(scope="session")
def tiny_csv(tmp_path_factory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "films.csv", sentences(200))


@pytest.fixture(scope="session")
def tiny_settings(tiny_preset, tiny_csv) -> dict:
    """Settings of a run that takes a second or two."""
    return {
        "data": {"train": str(tiny_csv)},
        "model": {"preset": str(tiny_preset), "max_length": 16},
        "train": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "log_every_steps": 1},
    }


@pytest.fixture(scope="session")
def tiny_run(tiny_settings, tmp_path_factory) -> Path:
    """A finished run in the tiny world, trained once for all tests; nothing may change it."""
    from kft import config, train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train.train(config.parse(tiny_settings), folder)
    return folder
