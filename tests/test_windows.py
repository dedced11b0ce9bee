"""Long texts of tasks with one answer: cut into windows, whose logits become one answer."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import BAD, GOOD, OTHER, build_model, write_csv
from test_updates import assert_same_weights

from kft import batches, config, evaluate, export, models, runs, train
from kft.errors import KftError
from kft.models import losses, presets
from kft.tasks import TASKS
from kft.tasks.record import Inputs, Learned
from kft.text import encode_frame, pack_windows

keras = losses.keras  # kft has chosen the backend before it is imported

LABELS = ["negative", "positive"]
LENGTH, STRIDE = 8, 2  # a window has room for 6 words, the next begins 4 words later


def words(count: int, seed: int = 0) -> str:
    return " ".join(np.random.default_rng(seed).choice(OTHER, count))


def long_texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of 1 to 30 words; the word that decides is the last."""
    rng = np.random.default_rng(seed)
    sides = zip(range(count), rng.integers(0, 30, count), strict=True)
    return [
        (f"{words(n, seed + i)} {rng.choice((BAD, GOOD)[i % 2])}".strip(), LABELS[i % 2]) for i, n in sides
    ]


def settings_of(preset: Path, folder: Path, task: str = "classification", **sections: dict):
    """Eight examples are one update."""
    files = {
        name: str(write_csv(folder / f"{name}.csv", long_texts(count, seed)))
        for name, count, seed in (("train", 24, 0), ("validation", 12, 100))
    }
    given = {
        "data": files,
        "model": {"preset": str(preset), "max_length": LENGTH, "stride": STRIDE, "dropout": 0.0},
        "train": {
            "epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "epsilon": 1e-3, "keep_checkpoints": True,
            "schedule": "constant",
        },
    }  # fmt: skip
    return config.parse(
        {"task": task} | {name: part | sections.get(name, {}) for name, part in given.items()}
    )


