"""The class that precision, recall and f1 are of: said with them, set by `data.positive`."""

import json

import numpy as np
import pytest
from conftest import run_kft, sentences, write_csv
from sklearn import metrics as sk

from kft import audit, evaluate, report, runs, train
from kft import config as configs
from kft.errors import KftError
from kft.metrics.words import metric_name
from kft.report import compare
from kft.tasks import scoring
from kft.tasks.labels import positive_of

LABELS = ["fraud", "ok"]


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 2, 200), rng.dirichlet([1, 2], 200)


@pytest.mark.parametrize("positive", ["fraud", "ok", None])
def test_scores_are_those_of_the_positive_class(answers, positive):
    targets, probabilities = answers
    got = scoring.scores("classification", targets, probabilities, LABELS, positive)
    class_id = 0 if positive == "fraud" else 1
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        targets, probabilities.argmax(axis=1), pos_label=class_id, average="binary"
    )
    assert (got["precision"], got["recall"], got["f1"]) == (precision, recall, f1)
    other = scoring.scores("classification", targets, probabilities, LABELS)
    for name in set(got) - {"precision", "recall", "f1"}:
        assert got[name] == pytest.approx(other[name], abs=1e-12), name


def test_details_name_it_and_keep_the_order_of_labels(answers):
    details = scoring.details("classification", *answers, LABELS, "fraud", resamples=300)
    other = scoring.details("classification", *answers, LABELS, resamples=300)
    assert (details["positive"], other["positive"]) == ("fraud", "ok")
    for key in ("labels", "per_class", "confusion_matrix", "calibration"):
        assert details[key] == other[key]
    low, high = details["intervals"]["f1"]
    assert low < details["per_class"]["fraud"]["f1"] < high
    assert not low < details["per_class"]["ok"]["f1"] < high


def test_of_three_classes_there_is_none():
    details = scoring.details("classification", np.array([0, 1, 2]), np.eye(3), ["a", "b", "c"], resamples=10)
    assert "positive" not in details


def test_the_label_as_the_files_hold_it_is_taken_for_its_new_name():
    assert positive_of(LABELS, None, {}) is None
    assert positive_of(LABELS, "fraud", {"1": "fraud"}) == "fraud"
    assert positive_of(LABELS, "1", {"1": "fraud"}) == "fraud"
    with pytest.raises(KftError, match="'froud' is no label, did you mean `fraud`"):
        positive_of(LABELS, "froud", {})
    with pytest.raises(KftError, match="needs two classes, the data has 3"):
        positive_of(["a", "b", "c"], "a", {})


@pytest.mark.parametrize("task", ["regression", "choice"])
def test_other_tasks_refuse_it(task):
    with pytest.raises(KftError, match="`data.positive` needs two classes"):
        configs.parse({"task": task, "data": {"train": "a.csv", "group": "g", "positive": "x"}})


def test_names_of_scores():
    assert metric_name("f1", "fraud") == "F1 of fraud"
    assert metric_name("recall", "x" * 50) == f"recall of {'x' * 23}…"
    assert metric_name("f1_macro", "fraud") == "F1 macro"
    assert metric_name("f1") == "F1"


@pytest.fixture(scope="module")
def pair(tiny_settings, tmp_path_factory):
    """Runs that differ in what is positive alone."""
    folder = tmp_path_factory.mktemp("positive")
    rows = [(text, "1" if label == "negative" else "2") for text, label in sentences(120)]
    data = {"train": str(write_csv(folder / "a.csv", rows)), "label_names": {"1": "bad", "2": "good"}}
    got = []
    for name, positive in (("given", {"positive": "bad"}), ("plain", {})):
        settings = tiny_settings | {
            "data": data | positive,
            "train": tiny_settings["train"] | {"best_metric": "f1"},
        }
        train.train(configs.parse(settings), folder / name)
        got.append(folder / name)
    return got


def test_training_is_the_same_and_the_choice_of_the_epoch_goes_by_it(pair):
    given, plain = (runs.RunDir(path) for path in pair)
    assert runs.read_labels(given) == runs.read_labels(plain) == ["bad", "good"]
    losses = [
        [e["loss"] for e in map(json.loads, run.history.read_text().splitlines())] for run in (given, plain)
    ]
    assert losses[0] == losses[1]
    for run, positive in ((given, "bad"), (plain, "good")):
        scores, details = runs.read_json(run.metrics), runs.read_json(run.details)
        for split in ("validation", "test"):
            assert details[split]["positive"] == positive
            assert scores[split]["f1"] == details[split]["per_class"][positive]["f1"]


def test_it_is_reported_wherever_the_scores_stand(pair):
    given, plain = pair
    run = runs.RunDir(given)
    assert "f1 of bad" in report.summary(runs.read_json(run.metrics), runs.read_json(run.details))
    page = run.report.read_text("utf-8")
    assert "F1 of bad" in page
    assert "recall of bad" in page
    content = evaluate.evaluate(given, "validation")
    assert content["details"]["positive"] == "bad"
    assert content["metrics"] == runs.read_json(run.metrics)["validation"]
    split, predicted = compare.read([str(given), str(plain)], "validation")
    compared, _ = compare.compare(predicted, split, "f1")
    assert compared["positive"] == "bad"
    assert compared["runs"][0]["metrics"]["f1"] == content["metrics"]["f1"]
    assert "F1 of bad" in compare.text(compared)


def test_mistakes_are_reported_before_training(tiny_settings, tmp_path):
    settings = tiny_settings | {"data": tiny_settings["data"] | {"positive": "fraud"}}
    for work in (audit.audit, lambda config: train.train(config, tmp_path / "run")):
        with pytest.raises(KftError, match="`data.positive`: 'fraud' is no label"):
            work(configs.parse(settings))


def test_the_command_says_which_class_it_is(tiny_settings, tmp_path):
    data, model = tiny_settings["data"]["train"], tiny_settings["model"]
    (tmp_path / "c.toml").write_text(
        f'[data]\ntrain = "{data}"\n[model]\npreset = "{model["preset"]}"\nmax_length = 16\n'
        "[train]\nepochs = 1\nbatch_size = 16\n"
    )
    result = run_kft("train", tmp_path / "c.toml", "--run", tmp_path / "run")
    assert (
        "precision, recall and f1 are those of positive; data.positive names the other, negative"
        in result.stderr
    )
    assert "f1 of positive" in result.stdout
