"""Questions with choices: whole in every step, with transformers' softmax over scores."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import joint
import numpy as np
import polars as pl
import pytest
from conftest import BAD, GOOD, OTHER, SHARED_DATA, build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_batches import make_tokens
from test_cli import kft, mistake
from test_train import Killed, _die_before, assert_same_run

from kft import batches, config, evaluate, models, runs, train
from kft.data import sources, splits
from kft.errors import KftError
from kft.models import presets
from kft.tasks import TASKS, scoring
from kft.tasks.record import Learned, Reads, read_first
from kft.text import BERT, encode


def write_questions(path: Path, count: int = 40, choices: tuple[int, ...] = (2, 3), seed: int = 0) -> Path:
    """Questions whose right choice has a good word, a row for each choice, shuffled."""
    rng = np.random.default_rng(seed)
    rows = []
    for q in range(count):
        size = choices[q % len(choices)]
        right = rng.integers(size)
        text = " ".join(rng.choice(OTHER, 3))
        for i in range(size):
            word = rng.choice(GOOD if i == right else BAD)
            pair = f"{rng.choice(OTHER)} {word} {' '.join(rng.choice(OTHER, rng.integers(0, 4)))}".strip()
            rows.append({"text": text, "answer": pair, "label": int(i == right), "question": f"q{q}"})
    rng.shuffle(rows)
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.fixture(scope="module")
def choice_settings(tiny_preset, tmp_path_factory) -> dict:
    file = write_questions(tmp_path_factory.mktemp("choices") / "questions.jsonl", 80)
    return {
        "task": "choice",
        "data": {"train": str(file), "text_pair": "answer", "group": "question"},
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
def choice_run(choice_settings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "choice"
    train.train(config.parse(choice_settings), folder)
    return folder


def frame_of(*rows: tuple, columns=("group", "text_pair", "label")) -> dict[str, pl.DataFrame]:
    """Train with the rows, as `sources` would give it."""
    frame = pl.DataFrame(rows, schema=list(columns), orient="row").with_row_index("id")
    frame = frame.with_columns(pl.col("id").cast(pl.Int64), text=pl.lit("a film"), origin=pl.lit("made.csv"))
    return {"train": frame, "validation": frame.head(2).with_columns(text=pl.lit("the plot"))}


def prepare(frames, **clean):
    return splits.prepare(frames, config.SplitConfig(), config.CleanConfig(**clean), "choice")


class TestData:
    @pytest.mark.parametrize("method", ["random", "hash"])
    def test_a_question_never_parts_between_splits(self, tmp_path, method):
        data = config.DataConfig(
            train=str(write_questions(tmp_path / "q.jsonl", 200, (2, 3, 5))),
            text_pair="answer",
            group="question",
        )
        split = config.SplitConfig(method=method, validation_fraction=0.2, test_fraction=0.2)
        prepared = splits.prepare(sources.read(data), split, config.CleanConfig(), "choice")
        groups = [set(frame["group"]) for frame in (prepared.train, prepared.validation, prepared.test)]
        assert sum(map(len, groups)) == 200
        assert len(set.union(*groups)) == 200
        assert prepared.account["splits"]["test"]["questions"] == {
            "count": len(groups[2]),
            "choices_mean": pytest.approx(prepared.test.height / len(groups[2])),
            "choices_max": 5,
        }

    def test_cleaning_drops_whole_questions(self):
        prepared = prepare(
            frame_of(
                ("a", "x", "1"),
                ("a", "y", "0"),
                ("b", " ", "1"),
                ("b", "y", "0"),
                ("c", "z", None),
                ("c", "w", "1"),
            )
        )
        assert prepared.train["group"].to_list() == ["a", "a"]
        assert prepared.account["splits"]["train"]["dropped"] == {"empty_text_pair": 2, "missing_label": 2}

    def test_only_whole_questions_are_duplicates(self):
        rows = [("a", "x", "1"), ("a", "y", "0")]
        again = [("b", "y", "0"), ("b", "x", "1")]  # the same, in another order
        other = [("c", "x", "1"), ("c", "z", "0")]  # shares a row with them
        opposite = [("d", "x", "0"), ("d", "y", "1")]
        frames = frame_of(*rows, *again, *other, *opposite)
        kept = prepare(frames, duplicates="exact")
        assert kept.train["group"].to_list() == ["a", "a", "c", "c"]
        assert kept.account["splits"]["train"]["dropped"] == {"conflicting_label": 2, "duplicate": 2}
        duplicates = prepare(frames).account["splits"]["train"]["duplicates"]
        assert duplicates == {"exact": 4, "normalized": 4, "conflicting_labels": 6}

    def test_a_train_question_that_is_also_validation_is_a_leak(self):
        frames = frame_of(("a", "x", "1"), ("a", "y", "0"), ("b", "x", "1"), ("b", "z", "0"))
        frames["validation"] = frames["train"].head(2)
        prepared = prepare(frames, leaks="drop")
        assert prepared.account["leaks"]["validation"] == 2
        assert prepared.train["group"].to_list() == ["b", "b"]

    def test_max_examples_keeps_whole_questions(self, tmp_path):
        rows = [{"text": f"t{i}", "label": int(i % 3 == 0), "question": i // 3} for i in range(12)]
        (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
        data = config.DataConfig(train=str(tmp_path / "q.jsonl"), group="question", max_examples=7)
        assert sources.read(data)["train"]["group"].to_list() == ["0"] * 3 + ["1"] * 3


MISTAKES = [
    ({"group": "question"}, [("q", "1"), ("q", "1"), ("r", "0"), ("r", "0"), ("s", "1")],
     ["question q has 2 choices, 2 of them right", "row 3: question r has 2 choices, 0 of them right",
      "question s has 1 choice, 1 of them right"]),
    ({"group": "question"}, [("q", "1"), ("q", "2")], ["row 2: label must be 1 for the right choice or 0, got: '2'"]),
    ({"group": "question"}, [("q", "1"), ("", "0")], ["row 2: `question` is empty, so it belongs to no question"]),
    ({"group": "questoin"}, [("q", "1"), ("q", "0")], ["no column `questoin` (`data.group`), did you mean `question`?"]),
    ({}, [("q", "1"), ("q", "0")], ['`task` = "choice" needs `data.group`']),
    ({"group": "label"}, [("q", "1"), ("q", "0")], ["`data.group` is the same column as `data.label`: 'label'"]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "rows", "message"), MISTAKES)
def test_mistakes_in_questions(tmp_path, data, rows, message):
    lines = [f"{q},text {i},{label}" for i, (q, label) in enumerate(rows)]
    (tmp_path / "q.csv").write_text("\n".join(["question,text,label", *lines, "y,b,1", "y,c,0"]))
    arguments = [f"--set=data.{key}={value}" for key, value in ({"train": tmp_path / "q.csv"} | data).items()]
    message = mistake(kft("data", "--set=task=choice", *arguments))
    assert all(part in message for part in message), message


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.label_smoothing=0.1", "`train.label_smoothing` needs classes, and `task` is choice"),
        ("train.class_weight=balanced", "`train.class_weight` needs classes, and `task` is choice"),
        ("train.loss=mse", '`train.loss` = "mse" is not for choice'),
        ("split.method=stratified", '"stratified" needs classes; a choice takes "random" or "hash"'),
    ],
)
def test_settings_that_choices_do_not_take(setting, message):
    assert message in mistake(
        kft("config", "sst2", "--set=task=choice", "--set=data.group=q", f"--set={setting}")
    )


def rivals(groups: np.ndarray) -> Reads:
    """The first token of each example, which compete within their groups."""
    return read_first(
        len(groups),
        targets=np.arange(len(groups), dtype=np.int32)[:, None],
        weights=np.ones(len(groups), np.float32),
        rivals="question",
        questions=groups,
    )


class TestBatches:
    @settings(max_examples=40, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 6), min_size=1, max_size=40),
        batch_size=st.integers(1, 9),
        packed=st.booleans(),
        devices=st.sampled_from([1, 4]),
        seed=st.integers(0, 3),
    )
    def test_every_step_holds_whole_questions(self, sizes, batch_size, packed, devices, seed):
        rng = np.random.default_rng(seed)
        groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        tokens_ = make_tokens(rng.integers(2, 40, len(groups)), seed)
        reads = rivals(groups)
        plan = batches.plan(
            np.diff(tokens_.offsets), batch_size, 2, seed, packed=packed, devices=devices, reads=reads
        )
        assert plan.packed_rows % devices == 0
        for epoch in range(2):
            steps = batches.dataset(plan, tokens_, reads, epoch)
            seen = []
            for _, target, weight in steps:
                real = target[weight > 0]
                numbers, counts = np.unique(real[:, 1] - 1, return_counts=True)
                assert (counts == np.array(sizes)[numbers]).all()
                seen.append(numbers)
            assert [len(numbers) for numbers in seen[:-1]] == [batch_size] * (plan.steps - 1)
            assert sorted(np.concatenate(seen)) == list(range(len(sizes)))

    def test_order_is_a_function_of_seed_and_epoch(self):
        groups = np.repeat(np.arange(50), 3)
        lengths = np.random.default_rng(0).integers(5, 50, 150)
        one, two = (batches.plan(lengths, 8, 2, 1, reads=rivals(groups)) for _ in range(2))
        assert (batches.placement(one, 1).examples == batches.placement(two, 1).examples).all()
        assert (batches.placement(one, 0).examples != batches.placement(one, 1).examples).any()


def test_scores_and_loss_are_those_of_multiple_choice(tiny_preset, tmp_path):
    """A folder of transformers' BertForMultipleChoice keeps its head and its answers."""
    import torch
    from transformers import BertForMultipleChoice, BertTokenizerFast

    rng = np.random.default_rng(0)
    count, size = 6, 3
    texts = [" ".join(rng.choice([*GOOD, *BAD, *OTHER], rng.integers(1, 8))) for _ in range(count * size)]
    pairs = [" ".join(rng.choice(OTHER, rng.integers(1, 6))) for _ in texts]
    right = rng.integers(size, size=count)
    frame = pl.DataFrame({"text": texts, "text_pair": pairs}).with_columns(
        group=pl.Series(np.repeat([f"q{i}" for i in range(count)], size)),
        label=pl.Series([str(int(i % size == right[i // size])) for i in range(len(texts))]),
        origin=pl.lit("made"),
        id=pl.int_range(len(texts)),
    )
    torch.manual_seed(0)
    theirs = BertForMultipleChoice.from_pretrained(tiny_preset).eval()
    theirs.save_pretrained(tmp_path)
    for file in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(tiny_preset / file, tmp_path)
    preset = presets.locate(str(tmp_path))
    model = build_model(preset, "choice", [], 1)
    other = build_model(preset, "regression", [], 1).head.get_weights()[0]
    assert abs(other - model.head.get_weights()[0]).max() > 0  # a scorer of choices is no regression
    tokenizer = preset.tokenizer
    logits = evaluate.predict_logits(model, encode(tokenizer, BERT, texts, pairs, 32))
    scored = evaluate.score(frame, logits, "choice", Learned())

    batch = BertTokenizerFast.from_pretrained(tiny_preset)(texts, pairs, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = theirs(
            **{name: t.reshape(count, size, -1) for name, t in batch.items()}, labels=torch.tensor(right)
        )
    np.testing.assert_allclose(logits.reshape(count, size), output.logits.numpy(), atol=2e-6)
    assert scored.loss == pytest.approx(float(output.loss), abs=1e-6)
    assert scored.metrics["accuracy"] == (output.logits.argmax(1).numpy() == right).mean()
    predictions = scored.predictions
    np.testing.assert_allclose(
        predictions["probability"].to_numpy().reshape(count, size),
        output.logits.softmax(1).numpy(),
        atol=1e-6,
    )
    assert (
        predictions["chosen"].to_numpy().reshape(count, size).argmax(1) == output.logits.argmax(1).numpy()
    ).all()


@pytest.fixture(scope="module")
def on_torch(tiny_preset, tmp_path_factory) -> dict[str, np.ndarray]:
    """What `joint` makes on the torch backend, in a process of its own."""
    output = tmp_path_factory.mktemp("joint") / "torch.npz"
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    program = Path(joint.__file__)
    subprocess.run([sys.executable, program, tiny_preset, output], check=True, env=environment)
    return dict(np.load(output))


@pytest.mark.parametrize("name", ["plain", "spans"])
def test_loss_and_gradients_packed_unpacked_and_by_hand(tiny_preset, on_torch, name):
    spans = joint.SPANS if name == "spans" else None
    loss, reference = joint.by_torch(str(tiny_preset), spans)
    for packed in (True, False):
        got, gradients = joint.by_kft(str(tiny_preset), spans, packed)
        assert got == pytest.approx(loss, abs=1e-6)
        assert float(on_torch[f"{name}/{packed}/loss"]) == pytest.approx(loss, abs=1e-6)
        for i, gradient in gradients.items():
            np.testing.assert_allclose(gradient, on_torch[f"{name}/{packed}/{i}"], atol=1e-5)
        for known in reference.values():
            near = [abs(g - known).max() for g in gradients.values() if g.shape == known.shape]
            assert min(near) < 1e-5, near


def test_every_task_keeps_the_group():
    frame = pl.DataFrame({"id": [0, 1], "text": ["a", "b"], "group": ["q", "q"], "label": ["x", "y"]})
    frame = frame.with_columns(origin=pl.lit("made"))
    logits = np.eye(2, dtype=np.float32)
    scored = evaluate.score(frame, logits, "classification", Learned(("x", "y")))
    assert scored.predictions["group"].to_list() == ["q", "q"]
    assert scored.metrics["accuracy"] == 1


class TestRun:
    def test_learns_and_reports_questions(self, choice_run):
        scores = json.loads((choice_run / "metrics.json").read_text())["test"]
        assert scores["accuracy"] > 0.8
        assert (
            list(scores) == scoring.names("choice") == ["accuracy", "log_loss", "expected_calibration_error"]
        )
        details = json.loads((choice_run / "details.json").read_text())["test"]
        predictions = pl.read_parquet(choice_run / "predictions.test.parquet")
        assert details["questions"] == predictions["group"].n_unique()
        by_group = predictions.group_by("group").agg(pl.col("chosen").sum(), pl.col("probability").sum())
        assert (by_group["chosen"] == 1).all()
        assert (by_group["probability"] - 1).abs().max() < 1e-9
        right = predictions.filter("chosen")["target"] == "1"
        assert right.mean() == scores["accuracy"]
        low, high = details["intervals"]["accuracy"]
        assert low <= scores["accuracy"] <= high
        assert "questions" in (choice_run / "report.html").read_text()

    def test_every_field_is_documented(self, choice_run):
        from test_runs import is_documented, names

        for file in ("data.json", "details.json", "metrics.json", "model.json"):
            fields = names(json.loads((choice_run / file).read_text()))
            assert all(is_documented(name, runs.FIELDS[file]) for name in fields), file

    def test_commands(self, choice_run, choice_settings, tmp_path):
        file = choice_settings["data"]["train"]
        content = json.loads(kft("evaluate", choice_run, "--data", file, "--json").stdout)
        answers = [json.loads(line) for line in kft("predict", choice_run, file).stdout.splitlines()]
        rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
        assert [(a["text"], a["text_pair"], a["group"]) for a in answers] == [
            (r["text"], r["answer"], r["question"]) for r in rows
        ]
        assert set(answers[0]) == {"id", "text", "text_pair", "group", "score", "probability", "chosen"}
        right = [a["chosen"] for a, r in zip(answers, rows, strict=True) if r["label"]]
        assert content["metrics"]["accuracy"] == pytest.approx(np.mean(right))
        again = json.loads(kft("evaluate", choice_run, "--split", "train", "--json").stdout)
        assert again["examples"] > 100

        assert "also reads question" in mistake(kft("predict", choice_run, stdin="a film\tgood\n"))
        with pytest.raises(KftError, match="the texts: the run also reads question"):
            next(evaluate.predict(choice_run, [("a", "b")]))
        for to in ("savedmodel", "hf", "keras", "onnx"):
            message = mistake(kft("export", choice_run, "--to", to, "--output", tmp_path / to))
            assert f"the run's task is 'choice', which --to {to} cannot hold" in message
            assert not (tmp_path / to).exists()

    def test_another_run_starts_with_its_head(self, choice_run, choice_settings, tmp_path):
        changes = {"model.from_run": str(choice_run), "train.epochs": 1, "train.learning_rate": 1e-9}
        train.train(config.change(config.parse(choice_settings), changes), tmp_path / "next")
        start, end = (models.load(runs.RunDir(path)) for path in (choice_run, tmp_path / "next"))
        for a, b in zip(start.get_weights(), end.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert runs.read_json(tmp_path / "next" / "model.json")["from_run"]["head_kept"] is True

    def test_resumes_to_the_last_bit(self, choice_run, choice_settings, tmp_path, monkeypatch):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 11)
            train.train(config.parse(choice_settings), tmp_path / "run")
        train.resume(tmp_path / "run")
        assert_same_run(choice_run, tmp_path / "run")


@pytest.mark.skipif(not (SHARED_DATA / "copa").is_dir(), reason="no ../shared/data")
def test_real_copa_and_record(tmp_path):
    """COPA's two choices and ReCoRD's many entities as rows: whole, one right choice each."""
    copa, record = [], []
    for line in (SHARED_DATA / "copa" / "train.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        copa += [
            {
                "q": row["idx"],
                "text": row["premise"],
                "text_pair": row[f"choice{i + 1}"],
                "label": i == row["label"],
            }
            for i in (0, 1)
        ]
    for line in (SHARED_DATA / "record" / "train.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        passage, (query,) = row["passage"], row["qas"]
        names = dict.fromkeys(passage["text"][e["start"] : e["end"] + 1] for e in passage["entities"])
        right = {answer["text"] for answer in query["answers"]}
        first = next(name for name in names if name in right)
        record += [
            {
                "q": row["idx"],
                "text": passage["text"],
                "text_pair": query["query"].replace("@placeholder", n),
                "label": n == first,
            }
            for n in names
        ]
    for name, rows in (("copa", copa), ("record", record)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        data = config.DataConfig(train=str(tmp_path / f"{name}.jsonl"), text_pair="text_pair", group="q")
        prepared = splits.prepare(sources.read(data), config.SplitConfig(), config.CleanConfig(), "choice")
        count = {
            part: part_account["questions"]["count"]
            for part, part_account in prepared.account["splits"].items()
        }
        assert sum(count.values()) == (400 if name == "copa" else 32)
        reads = TASKS["choice"].reads(prepared.train, None, Learned())
        plan = batches.plan(np.full(prepared.train.height, 20), 4, 1, 0, reads=reads)
        assert plan.units == count["train"]
