"""Every decoder: its table and logits are transformers', on JAX and torch, packed or alone."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import build_model

from kft.errors import KftError
from kft.models import build_language_model, presets
from kft.models.families import DECODER, FAMILIES, NEXT_TOKEN
from kft.models.families.settings import Settings

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CAPS = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 20.0}
GEMMA3 = {
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    },
}
GPT2 = {"n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 64}
# (family, what differs from tiny.DECODER): one for each way that a config may go.
VARIANTS = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama-3.1": ("llama", {"rope_parameters": LLAMA3, "rms_norm_eps": 1e-5}),
    "llama-linear": (
        "llama",
        {
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
            "attention_bias": True,
            "mlp_bias": True,
            "head_dim": 6,
        },
    ),
    "gpt2": ("gpt2", GPT2),
    "gpt2-scales": (
        "gpt2",
        GPT2 | {"n_inner": 24, "scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False},
    ),
    "mistral": ("mistral", {"sliding_window": 6}),
    "mistral-0.2": ("mistral", {"sliding_window": None, "head_dim": 6}),
    "qwen2": ("qwen2", {}),
    "qwen2-windows": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3": ("qwen3", {"head_dim": 6}),
    "qwen3-biases": ("qwen3", {"head_dim": 6, "attention_bias": True, "tie_word_embeddings": True}),
    "gemma": ("gemma", {"head_dim": 6}),
    "gemma2": ("gemma2", {"head_dim": 6, "query_pre_attn_scalar": 5, "sliding_window": 4, **CAPS}),
    "gemma3": ("gemma3_text", {"head_dim": 6, "sliding_window": 4, "query_pre_attn_scalar": 7, **GEMMA3}),
    "gemma3-cap": ("gemma3_text", {"head_dim": 6, "final_logit_softcapping": 20.0}),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2, "tie_word_embeddings": True}),
    "smollm3-windows": (
        "smollm3",
        {
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": 5,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
        },
    ),
}
# Those whose numbers are computed: each way through the code once. In shapes that they share JAX
# compiles an operation once. Of the others the table and the sizes are compared.
PLAIN = ("llama", "mistral-0.2", "qwen2", "qwen3", "gemma3-cap", "smollm3")
COMPUTED = tuple(variant for variant in VARIANTS if variant not in PLAIN)
ON_TORCH = ("llama-3.1", "gpt2-scales", "qwen3-biases", "gemma2", "gemma3")
# Keys that are written otherwise: a window that no layer uses, another name of one function.
UNLIKE = {"sliding_window", "activation_function"}
LENGTHS = (5, 23, 11, 30, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function: key of VARIANTS → a checkpoint's folder, made once."""
    root = tmp_path_factory.mktemp("decoders")

    @cache
    def of(variant: str) -> Path:
        family, settings = VARIANTS[variant]
        return tiny.make_decoder(root / variant, family, **settings)

    return of


def examples(size: int = 300, lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(5, size, length).astype(np.int32) for length in lengths]


def packed(rows: list[list[np.ndarray]], first: int = 0) -> dict[str, np.ndarray]:
    """The inputs of packed rows, all of whose tokens are read; positions begin at `first`."""
    longest = max(sum(map(len, row)) for row in rows)
    names = ("token_ids", "positions", "example_ids", "reads")
    inputs = {name: np.zeros((len(rows), longest), np.int32) for name in names}
    for r, row in enumerate(rows):
        begin = 0
        for number, ids in enumerate(row, 1):
            part = slice(begin, begin + len(ids))
            inputs["token_ids"][r, part], inputs["example_ids"][r, part] = ids, number
            inputs["positions"][r, part] = first + np.arange(len(ids))
            begin += len(ids)
        inputs["reads"][r] = np.arange(longest)
    return inputs


def logits_of(model, ids: list[np.ndarray]) -> list[np.ndarray]:
    """Those of each example, two and three of which share a row."""
    import keras

    values = keras.ops.convert_to_numpy(model(packed([ids[:3], ids[3:]])))
    ends = [np.cumsum([0, *map(len, row)]) for row in (ids[:3], ids[3:])]
    return [values[r, a:b] for r, cuts in enumerate(ends) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def theirs(path: Path, dtype: str = "float32"):
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()


def transformers_logits(path: Path, ids: list[np.ndarray]) -> list[np.ndarray]:
    import torch

    model = theirs(path)
    with torch.no_grad():
        return [model(torch.tensor(one[None])).logits[0].numpy() for one in ids]


def assert_alike(got: list[np.ndarray], expected: list[np.ndarray], tolerance: float = 1e-5) -> None:
    """Asserts that logits are equal to a share of the largest, which is no small number."""
    largest = max(np.abs(one).max() for one in expected)
    assert largest > 1
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * largest, rtol=0)


