"""The encoder has transformers' numbers, packed or not; fair dropout; heads are kept."""

import numpy as np
import pytest
from conftest import VOCABULARY, build_model, make_bert_folder

from kft import batches, evaluate, models, text
from kft.models import presets
from kft.models.blocks import dropout as dropouts
from kft.tasks.record import read_first
from kft.text import BERT, rules_of, vocabulary_lines

TEXTS = [
    "good film",
    "the plot a bad bad actor",
    "dull",
    "",
    "the great great fine film a the plot a poor actor unknown",
]


def encode(preset, texts=TEXTS, pairs=None, max_length=32):
    tokenizer = preset.tokenizer
    return text.encode(tokenizer, BERT, texts, pairs, max_length)


def transformers_logits(folder, texts=TEXTS, pairs=None, max_length=32):
    import torch
    from transformers import AutoModelForSequenceClassification, BertTokenizerFast

    tokenizer = BertTokenizerFast.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch = tokenizer(texts, pairs, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits.numpy()


def build(folder, labels=("no", "yes", "maybe"), **options):
    return build_model(presets.locate(str(folder)), "classification", list(labels), len(labels), **options)


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("pairs", [None, ["a film", "", "the bad plot", "good", "the"]])
def test_classifier_folder_gives_the_logits_of_transformers(tmp_path, hidden_act, pairs):
    folder = make_bert_folder(tmp_path / "bert", labels=["no", "yes", "maybe"], hidden_act=hidden_act)
    logits = evaluate.predict_logits(build(folder), encode(presets.locate(str(folder)), pairs=pairs))
    np.testing.assert_allclose(logits, transformers_logits(folder, pairs=pairs), atol=2e-6)


def test_kept_head_follows_the_label_names_not_their_order(tmp_path):
    folder = make_bert_folder(tmp_path / "bert", labels=["no", "yes", "maybe"])
    tokens = encode(presets.locate(str(folder)))
    logits = evaluate.predict_logits(build(folder, ["maybe", "no", "yes"]), tokens)
    np.testing.assert_allclose(logits, transformers_logits(folder)[:, [2, 0, 1]], atol=2e-6)


def test_head_is_new_where_the_labels_differ(tmp_path):
    folder = make_bert_folder(tmp_path / "bert", labels=["no", "yes", "maybe"])
    kept, new, again, other = (
        build(folder, labels, seed=seed).head.get_weights()[0]
        for labels, seed in [
            (("no", "yes", "maybe"), 0),
            (("a", "b", "c"), 0),
            (("a", "b", "c"), 0),
            (("a", "b", "c"), 1),
        ]
    )
    assert (new == again).all()
    assert (new != kept).any()
    assert (new != other).any()
    assert abs(new).max() < 0.05


def test_mean_pooling_is_the_mean_of_each_examples_tokens(tmp_path, tiny_preset):
    import torch
    from transformers import BertModel, BertTokenizerFast

    model = build(tiny_preset, pooling="mean")
    batch = BertTokenizerFast.from_pretrained(tiny_preset)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = BertModel.from_pretrained(tiny_preset).eval()(**batch).last_hidden_state.numpy()
    mask = batch["attention_mask"].numpy()[:, :, None]
    kernel, bias = model.head.get_weights()
    expected = (hidden * mask).sum(1) / mask.sum(1) @ kernel + bias
    np.testing.assert_allclose(
        evaluate.predict_logits(model, encode(presets.locate(str(tiny_preset)))), expected, atol=2e-6
    )


def test_tanh_gelu_equals_keras_hubs_own_model(tmp_path):
    folder = make_bert_folder(tmp_path / "bert", hidden_act="gelu_new")
    model = build(folder)
    tokens = encode(presets.locate(str(folder)))
    width = int(np.diff(tokens.offsets).max())
    inputs = {
        name: np.zeros((len(TEXTS), width), np.int32) for name in ("token_ids", "padding_mask", "segment_ids")
    }
    for i, (begin, end) in enumerate(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)):
        inputs["token_ids"][i, : end - begin] = tokens.ids[begin:end]
        inputs["padding_mask"][i, : end - begin] = 1
    pooled = model.backbone.predict(inputs, verbose=0)["pooled_output"]
    kernel, bias = model.head.get_weights()
    np.testing.assert_allclose(evaluate.predict_logits(model, tokens), pooled @ kernel + bias, atol=2e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_packed_equals_unpacked_forward_and_gradients(tiny_preset, pooling):
    import jax

    model = build(tiny_preset, pooling=pooling)
    tokens = encode(presets.locate(str(tiny_preset)), TEXTS * 4)
    lengths = np.diff(tokens.offsets)
    targets, weights = np.arange(len(lengths), dtype=np.int32) % 3, np.ones(len(lengths), np.float32)
    reads = read_first(len(lengths), targets=targets, weights=weights)
    trainable = [v.value for v in model.trainable_variables]
    fixed = [v.value for v in model.non_trainable_variables]

    def loss(variables, inputs, target, weight):
        logits, _ = model.stateless_call(variables, fixed, inputs, training=False)
        one_hot = jax.nn.one_hot(target, 3)
        return -(jax.nn.log_softmax(logits) * one_hot).sum(-1).ravel() @ weight.ravel() / weight.sum()

    got = []
    for packed in (True, False):
        plan = batches.plan(lengths, len(lengths), 1, 0, packed=packed)
        inputs, target, weight = next(batches.dataset(plan, tokens, reads, 0))
        assert (plan.reads > 1) == packed
        got.append(jax.jit(jax.value_and_grad(loss))(trainable, inputs, target, weight))
    np.testing.assert_allclose(got[0][0], got[1][0], rtol=1e-6)
    for packed_gradient, gradient in zip(got[0][1], got[1][1], strict=True):
        np.testing.assert_allclose(packed_gradient, gradient, atol=1e-6)


def test_bfloat16_stays_near_float32(tiny_preset):
    tokens = encode(presets.locate(str(tiny_preset)))
    exact = evaluate.predict_logits(build(tiny_preset), tokens)
    rough = evaluate.predict_logits(build(tiny_preset, precision="mixed_bfloat16"), tokens)
    assert rough.dtype == np.float32
    assert 0 < abs(rough - exact).max() < 0.02


def test_frozen_layers_do_not_train(tiny_preset):
    model = build(tiny_preset, freeze_layers=1)
    names = {v.path for v in model.trainable_variables}
    assert not any("token_embedding" in name or "transformer_layer_0" in name for name in names)
    assert any("transformer_layer_1" in name for name in names)
    counts = models.parameter_counts(model)
    assert 0 < counts["trainable"] < counts["total"]


def test_parameter_count_of_the_tiny_world(tiny_preset):
    width, inner = 8, 16
    embeddings = (len(VOCABULARY) + 32 + 2) * width + 2 * width
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    pooler, head = width * width + width, width * 3 + 3
    assert models.parameter_counts(build(tiny_preset))["total"] == embeddings + 2 * layer + pooler + head


class TestDropout:
    """The hash in place of random bits: right rate, no pattern in steps, places, positions."""

    @staticmethod
    def masks(steps: int, places: int, shape=(64, 128), seed: int = 3, rate: float = 0.1) -> np.ndarray:
        import keras

        generator = keras.random.SeedGenerator(seed)
        masks = []
        for _ in range(steps):
            dropout = dropouts.Dropout(generator)
            masks.append([np.asarray(dropout(keras.ops.ones(shape), rate)) > 0 for _ in range(places)])
        return np.array(masks)

    def test_keep_rate_and_scale(self):
        import keras

        kept = np.asarray(dropouts.Dropout(keras.random.SeedGenerator(0))(keras.ops.ones((1000, 1000)), 0.1))
        assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.9)}
        assert abs((kept > 0).mean() - 0.9) < 5 * (0.09 / 1e6) ** 0.5

    def test_steps_places_and_positions_are_independent(self):
        masks = self.masks(steps=6, places=5).astype(np.float64).reshape(30, -1) - 0.9
        covariance = masks @ masks.T / masks.shape[1]
        noise = 0.09 / masks.shape[1] ** 0.5
        assert abs(covariance - np.diag(np.diag(covariance))).max() < 5 * noise
        for lag in (1, 2, 7, 64, 128, 129):  # along a row, and from row to row
            assert abs((masks[:, lag:] * masks[:, :-lag]).mean(axis=1)).max() < 5 * noise

    def test_counts_of_rows_and_columns_are_binomial(self):
        mask = self.masks(steps=1, places=1, shape=(400, 400))[0, 0]
        for axis in (0, 1):
            spread = mask.sum(axis=axis).var() / (400 * 0.09)
            assert abs(spread - 1) < 5 * (2 / 400) ** 0.5

    def test_same_seed_gives_the_same_masks(self):
        assert (self.masks(2, 2) == self.masks(2, 2)).all()
        assert (self.masks(2, 2) != self.masks(2, 2, seed=4)).any()

    def test_no_generator_and_no_rate_drop_nothing(self):
        import keras

        x = keras.ops.ones((10, 10))
        assert (np.asarray(dropouts.Dropout(None)(x, 0.5)) == 1).all()
        assert (np.asarray(dropouts.Dropout(keras.random.SeedGenerator(0))(x, 0.0)) == 1).all()


@pytest.mark.slow
def test_real_checkpoint_gives_the_logits_of_transformers(tmp_path):
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    preset = presets.locate("all_minilm_l6_v2_en")
    labels = ["contradiction", "entailment", "neutral"]
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(
        preset.path, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)}
    )
    BertForSequenceClassification.from_pretrained(preset.path, config=config).save_pretrained(
        tmp_path / "classifier"
    )
    (tmp_path / "classifier" / "vocab.txt").write_bytes(
        vocabulary_lines(rules_of(preset.tokenizer).vocabulary)
    )
    texts = [
        "José didn't see the Männer…",
        "它是一部好电影",
        "x" * 120,
        "",
        "An ordinary sentence about films. " * 8,
    ]
    got = build(tmp_path / "classifier", labels)
    tokens = encode(presets.locate(str(tmp_path / "classifier")), texts, texts[::-1], 64)
    expected = transformers_logits(tmp_path / "classifier", texts, texts[::-1], 64)
    assert abs(evaluate.predict_logits(got, tokens) - expected).max() < 1e-5
