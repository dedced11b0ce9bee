"""Tests of tools/parity.py for question answering in the tiny world: kft and the loop learn."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import GOOD, OTHER

from kft import config, runs
from kft.studies import ensemble

torch = pytest.importorskip("torch", reason="the loop needs torch")
transformers = pytest.importorskip("transformers", reason="the loop is over its models")

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import parity  # noqa: E402
import parity_answers  # noqa: E402


@pytest.fixture(scope="module")
def folder(tiny_preset, tmp_path_factory):
    """Runs over one seed; a fifth of the questions has no answer."""
    rng, rows = np.random.default_rng(0), []
    for i in range(160):
        words = rng.choice(OTHER, rng.integers(5, 25)).tolist()
        place = int(rng.integers(len(words)))
        words[place] = str(rng.choice(GOOD)) if i % 5 else words[place]
        start = len(" ".join(["", *words[:place]]))
        answers = [{"text": words[place], "answer_start": start}] if i % 5 else []
        rows.append({"id": i, "question": "the good", "context": " ".join(words), "answers": answers})
    path = tmp_path_factory.mktemp("parity")
    (path / "films.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {
        "task": "question_answering",
        "data": {"train": str(path / "films.jsonl")},
        "model": {"preset": str(tiny_preset), "max_length": 24},
        "train": {"epochs": 5, "batch_size": 16, "learning_rate": 0.01},
    }
    ensemble.train(config.parse(settings), path / "runs", (1,))
    return path / "runs"


def test_both_learn_and_loops_are_trained_once(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["parity", "--runs", str(folder), "--json"])
    parity.main()
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"validation", "test"}
    for of in result["validation"].values():
        assert min(of["kft"]) > 0.8 and min(of["loop"]) > 0.8
    monkeypatch.setattr(parity_answers, "train_loop", lambda *_: pytest.fail("trains a loop again"))
    monkeypatch.setattr(sys, "argv", ["parity", "--runs", str(folder)])
    parity.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| split | metric | kft | loop | difference | p |"
    assert [line.split(" | ")[1] for line in lines[2:]] == ["f1", "exact_match"] * 2


def test_rows_and_answers_are_those_of_the_run(folder):
    """The windows of the loop are kft's, and of kft's weights it gives kft's answers."""
    (member,) = runs.finished_members(runs.open_ensemble(folder))
    run, settings = member.run, runs.read_config(member.run)
    tokenizer = transformers.AutoTokenizer.from_pretrained(settings.model.preset)
    windows = parity_answers.Windows(settings.model.max_length, settings.model.stride)
    rows = parity_answers.training_rows(tokenizer, parity_answers.frames_of(settings)["train"], windows)
    account = json.loads(run.data.read_text())["splits"]["train"]
    assert len(rows) == account["tokens"]["windows"] > account["examples"]
    from kft import export

    export.export(run.path, "hf", folder.parent / "hf", verify=False)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder.parent / "hf")
    frame, table = pl.read_parquet(run.split("validation")), pl.read_parquet(run.predictions("validation"))
    learned = runs.read_learned(run)
    found = parity_answers.predict(model, tokenizer, frame, windows, learned.longest)
    assert found.texts == [row[0]["text"] for row in table["candidates"]]
    none = [row[0]["log_probability"] for row in table["candidates"]]
    expected = table["none_log_probability"].to_numpy() - np.array(none)
    np.testing.assert_allclose(found.doubts, expected, atol=1e-4)
    assert parity_answers.tuned(found, frame) == pytest.approx(learned.none_above, abs=1e-4)
    scores = parity_answers.scored(found, frame, learned.none_above + 1e-4)
    metrics = json.loads((run.path / "metrics.json").read_text())["validation"]
    assert scores == pytest.approx({name: metrics[name] for name in scores})


def test_a_folder_without_runs_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["parity", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no ensemble"):
        parity.main()
