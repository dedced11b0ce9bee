"""Marked words: checked offsets, transformers' tokens, and their vectors in the head."""

import json
from pathlib import Path

import joint
import numpy as np
import polars as pl
import pytest
from conftest import BAD, GOOD, OTHER, SHARED_DATA, build_model
from test_cli import kft, mistake
from test_train import Killed, _die_before, assert_same_run

from kft import config, evaluate, train
from kft.data import sources, splits
from kft.errors import KftError
from kft.models import presets
from kft.tasks.record import Inputs
from kft.text import BERT, encode, encode_cached, encode_frame, length_account

TEXTS = [
    "good film",
    "The bäd  plot — a\tgreat actor!",
    "\u0065\u0301 fine 它是film, [SEP] poor\u200bplot",
    "😀 dull😀 the",
    "x" * 120 + " good",
    "half \ud83d a pair",
    "",
    "  \u00a0 ",
    "İstanbul ﬁne GREAT",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_preset):
    preset = presets.locate(str(tiny_preset))
    return preset.tokenizer


class TestTokens:
    @pytest.mark.parametrize("text", TEXTS)
    def test_located_tokens_are_the_same_tokens(self, tokenizer, text):
        ids, places = tokenizer.locate(text)
        assert ids == tokenizer(text)
        assert places.shape == (len(ids), 2)
        assert (places[:, 0] < places[:, 1]).all()

    def test_places_are_those_of_transformers(self, tokenizer, tiny_preset):
        from transformers import BertTokenizerFast

        texts = [text for text in TEXTS if "\ud83d" not in text]
        tokens = encode(tokenizer, BERT, texts, texts[::-1], 12, located=True)
        batch = BertTokenizerFast.from_pretrained(tiny_preset)(
            texts, texts[::-1], truncation=True, max_length=12, return_offsets_mapping=True
        )
        for i, (begin, end) in enumerate(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)):
            assert tokens.ids[begin:end].tolist() == batch["input_ids"][i]
            assert tokens.characters[begin:end].tolist() == [
                list(pair) for pair in batch["offset_mapping"][i]
            ]

    @pytest.mark.parametrize("max_length", [5, 12, 64])
    @pytest.mark.parametrize("paired", [True, False])
    def test_located_rows_are_the_same_rows(self, tokenizer, max_length, paired):
        pairs = TEXTS[::-1] if paired else None
        plain = encode(tokenizer, BERT, TEXTS, pairs, max_length)
        located = encode(tokenizer, BERT, TEXTS, pairs, max_length, located=True)
        for name in ("ids", "offsets", "second_starts", "full_lengths"):
            assert (getattr(plain, name) == getattr(located, name)).all(), name
        assert plain.characters is None

    @pytest.mark.parametrize("max_length", [9, 32])
    def test_spans_are_where_transformers_finds_them(self, tokenizer, tiny_preset, max_length):
        from transformers import BertTokenizerFast

        frame = joint.questions()
        batch = BertTokenizerFast.from_pretrained(tiny_preset)(
            frame["text"].to_list(), frame["text_pair"].to_list(), truncation=True, max_length=max_length
        )
        tokens = encode_frame(
            tokenizer, BERT, frame, Inputs(True, tuple(joint.SPANS or ()), True, max_length)
        )
        lost = 0
        for i, row in enumerate(frame.iter_rows(named=True)):
            for p, (name, start, end) in enumerate(joint.SPANS):
                inside = (
                    batch.char_to_token(i, c, int(name == "text_pair")) for c in range(row[start], row[end])
                )
                got = sorted({t for t in inside if t is not None})
                begin, after = tokens.spans[i, p]
                assert list(range(begin, after)) == (got or [0])
            lost += (tokens.spans[i, :, 0] == 0).any()
        fraction = length_account(tokens, max_length)["span_lost_fraction"]
        assert fraction == lost / len(frame)
        assert (fraction > 0) == (max_length == 9)

    def test_cache_keeps_the_places(self, tokenizer, tmp_path):
        plain = encode_cached(tokenizer, BERT, TEXTS, None, 16, tmp_path)
        first, again = (encode_cached(tokenizer, BERT, TEXTS, None, 16, tmp_path, located=True) for _ in "ab")
        assert isinstance(again.ids.base, np.memmap)
        assert (again.characters == first.characters).all()
        assert (again.ids == plain.ids).all()
        assert len(list(tmp_path.glob("*.npy"))) == 2
        (file,) = (
            f
            for f in tmp_path.glob("*.npy")
            if f.stat().st_size == max(p.stat().st_size for p in tmp_path.glob("*.npy"))
        )
        file.write_bytes(file.read_bytes()[:-8])
        assert (
            encode_cached(tokenizer, BERT, TEXTS, None, 16, tmp_path, located=True).characters
            == first.characters
        ).all()

    def test_no_examples(self, tokenizer):
        frame = joint.questions().clear()
        assert encode_frame(
            tokenizer, BERT, frame, Inputs(True, tuple(joint.SPANS or ()), True, 32)
        ).spans.shape == (0, 3, 2)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_head_reads_the_pooled_vector_and_the_mean_of_each_span(tiny_preset, tokenizer, pooling):
    import torch
    from transformers import BertModel, BertTokenizerFast

    frame, spans = joint.questions(), joint.SPANS[:2]
    model = build_model(presets.locate(str(tiny_preset)), "regression", [], 1, pooling=pooling, spans=2)
    model.head.set_weights(joint.head_of(spans))
    tokens = encode_frame(tokenizer, BERT, frame, Inputs(True, tuple(spans or ()), True, 32))
    got = evaluate.predict_logits(model, tokens)
    batch = BertTokenizerFast.from_pretrained(tiny_preset)(
        frame["text"].to_list(), frame["text_pair"].to_list(), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        output = BertModel.from_pretrained(tiny_preset).eval()(**batch)
    hidden, pooled = output.last_hidden_state.numpy(), output.pooler_output.numpy()
    mask = batch["attention_mask"].numpy()[:, :, None]
    first = pooled if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    marked = [[hidden[i, b:e].mean(0) for b, e in places] for i, places in enumerate(tokens.spans)]
    features = np.concatenate([first, np.array(marked).reshape(len(frame), -1)], axis=1)
    kernel, bias = joint.head_of(spans)
    np.testing.assert_allclose(got, features @ kernel + bias, atol=2e-6)


def write_marked(path: Path, count: int = 120, seed: int = 0) -> Path:
    """Sentences with a good and a bad word, of which the marked one alone decides."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        words = [str(w) for w in [rng.choice(GOOD), rng.choice(BAD), *rng.choice(OTHER, 3)]]
        place = i % 2
        marked = words[place]
        order = rng.permutation(len(words))
        words = [words[j] for j in order]
        start = len(" ".join([*words[: words.index(marked)], ""]))
        rows.append({"text": " ".join(words), "from": start, "to": start + len(marked), "label": "ab"[place]})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.fixture(scope="module")
def marked_settings(tiny_preset, tmp_path_factory) -> dict:
    file = write_marked(tmp_path_factory.mktemp("marked") / "marked.jsonl")
    return {
        "data": {"train": str(file), "spans": [["text", "from", "to"]]},
        "model": {"preset": str(tiny_preset), "max_length": 24},
        "train": {
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 0.02,
            "checkpoint_every_steps": 3,
            "log_every_steps": 1,
        },
    }


@pytest.fixture(scope="module")
def marked_run(marked_settings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "marked"
    train.train(config.parse(marked_settings), folder)
    return folder


class TestRun:
    def test_the_marked_word_alone_decides(self, marked_run, marked_settings, tmp_path):
        assert json.loads((marked_run / "metrics.json").read_text())["validation"]["accuracy"] > 0.9
        rows = [json.loads(line) for line in Path(marked_settings["data"]["train"]).read_text().splitlines()]
        other = []
        for row in rows:
            word = row["text"][row["from"] : row["to"]]
            start = next(
                row["text"].index(w) for w in row["text"].split() if w in (BAD if word in GOOD else GOOD)
            )
            other.append(row | {"from": start, "to": row["text"].find(" ", start) % (len(row["text"]) + 1)})
        (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, other)))
        result = kft("evaluate", marked_run, "--data", tmp_path / "other.jsonl", "--json")
        assert json.loads(result.stdout)["metrics"]["accuracy"] < 0.1

    def test_a_copy_predicts_as_training_did(self, marked_run, marked_settings, tmp_path):
        stored = pl.read_parquet(marked_run / "predictions.test.parquet")
        answers = list(evaluate.predict(marked_run, pl.read_parquet(marked_run / "splits" / "test.parquet")))
        assert [a["label"] for a in answers] == stored["label"].to_list()
        content = json.loads((marked_run / "model.json").read_text())
        assert content["inputs"]["spans"] == [["text", "from", "to"]]

    def test_texts_without_their_columns_are_reported(self, marked_run):
        assert "standard input: the run also reads from, to" in mistake(
            kft("predict", marked_run, stdin="a film\n")
        )
        with pytest.raises(KftError, match="the frame: the run also reads from, to"):
            next(evaluate.predict(marked_run, pl.DataFrame({"text": ["a film"]})))

    @pytest.mark.parametrize("to", ["savedmodel", "hf", "keras", "onnx"])
    def test_is_not_exported(self, marked_run, tmp_path, to):
        message = mistake(kft("export", marked_run, "--to", to, "--output", tmp_path / "out"))
        assert f"the run's number of marked words (`data.spans`) is 1, which --to {to} cannot hold" in message

    def test_resumes_to_the_last_bit(self, marked_run, marked_settings, tmp_path, monkeypatch):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 8)
            train.train(config.parse(marked_settings), tmp_path / "run")
        train.resume(tmp_path / "run")
        assert_same_run(marked_run, tmp_path / "run")


MISTAKES = [
    ([["text", "from", "to"]], {"from": 3, "to": 3}, "the span from 3 to 3 (`from`, `to`) holds no character"),
    ([["text", "from", "to"]], {"from": 5, "to": 4}, "the span from 5 to 4 (`from`, `to`) holds no character"),
    ([["text", "from", "to"]], {"from": -1, "to": 4}, "does not stand in the 6 characters of `text`"),
    ([["text", "from", "to"]], {"from": 2, "to": 7}, "the span from 2 to 7 (`from`, `to`) does not stand in the 6 characters"),
    ([["text", "from", "to"]], {"from": "two", "to": 4}, "`from` must be a whole number, got: 'two'"),
    ([["text", "from", "to"]], {"from": 0.5, "to": None}, "`to` must be a whole number, got: None"),
    ([["text", "form", "to"]], {"from": 0, "to": 1}, "no column `form` (`data.spans`), did you mean `from`?"),
]  # fmt: skip


@pytest.mark.parametrize(("spans", "row", "message"), MISTAKES)
def test_mistakes_in_offsets(tmp_path, spans, row, message):
    """Counted in characters: the text has 6 of them in 13 bytes."""
    good = {"text": "a film", "from": 2, "to": 6, "label": "x"}
    rows = [good, good | {"text": "它是 film"[:6]} | row, good | {"label": "y"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    message = mistake(
        kft("data", f"--set=data.train={tmp_path / 'm.jsonl'}", f"--set=data.spans={json.dumps(spans)}")
    )
    assert message in message
    if "column" not in message:
        assert "m.jsonl, row 2" in message


def test_every_wrong_row_is_reported_at_once(tmp_path):
    rows = [{"text": "a film", "from": i, "to": 6, "label": "x"} for i in range(6, 14)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = config.DataConfig(train=str(tmp_path / "m.jsonl"), spans=[["text", "from", "to"]])
    with pytest.raises(KftError, match="row 1: .*\n.*row 2: .*\n.*\n.*\n.*row 5: .*\nand 3 more such rows"):
        sources.read(data)


CONFLICTS = [
    ('[["txt", "a", "b"]]', 'the first part must be "text" or "text_pair"'),
    ('[["text_pair", "a", "b"]]', "there is no second text, `data.text_pair` is not set"),
    ('[["text", "a", "a"]]', "begins and ends in the same column"),
    ('[["text", "a", "label"]]', "'label' is `data.label`"),
    ('[["text", "a", "id"]]', "'id' is a column that kft makes"),
    ('[["text", "a", 3]]', "the last two parts must be column names"),
    ('[["text", "a", "b"], ["text", "a", "b"]]', "is listed twice"),
    ('["text", "a", "b"]', '`data.spans` must be a list such as [["text", "start", "end"]]'),
    ("[]", "`data.spans` must be a list"),
]


@pytest.mark.parametrize(("spans", "message"), CONFLICTS)
def test_mistakes_in_the_setting(spans, message):
    assert message in mistake(kft("config", "bbc_news", f"--set=data.spans={spans}"))


def test_columns_by_number(tmp_path):
    (tmp_path / "m.csv").write_text("x,a film,2,6\ny,the plot,4,8\n")
    spans = [["text", 2, 3]]
    data = config.DataConfig(train=str(tmp_path / "m.csv"), header=False, text=1, label=0, spans=spans)
    frame = sources.read(data)["train"]
    assert frame.columns == ["id", "text", "label", "origin", "2", "3"]
    assert frame["2"].to_list() == [2, 4]


def test_built_in_sources_and_folders_have_no_columns():
    assert "bbc_news: has no columns for `data.spans`" in mistake(
        kft("data", "bbc_news", '--set=data.spans=[["text", "a", "b"]]')
    )


def test_other_marked_words_are_no_duplicates_but_stay_together(tmp_path):
    rows = [
        {"text": text, "from": start, "to": start + 1, "label": "xy"[i % 2]}
        for i in range(40)
        for text, start in ((f"text {i} of many", 0), (f"Text  {i} of many", 0), (f"text {i} of many", 3))
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spans = [["text", "from", "to"]]
    data = config.DataConfig(train=str(tmp_path / "m.jsonl"), spans=spans)
    prepared = splits.prepare(
        sources.read(data),
        config.SplitConfig(),
        config.CleanConfig(duplicates="normalized"),
        "classification",
        spans,
    )
    assert prepared.account["splits"]["train"]["dropped"] == {"duplicate": 40}
    texts = [set(frame["text"]) for frame in (prepared.train, prepared.validation, prepared.test)]
    assert sum(map(len, texts)) == 40
    assert prepared.train.height == 2 * len(texts[0])


def wsc_rows(file: Path) -> list[dict]:
    """WSC's words as characters, without rows whose index does not point at the text."""
    rows = []
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        fields = {"text": row["text"], "label": row["label"]}
        for p in (1, 2):
            words, marked = row["text"].split(), row["target"][f"span{p}_text"]
            start = len(" ".join([*words[: row["target"][f"span{p}_index"]], ""]))
            if " ".join(words) == row["text"] and row["text"][start : start + len(marked)] == marked:
                fields |= {f"start{p}": start, f"end{p}": start + len(marked)}
        rows += [fields] if len(fields) == 6 else []
    return rows


@pytest.mark.skipif(not (SHARED_DATA / "wic").is_dir(), reason="no ../shared/data")
def test_real_wic_and_wsc(tmp_path):
    """The tokens of each span spell the marked words."""
    preset = presets.locate("all_minilm_l6_v2_en")
    tokenizer = preset.tokenizer
    result = wsc_rows(SHARED_DATA / "wsc" / "train.jsonl")
    assert len(result) > 450
    (tmp_path / "wsc.jsonl").write_text("\n".join(map(json.dumps, result)))
    wsc = {
        "train": str(tmp_path / "wsc.jsonl"),
        "spans": [["text", "start1", "end1"], ["text", "start2", "end2"]],
    }
    wic = {"train": str(SHARED_DATA / "wic" / "train.jsonl"), "text": "sentence1", "text_pair": "sentence2",
           "spans": [["text", "start1", "end1"], ["text_pair", "start2", "end2"]]}  # fmt: skip
    for settings in (wic, wsc):
        data = config.DataConfig(**settings)
        frame = sources.read(data)["train"]
        tokens = encode_frame(
            tokenizer, BERT, frame, Inputs(data.text_pair is not None, tuple(data.spans or ()), True, 128)
        )
        assert length_account(tokens, 128)["span_lost_fraction"] == 0
        wrong = 0
        for i, row in enumerate(frame.iter_rows(named=True)):
            for p, (name, start, end) in enumerate(data.spans):
                begin, after = tokens.offsets[i] + tokens.spans[i, p]
                wrong += tokens.ids[begin:after].tolist() != tokenizer(row[name][row[start] : row[end]])
        assert wrong < 0.02 * len(frame)  # marks inside a word, such as "air" in "airs"