@pytest.fixture(scope="module")
def run(tiny_preset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    train.train(settings_of(tiny_preset, folder), folder / "run")
    return folder / "run"


def tokens_of(preset, frame: pl.DataFrame, paired: bool = False, stride: int | None = STRIDE):
    inputs = Inputs(paired, (), False, LENGTH, stride=stride)
    return encode_frame(preset.tokenizer, preset.family.template, frame, inputs)


TASK_OF = {
    "classification": (LABELS, 2),
    "multilabel_classification": (["a", "b", "c"], 3),
    "regression": ([], 1),
}


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("task", TASK_OF)
def test_logits_are_those_of_the_windows_merged_by_hand(tiny_preset, task, how):
    preset = presets.locate(str(tiny_preset))
    labels, outputs = TASK_OF[task]
    model = build_model(preset, task, labels, outputs, windows=how)
    texts = [words(n, n) for n in (1, 6, 7, 23)]
    frame = pl.DataFrame({"text": texts})
    answers = evaluate.predict_logits(model, tokens_of(preset, frame))
    assert answers.shape == (4, outputs)
    for text, answer in zip(texts, answers, strict=True):
        single = text.split()
        cuts = [single[i : i + 6] for i in range(0, max(len(single) - 2, 1), 4)]
        alone = pl.DataFrame({"text": [" ".join(cut) for cut in cuts]})
        logits = evaluate.predict_logits(model, tokens_of(preset, alone, stride=None))
        np.testing.assert_allclose(answer, getattr(logits, how)(axis=0), atol=1e-5)


def test_a_text_of_just_max_length_tokens_is_one_window(tiny_preset):
    preset = presets.locate(str(tiny_preset))
    frame = pl.DataFrame({"text": [words(5), words(6), words(7), ""]})
    tokens = tokens_of(preset, frame)
    assert tokens.examples.tolist() == [0, 1, 2, 2, 3]
    cut = tokens_of(preset, frame[:2], stride=None)
    whole = tokens_of(preset, frame[:2])
    for name in ("ids", "offsets", "second_starts", "full_lengths"):
        assert np.array_equal(getattr(whole, name), getattr(cut, name))
    reads = TASKS["classification"].places(frame[:2], whole)
    assert batches.spread(reads, whole) is reads  # nothing is merged, so steps are those without stride


def test_of_pairs_the_second_text_is_cut(tiny_preset):
    preset = presets.locate(str(tiny_preset))
    model = build_model(preset, "classification", LABELS, 2)
    frame = pl.DataFrame({"text": ["good", "the film"], "text_pair": [words(7), words(2)]})
    inputs = Inputs(True, (), False, LENGTH, stride=1)
    logits = evaluate.predict_logits(
        model, encode_frame(preset.tokenizer, preset.family.template, frame, inputs)
    )
    second = words(7).split()
    cuts = [second[i : i + 4] for i in (0, 3)]
    pairs = pl.DataFrame({"text": ["good"] * 2, "text_pair": [" ".join(cut) for cut in cuts]})
    alone = evaluate.predict_logits(model, tokens_of(preset, pairs, paired=True, stride=None))
    np.testing.assert_allclose(logits[0], alone.mean(axis=0), atol=1e-5)
    with pytest.raises(
        KftError, match="row 1: its first text leaves room for 1 tokens of the second"
    ) as caught:
        tokens_of(preset, frame.with_columns(text=pl.lit(words(4))), paired=True)
    assert "exchanged" in caught.value.hint


# Training.


def batch_of(preset, task: str, frame: pl.DataFrame, learned: Learned, packed: bool):
    tokens = tokens_of(preset, frame, paired="text_pair" in frame.columns)
    reads = batches.spread(TASKS[task].reads(frame, tokens, learned), tokens)
    units = len(np.unique(reads.groups))
    plan = batches.plan(np.diff(tokens.offsets), units, 1, 0, packed=packed, reads=reads)
    assert (plan.units, plan.steps) == (units, 1)
    return next(batches.dataset(plan, tokens, reads, 0)), tokens, reads


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_is_of_the_logits_of_whole_texts(tiny_preset, packed, how):
    preset = presets.locate(str(tiny_preset))
    frame = pl.DataFrame(long_texts(6), schema=["text", "label"], orient="row")
    learned = Learned(tuple(LABELS))
    batch, tokens, _ = batch_of(preset, "classification", frame, learned, packed)
    model = build_model(preset, "classification", LABELS, 2, windows=how, dropout=0.0)
    model.compile(optimizer="sgd", loss=losses.LOSSES["cross_entropy"]())
    inputs, targets, weights = batch
    assert weights.sum() == 6  # an example counts once
    loss = model.compute_loss(inputs, targets, model(inputs), weights)
    logits = evaluate.predict_logits(model, tokens).astype(np.float64)
    right = [LABELS.index(label) for label in frame["label"]]
    wanted = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), right]
    np.testing.assert_allclose(float(loss), wanted.mean(), rtol=1e-5)


def test_choices_compete_with_all_their_windows(tiny_preset):
    preset = presets.locate(str(tiny_preset))
    rows = [
        ("good", words(12), "1", "q"), ("good", words(2, 1), "0", "q"), ("bad", words(1, 2), "0", "r"),
        ("bad", words(9, 3), "1", "r"), ("bad", words(4, 4), "0", "r"),
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["text", "text_pair", "label", "group"], orient="row")
    frame = frame.with_columns(id=pl.int_range(5), origin=pl.lit("file"))
    (inputs, targets, weights), tokens, _ = batch_of(preset, "choice", frame, Learned(), True)
    model = build_model(preset, "choice", [], 1, dropout=0.0)
    model.compile(optimizer="sgd", loss=losses.LOSSES["cross_entropy_among_rivals"]())
    loss = model.compute_loss(inputs, targets, model(inputs), weights)
    scores = evaluate.predict_logits(model, tokens)[:, 0].astype(np.float64)
    wanted = [np.log(np.exp(scores[:2]).sum()) - scores[0], np.log(np.exp(scores[2:]).sum()) - scores[3]]
    np.testing.assert_allclose(float(loss), np.mean(wanted), rtol=1e-5)


def of_eight(preset: Path, folder: Path, **section):
    """Settings whose updates are of the same eight texts."""
    rows = write_csv(folder / "eight.csv", long_texts(8))
    files = {"train": str(rows), "validation": str(rows)}
    return settings_of(preset, folder, data=files, train=section)