# --- The record


def test_every_decoder_has_a_variant():
    decoders = {name for name, family in FAMILIES.items() if family.shape == DECODER}
    assert {family for family, _ in VARIANTS.values()} == decoders


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_table_is_that_of_transformers(folder, variant):
    record = FAMILIES[VARIANTS[variant][0]]
    sizes = presets.locate(str(folder(variant))).sizes
    model = theirs(folder(variant))
    # Buffers aside; a tied kernel is the table.
    expected = {name: tuple(value.shape) for name, value in model.named_parameters()}
    head = record.heads[NEXT_TOKEN]
    table = record.weights(sizes)
    if not sizes.more["tie_word_embeddings"]:
        table |= record.head_weights(NEXT_TOKEN, sizes, sizes.vocabulary_size)
    got = {
        name if head.owns(name) else record.prefix + name: weight.shape_in_file
        for name, weight in table.items()
    }
    assert got == expected
    depths = {record.depth(name) for name in record.weights(sizes)}
    assert depths == {None, *range(sizes.num_layers + 1)}
    adapted = record.adapted(tuple(record.adapters), sizes)
    assert {f"{name}.weight" for name in adapted} <= table.keys()


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_go_to_config_json_and_back(folder, variant):
    record = FAMILIES[VARIANTS[variant][0]]
    content = json.loads((folder(variant) / "config.json").read_text())
    settings = Settings("it", content)
    sizes, encoding = record.sizes(settings), record.encoding(settings)
    again = json.loads(json.dumps(record.to_config(sizes, encoding)))
    assert (record.sizes(Settings("it", again)), record.encoding(Settings("it", again))) == (sizes, encoding)
    for key in (again.keys() & content.keys()) - UNLIKE:
        assert content[key] is None or again[key] == content[key], key


def test_configs_of_transformers_4_are_read(folder):
    content = json.loads((folder("llama-3.1") / "config.json").read_text())
    record, scaling = FAMILIES["llama"], dict(content.pop("rope_parameters"))
    older = content | {"rope_theta": scaling.pop("rope_theta"), "rope_scaling": scaling}
    expected = record.sizes(Settings("it", content | {"rope_parameters": LLAMA3}))
    assert record.sizes(Settings("it", older)) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rotary positions of type 'yarn'"),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}},
            "`factor` must be a positive number",
        ),
        ({"num_key_value_heads": 3}, "must be a multiple of `num_key_value_heads`"),
        ({"head_dim": None, "num_attention_heads": 3, "num_key_value_heads": 3}, "must be a multiple of"),
        ({"tie_word_embeddings": "yes"}, "`tie_word_embeddings` must be true or false"),
    ],
)
def test_what_cannot_be_run_is_said(folder, settings, message):
    content = json.loads((folder("llama") / "config.json").read_text()) | settings
    with pytest.raises(KftError, match=message):
        FAMILIES["llama"].sizes(Settings("it", content))


def test_no_classifier_is_made_of_a_decoder(folder):
    preset = presets.locate(str(folder("llama")))
    with pytest.raises(KftError, match="is a decoder"):
        build_model(preset, "classification", ["a", "b"], 2)


def test_an_encoder_is_no_language_model(tiny_preset):
    with pytest.raises(KftError, match="is an encoder, which continues no text"):
        build_language_model(presets.locate(str(tiny_preset)))


def test_shards_are_read_together(folder, tmp_path):
    theirs(folder("llama")).save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    shutil.copy(folder("llama") / "tokenizer.json", tmp_path)
    one, several = (presets.locate(str(path)) for path in (folder("llama"), tmp_path))
    for name, array in presets.encoder_weights(one).items():
        np.testing.assert_array_equal(presets.encoder_weights(several)[name], array)
    for name, array in presets.head_weights(one, NEXT_TOKEN).items():
        np.testing.assert_array_equal(presets.head_weights(several, NEXT_TOKEN)[name], array)


