"""Runs of an older kft (run format 1) answer, export, resume and start others as then."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import run_kft

from kft import evaluate, export, models, runs, train
from kft.models import presets
from kft.runs import FIELDS, RunDir

KEPT = Path(__file__).parent / "runs_of_format_1"
NAMES = ["classification", "pairs", "regression", "choice", "spans", "lora"]
TOLERANCE = 1e-4  # on another processor than the one that wrote them


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return shutil.copytree(KEPT, tmp_path_factory.mktemp("kept") / "runs")


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def assert_close(got, expected, where: str = "") -> None:
    """Equal, but for the last digits of numbers."""
    if isinstance(expected, dict):
        assert set(got) == set(expected), where
        for key in expected:
            assert_close(got[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), where
        for i, pair in enumerate(zip(got, expected, strict=True)):
            assert_close(*pair, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE), where
    else:
        assert got == expected, where


@pytest.mark.parametrize("name", NAMES)
def test_it_is_scored_as_it_was(kept, name):
    scores = evaluate.evaluate(kept / name / "run", "test")["metrics"]
    assert_close(scores, read(KEPT / name / "expected.json")["metrics"]["test"])


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_it_did(kept, name):
    (wanted,) = (kept / name).glob("ask.*")
    evaluate.predict_file(kept / name / "run", str(wanted), kept / name / "again.jsonl")
    got, expected = (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in (kept / name / "again.jsonl", KEPT / name / "answers.jsonl")
    )
    assert_close(got, expected)


@pytest.mark.parametrize("name", NAMES)
def test_its_model_is_reported_in_the_form_of_today(kept, name):
    run = RunDir(kept / name / "run")
    content = runs.read_model(run)
    fields = {field.split(".")[0].removesuffix("[]") for field in FIELDS["model.json"]}
    assert set(content) == fields - {"from_run", "drawn_anew"}
    assert models.read_architecture(run).spans == len(runs.read_inputs(run).spans)
    assert runs.read_inputs(run).paired == (name in ("pairs", "choice", "spans"))


def test_another_run_starts_from_it(kept):
    preset = presets.locate("unused", str(kept / "classification" / "run"))
    assert preset.family.name == "bert"
    assert preset.head.labels == ("negative", "positive")
    assert preset.tokenizer("good film") == [5, 13]


@pytest.mark.parametrize("name", ["classification", "regression", "choice"])
def test_it_goes_on_where_it_stopped(kept, name):
    """In a process of its own, as a user goes on with it."""
    done = run_kft("train", "--resume", kept / name / "unfinished", backend="jax")
    assert done.returncode == 0, done.stderr
    run, once = RunDir(kept / name / "unfinished"), RunDir(KEPT / name / "run")
    assert_close(read(run.metrics), read(once.metrics))
    assert read(run.model)["format"] == runs.RUN_FORMAT
    assert run.tokenizer.exists()
    assert not run.vocabulary.exists()
    for split in ("validation", "test"):
        frames = [pl.read_parquet(part.predictions(split)) for part in (run, once)]
        for column in frames[1].columns:
            got, expected = (frame[column].to_list() for frame in frames)
            assert_close(got, expected, column)


@pytest.mark.parametrize(
    ("name", "to"),
    [("classification", "savedmodel"), ("pairs", "onnx"), ("regression", "hf"), ("lora", "keras")],
)
def test_it_is_exported(kept, name, to):
    """The export answers as the run does: the exporter compares them."""
    for package in {"hf": ["transformers"], "onnx": ["onnx", "onnxruntime"]}.get(to, []):
        pytest.importorskip(package)
    content = export.export(kept / name / "run", to, kept / name / to)
    assert content["comparison"]["max_difference"] <= content["comparison"]["tolerance"]


def test_a_finished_one_is_left_alone(kept):
    run = RunDir(kept / "classification" / "run")
    before = run.model.read_bytes()
    assert train.resume(run.path)["metrics"] == read(run.metrics)
    assert run.model.read_bytes() == before
    assert np.isfinite(list(read(run.metrics)["test"].values())).all()
