"""Tests of tools/suite_parity.py in the tiny world: kft and the loop learn the same tasks."""

import json
import sys
from pathlib import Path

import pytest
from conftest import GOOD, OTHER, sentences

from kft.studies.suites import running

pytest.importorskip("torch", reason="the loop needs torch")
pytest.importorskip("transformers", reason="the loop is over transformers' BertModel")

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import suite_parity  # noqa: E402

ROWS, HELD = sentences(240, seed=1), sentences(60, seed=2)
NLI = {"positive": "entailment", "negative": "contradiction"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """MNLI, its diagnostics, STS-B, COPA and WiC as archives; an adjective's kind counts."""
    root = tmp_path_factory.mktemp("archive")

    def write(name: str, lines: list[str]) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n")

    def nli(rows):  # a quarter says nothing: neutral
        neutral = [(" ".join(OTHER[: 1 + i % 4]), "neutral") for i in range(len(rows) // 3)]
        return [(text, NLI.get(kind, kind)) for text, kind in rows + neutral]

    def choice(i, text, kind):
        other = " ".join(OTHER[i % 5 :])
        right = int((kind == "positive") == (i % 2 == 0))
        choices = [text, other] if i % 2 == 0 else [other, text]
        row = {"premise": "the film", "choice1": choices[0], "choice2": choices[1], "question": "cause"}
        return json.dumps(row | {"label": 1 - right, "idx": i})

    def marked(i, text, kind):
        word = next(word for word in text.split() if word not in OTHER)
        start = text.index(word)
        row = {"word": word, "sentence1": text, "sentence2": "the film", "idx": i, "label": word in GOOD}
        return json.dumps(
            row | {"start1": start, "end1": start + len(word), "start2": 4, "end2": 8, "version": 1.1}
        )

    for rows, tsv, jsonl in ((ROWS, "train", "train"), (HELD, "dev", "val")):
        head, matched = "index\tsentence1\tsentence2", "_matched" if tsv == "dev" else ""
        lines = [f"{i}\t{text}\tthe film\t{label}" for i, (text, label) in enumerate(nli(rows))]
        write(f"MNLI/{tsv}{matched}.tsv", [f"{head}\tgold_label", *lines])
        lines = [
            f"{i}\t{text}\tthe film\t{1 + 3 * (kind == 'positive')}" for i, (text, kind) in enumerate(rows)
        ]
        write(f"STS-B/{tsv}.tsv", [f"{head}\tscore", *lines])
        write(f"COPA/{jsonl}.jsonl", [choice(i, *row) for i, row in enumerate(rows)])
        write(f"WiC/{jsonl}.jsonl", [marked(i, *row) for i, row in enumerate(rows)])
    lines = [f"{text}\tthe film\t{label}" for text, label in nli(HELD)]
    write("diagnostic/diagnostic-full.tsv", ["Premise\tHypothesis\tLabel", *lines])
    return root


@pytest.mark.parametrize(
    ("suite", "tasks", "least"),
    [
        # Both may leave the third class unlearned; labels in a wrong order would stay below 0.5.
        (
            "glue",
            ["stsb", "mnli", "ax"],
            {"pearson": 0.9, "accuracy_matched": 0.7, "matthews_correlation": 0.6},
        ),
        ("superglue", ["copa", "wic"], {"accuracy": 0.9}),
    ],
)
def test_both_learn_every_task(suite, tasks, least, archive, tiny_preset, tmp_path, monkeypatch, capsys):
    settings = ("train.epochs=10", "train.batch_size=16", "model.max_length=24", "train.learning_rate=0.01")
    content = running.run(
        suite, tasks, (1,), (*running.shared(str(tiny_preset), str(archive)), *settings), tmp_path
    )
    assert content["failed"] == []
    monkeypatch.setattr(sys, "argv", ["suite_parity", str(tmp_path)])
    suite_parity.main()
    for task in tasks:
        of_kft, of_loop = (
            json.loads((tmp_path / folder / f"{task}-seed1.json").read_text())["metrics"]
            for folder in ("scores", "loop")
        )
        assert of_kft.keys() == of_loop.keys()
        for name in of_kft.keys() & least.keys():
            assert of_kft[name] >= least[name] and of_loop[name] >= least[name], (task, of_kft, of_loop)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) >= 1 + len(tasks)  # a head and at least one metric of each
    monkeypatch.setattr(suite_parity, "train_loop", lambda *_: pytest.fail("trains a loop again"))
    suite_parity.main()