def test_an_untied_head_must_be_in_the_file(folder, tmp_path):
    theirs(folder("llama")).model.save_pretrained(tmp_path)
    shutil.copy(folder("llama") / "tokenizer.json", tmp_path)
    with pytest.raises(KftError, match="the weights hold no lm_head"):
        build_language_model(presets.locate(str(tmp_path)))


# --- Numbers


@pytest.mark.parametrize("variant", COMPUTED)
def test_packed_logits_are_those_that_transformers_gives_alone(folder, variant):
    model = build_language_model(presets.locate(str(folder(variant))))
    assert_alike(logits_of(model, examples()), transformers_logits(folder(variant), examples()))


def test_torch_gives_them(folder, tmp_path):
    paths = {variant: str(folder(variant)) for variant in ON_TORCH}
    command = [sys.executable, __file__, json.dumps(paths), str(tmp_path)]
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for variant in ON_TORCH:
        with np.load(tmp_path / f"{variant}.npz") as logits:
            got = [logits[f"arr_{i}"] for i in range(len(LENGTHS))]
        assert_alike(got, transformers_logits(folder(variant), examples()))


@pytest.mark.parametrize(
    ("variant", "precision"),
    [("llama-3.1", "float32"), ("gemma3", "float32"), ("gemma3", "mixed_bfloat16")],
)
def test_positions_count_exactly_at_8000(folder, variant, precision):
    """In bfloat16 positions 7,980 … 8,009 would all be 7,968, 8,000 or 8,032."""
    import torch

    ids, first = examples()[3], 7980
    model = build_language_model(presets.locate(str(folder(variant))), precision)
    got = np.array(model(packed([[ids]], first)), np.float32)[0]
    with torch.no_grad():
        positions = torch.arange(first, first + len(ids))[None]
        expected = theirs(folder(variant))(torch.tensor(ids[None]), position_ids=positions).logits[0].numpy()
    if precision == "float32":
        assert_alike([got], [expected], 1e-4)  # the angles themselves are rounded to 5e-4
        return
    rounded = model.blocks(False)
    assert rounded.compute_type == "bfloat16"
    # bfloat16 alone costs as much at position 0: the positions cost nothing.
    near = np.array(model(packed([[ids]])), np.float32)[0]
    with torch.no_grad():
        expected_near = theirs(folder(variant))(torch.tensor(ids[None])).logits[0].numpy()
    cost, usual = (np.abs(a - b).mean() for a, b in ((got, expected), (near, expected_near)))
    assert cost < 1.5 * usual
    assert usual < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("variant", ["llama", "llama-tied"])
def test_log_likelihood_is_computed_in_chunks(folder, variant, monkeypatch):
    """Equal to the log-softmax of all logits, and no array of all places and tokens is made."""
    import jax

    from kft.models import language_model

    monkeypatch.setattr(language_model, "CHUNK_PLACES", 7)
    model = build_language_model(presets.locate(str(folder(variant))))
    inputs = packed([examples()[:3], examples()[3:]])
    targets = np.roll(inputs["token_ids"], -1, axis=1)
    logits = np.array(model(inputs), np.float64)
    highest = logits.max(-1, keepdims=True)
    expected = logits - highest - np.log(np.exp(logits - highest).sum(-1, keepdims=True))
    expected = np.take_along_axis(expected, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(np.array(model.log_likelihood(inputs, targets)), expected, atol=1e-4)

    def loss(table):
        scope = {id(model.named.parts["embed_tokens.weight"].value): table}
        import keras

        mapping = [(v, scope.get(id(v), v.value)) for v in model.variables]
        with keras.StatelessScope(state_mapping=mapping):
            return model.log_likelihood(inputs, targets).sum()

    table = model.named.parts["embed_tokens.weight"].value.value
    program = str(jax.make_jaxpr(jax.grad(loss))(table))
    places, tokens = targets.size, model.sizes.vocabulary_size
    for shape in (f"[{places},{tokens}]", f"[2,{places // 2},{tokens}]", f"[10,1,{places // 10},{tokens}]"):
        assert shape not in program
    assert f"[1,7,{tokens}]" in program


def by_backend(paths: dict[str, str], output: str) -> None:
    for variant, path in paths.items():
        model = build_language_model(presets.locate(path))
        np.savez(Path(output) / f"{variant}.npz", *logits_of(model, examples()))


if __name__ == "__main__":
    by_backend(json.loads(sys.argv[1]), sys.argv[2])