@pytest.fixture(scope="module")
def whole(tiny_preset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train.train(of_eight(tiny_preset, folder), folder / "run")
    return folder / "run"


@pytest.mark.parametrize(("batch_size", "packing"), [(4, True), (1, False)])
def test_updates_are_the_same_however_they_are_cut(whole, tiny_preset, tmp_path, batch_size, packing):
    """Texts are counted by batch size and accumulation, not windows."""
    section = {"batch_size": batch_size, "gradient_accumulation_steps": 8 // batch_size, "packing": packing}
    train.train(of_eight(tiny_preset, tmp_path, **section), tmp_path / "run")
    assert_same_weights(whole, tmp_path / "run")


def test_a_run_counts_texts_and_learns_from_their_ends(run):
    account = json.loads((run / "data.json").read_text())["splits"]["train"]
    assert account["tokens"]["windows"] > 2 * account["examples"] == 48
    assert account["tokens"]["truncated_fraction"] == 0
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == 6  # 24 texts, 8 in a step, 2 epochs
    assert len(pl.read_parquet(run / "predictions.validation.parquet")) == 12
    scores = evaluate.evaluate(run, "validation")
    assert scores["examples"] == 12
    assert scores["metrics"] == pytest.approx(json.loads((run / "metrics.json").read_text())["validation"])


def test_a_stopped_run_goes_on_to_the_same_weights(run, tiny_preset, tmp_path):
    stop = threading.Event()
    control = train.Control(stop=stop, after_epoch=lambda _: stop.set())
    with pytest.raises(train.Stopped):
        train.train(settings_of(tiny_preset, tmp_path), tmp_path / "run", control)
    train.resume(tmp_path / "run")
    ours, theirs = (models.load(runs.RunDir(path)).named.arrays() for path in (tmp_path / "run", run))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"stride": None, "windows": "max"}}, "`model.windows` needs `model.stride`"),
        ({"model": {"stride": LENGTH}}, "`model.stride` must be below `model.max_length` = 8, got: 8"),
        ({"data": {"spans": [["text", "start", "end"]]}}, "`data.spans` marks words"),
        ({"task": "token_classification", "model": {"windows": "max"}}, "`model.windows` needs one answer"),
    ],
)
def test_settings_that_exclude_each_other(tiny_preset, tmp_path, sections, message):
    with pytest.raises(KftError, match=message):
        settings_of(tiny_preset, tmp_path, **sections)


# Artefacts.


@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_saved_model_merges_windows_too(run, tmp_path, how):
    copy = runs.RunDir(tmp_path / "run")
    shutil.copytree(run, copy.path)
    content = json.loads(copy.model.read_text())
    runs.write_json(copy.model, content | {"inputs": content["inputs"] | {"windows": how}})
    runs.finish(copy)
    report = export.export(copy.path, "savedmodel", tmp_path / "saved")
    assert report["windows"] == {"stride": STRIDE, "merged": how}
    assert report["comparison"]["max_difference"] < 1e-5
    assert report["notes"] == []


@pytest.mark.parametrize("paired", [False, True])
def test_windows_in_a_graph_are_the_same(tiny_preset, paired):
    import tensorflow as tf

    preset = presets.locate(str(tiny_preset))
    counts = (0, 1, 3, 4, 5, 6, 7, 20)
    frame = pl.DataFrame({"text": [words(n, n) for n in counts]})
    if paired:
        frame = frame.select(pl.Series("text", [words(n % 3, n) for n in counts]), text_pair="text")
    tokens = tokens_of(preset, frame, paired, stride=1)
    columns = [
        tf.ragged.constant(preset.tokenizer.encode(frame[c].to_list()), tf.int32) for c in frame.columns
    ]
    parts = preset.tokenizer.frame(preset.family.template, paired)
    ids, segments, example = pack_windows(columns[0], columns[1] if paired else None, parts, LENGTH, 1)
    assert np.array_equal(ids.flat_values, tokens.ids)
    assert np.array_equal(ids.row_lengths(), np.diff(tokens.offsets))
    assert np.array_equal(example, tokens.examples)
    assert np.array_equal(tf.reduce_sum(segments, 1), np.diff(tokens.offsets) - tokens.second_starts)


def test_an_export_that_cuts_says_so(run, tmp_path):
    report = export.export(run, "hf", tmp_path / "hf")
    assert any("cuts texts to 8 tokens" in note for note in report["notes"])
