"""kft compare: tests against scipy and by hand, the rows compared, and what is printed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import assert_not_imported, write_csv
from scipy import stats
from sklearn import metrics as sk
from test_cli import kft, mistake
from test_runs import is_documented, names

from kft import config as configs
from kft import evaluate, runs, train
from kft.errors import KftError
from kft.metrics import bootstrap
from kft.report import compare
from kft.report.compare import significance
from kft.studies import ensemble
from kft.tasks import multilabel_classification, questions, scoring, words
from kft.tasks.answers import Answers
from kft.tasks.labels import spelled
from kft.tasks.record import Learned

LABELS = ["no", "yes", "maybe"]


def right_and_wrong(first_only: int, second_only: int, both: int = 30, neither: int = 7):
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return np.array(first), np.array(second)


class TestSignificance:
    @pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 2), (3, 12), (24, 0), (12, 12)])
    def test_few_discordant_examples_are_tested_exactly(self, b, c):
        result = significance.mcnemar(*right_and_wrong(b, c))
        assert (result.first_only, result.second_only, result.statistic) == (b, c, None)
        tail = sum(stats.binom.pmf(k, b + c, 0.5) for k in range(min(b, c) + 1))
        assert result.p_value == pytest.approx(min(1, 2 * tail))

    def test_many_are_tested_by_chi_square_with_correction(self):
        # Agresti, Categorical Data Analysis, approval ratings: 150 and 86 changed. (64 - 1)² / 236
        # = 16.8178.
        result = significance.mcnemar(*right_and_wrong(150, 86))
        assert result.statistic == pytest.approx(16.8178, abs=1e-4)
        assert result.p_value == pytest.approx(4.1e-5, rel=0.01)
        exact = stats.binomtest(150, 236, 0.5).pvalue
        assert result.p_value == pytest.approx(exact, rel=0.2)
        assert significance.mcnemar(*right_and_wrong(20, 20)).p_value == 1

    def test_holm(self):
        # By hand: 0.01 · 3; 0.02 · 2; 0.03 · 1, raised to the one before.
        assert significance.holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
        assert significance.holm([0.6, None, 0.7]) == [1, None, 1]
        assert significance.holm([]) == []

    @pytest.mark.parametrize("kind", ["classification", "regression", "choice"])
    def test_resampled_scores_are_those_of_the_repeated_examples(self, kind):
        rng = np.random.default_rng(0)
        targets, predictions = made_up(kind, 60, rng)
        counts = rng.multinomial(60, np.full(60, 1 / 60), size=5)
        labels = LABELS[: predictions.shape[1]] if kind == "classification" else None
        got = scoring.resampled(kind, targets, predictions, labels, counts)
        assert list(got) == scoring.with_interval(
            kind, predictions.shape[1] if kind != "regression" else None
        )
        for s, count in enumerate(counts):
            drawn = np.repeat(np.arange(60), count)
            expected = scoring.scores(kind, targets[drawn], predictions[drawn], labels)
            for name, values in got.items():
                assert values[s] == pytest.approx(expected[name]), name

    def test_the_interval_of_a_difference_is_scipys(self):
        rng = np.random.default_rng(1)
        targets, first = made_up("regression", 150, rng)
        second = targets + rng.normal(0, 0.9, 150)
        scores = [stats.spearmanr(targets, p).statistic for p in (first, second)]
        draws = bootstrap.Draws(resamples=significance.RESAMPLES)
        resampled = scoring.resample("regression", targets, [first, second], [], draws)["spearman"]
        difference = significance.difference(*scores, resampled, 150)

        def less(t, a, b):
            return stats.spearmanr(t, b).statistic - stats.spearmanr(t, a).statistic

        expected = stats.bootstrap(
            (targets, first, second), less, paired=True, vectorized=False, n_resamples=2000, method="percentile",
            rng=np.random.default_rng(2),
        )  # fmt: skip
        assert difference.value == pytest.approx(less(targets, first, second))
        assert difference.interval == pytest.approx(tuple(expected.confidence_interval), abs=0.015)
        below = (expected.bootstrap_distribution <= 0).mean()
        assert difference.p_value == pytest.approx(2 * min(below, 1 - below), abs=0.03)

    def test_the_p_value_of_accuracy_is_near_mcnemars(self):
        first, second = right_and_wrong(40, 62, both=400, neither=80)
        targets = np.zeros(len(first), np.int64)
        predictions = [np.stack([right, ~right], axis=1).astype(float) for right in (first, second)]
        draws = bootstrap.Draws(seed=3, resamples=significance.RESAMPLES)
        resampled = scoring.resample("classification", targets, predictions, ["a", "b"], draws)["accuracy"]
        difference = significance.difference(first.mean(), second.mean(), resampled, len(first))
        sd = np.sqrt(102 - 22**2 / len(first)) / len(first)  # of a difference of paired proportions
        assert difference.value == pytest.approx(22 / len(first))
        assert difference.interval == pytest.approx(
            (difference.value - 1.96 * sd, difference.value + 1.96 * sd), abs=0.003
        )
        assert difference.p_value == pytest.approx(2 * stats.norm.sf(difference.value / sd), abs=0.008)
        same = significance.difference(0.5, 0.5, resampled[[0, 0]], len(first))
        assert (same.value, same.interval, same.p_value) == (0, (0, 0), 1)

    def test_a_metric_that_is_never_defined(self):
        difference = significance.difference(0.1, 0.2, np.full((2, 5), np.nan), 50)
        assert (difference.interval, difference.p_value) == ((None, None), None)


def made_up(kind: str, count: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Targets and predictions as `metrics.scores` takes them."""
    if kind == "regression":
        targets = rng.normal(size=count).round(1)
        return targets, targets + rng.normal(0, 1, count).round(1)
    targets = rng.integers(0, 3, count)
    return targets, rng.dirichlet(np.ones(3), count) * 0.7 + 0.3 * np.eye(3)[targets]


def class_answers(count: int = 40, seed: int = 0, ids=None) -> Answers:
    rng = np.random.default_rng(7)
    targets = rng.integers(0, 3, count)
    predictions = np.random.default_rng(seed).dirichlet(np.ones(3), count) + 0.4 * np.eye(3)[targets]
    predictions /= predictions.sum(axis=1, keepdims=True)
    ids = range(count) if ids is None else ids
    rows = pl.DataFrame(
        {
            "id": list(range(count)),
            "text": [f"text {i}" for i in range(count)],
            "target": [LABELS[t] for t in targets],
        }
    )
    keep = list(ids)
    return Answers("classification", LABELS, rows[keep], predictions[keep])


def set_answers(count: int = 40, seed: int = 0) -> Answers:
    """Of the task whose rows may have several labels."""
    marks = np.random.default_rng(7).random((count, 3)) < 0.4
    noise = np.random.default_rng(seed).normal(0, 0.3, (count, 3))
    probabilities = np.clip(0.3 + 0.4 * marks + noise, 0, 1)
    learned = Learned(tuple(LABELS), thresholds=(0.5, 0.4, 0.6))
    targets = [spelled(label for label, mark in zip(LABELS, row, strict=True) if mark) for row in marks]
    rows = pl.DataFrame({"id": range(count), "text": ["t"] * count, "target": targets})
    predictions = multilabel_classification.decided(probabilities, learned)
    return Answers("multilabel_classification", LABELS, rows, predictions, learned.thresholds)


def tag_answers(count: int = 20, seed: int = 0) -> Answers:
    """Of the task that tags each word, of which there are three in a row."""
    tags = ["B-FILM", "O"]
    chosen = np.random.default_rng(7).integers(0, 2, (count, 3))
    text, spans = words.joined(["a", "good", "film"])
    rows = pl.DataFrame(
        {
            "id": range(count),
            "text": [text] * count,
            "words": [words.written_spans(spans)] * count,
            "target": [words.written_tags(tags[i] for i in row) for row in chosen],
        }
    )
    predictions = np.empty(count, object)
    predictions[:] = list(np.random.default_rng(seed).dirichlet(np.ones(2), (count, 3)))
    return Answers("token_classification", tags, rows, predictions)


def values(sd: float, count: int = 30) -> Answers:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=count)
    rows = pl.DataFrame({"id": range(count), "text": [f"t{i}" for i in range(count)], "target": targets})
    return Answers("regression", [], rows, targets + np.random.default_rng(1).normal(0, sd, count))


def choices(first: list[float], groups: str = "aabbcc") -> Answers:
    """Questions of two choices, of which the first has such a probability."""
    probabilities = np.array([p for f in first for p in (f, 1 - f)])
    size = len(probabilities)
    rows = pl.DataFrame(
        {
            "id": range(size),
            "text": ["t"] * size,
            "group": list(groups)[:size],
            "target": list("100110")[:size],
        }
    )
    won = questions.chosen(probabilities, questions.numbered(rows))
    return Answers("choice", [], rows, np.stack([np.log(probabilities), probabilities, won], axis=1))


class TestCompare:
    def test_the_documented_fields_are_those_of_all_tasks(self):
        pairs = [
            [class_answers(seed=seed) for seed in (0, 1)],
            [set_answers(seed=seed) for seed in (0, 1)],
            [tag_answers(seed=seed) for seed in (0, 1)],
            [values(0.1), values(2)],
            [choices([0.9, 0.8, 0.3]), choices([0.7, 0.4, 0.2])],
        ]
        read = set()
        for one, other in pairs:
            read |= names(compare.compare({"a": one, "b": other}, "test", resamples=100)[0])
        assert not [name for name in read if not is_documented(name, compare.FIELDS)]
        assert not [f for f in compare.FIELDS if not any(is_documented(name, [f]) for name in read)]

    def test_several_labels(self):
        one, other = set_answers(seed=0), set_answers(seed=1)
        report, rows = compare.compare({"a": one, "b": other}, "test", resamples=200)
        chosen = [answer.predictions[:, :, 1] for answer in (one, other)]
        marks = multilabel_classification.TASK.truths(one.rows["target"], one.learned)
        f1 = [sk.f1_score(marks, own, average="micro") for own in chosen]
        assert report["pairs"][0]["difference"] == pytest.approx(f1[1] - f1[0])
        right = [(own == marks).all(axis=1) for own in chosen]
        assert report["pairs"][0]["mcnemar"]["first_only"] == (right[0] & ~right[1]).sum()
        assert {row["id"] for row in rows} == set(np.flatnonzero((chosen[0] != chosen[1]).any(axis=1)))
        for row in rows:
            assert row["answers"]["b"]["labels"] == [LABELS[i] for i in np.flatnonzero(chosen[1][row["id"]])]

    def test_scores_and_pairs(self):
        answers = {f"runs/{name}": class_answers(seed=i) for i, name in enumerate("abc")}
        content, rows = compare.compare(answers, "test", resamples=500)
        assert content["examples"] == 40
        assert [(p["first"], p["second"]) for p in content["pairs"]] == [("a", "b"), ("a", "c"), ("b", "c")]
        predicted = {
            run["name"]: np.array(LABELS)[answers[run["run"]].predictions.argmax(axis=1)]
            for run in content["runs"]
        }
        targets = class_answers().rows["target"].to_numpy()
        for run in content["runs"]:
            assert run["metrics"]["accuracy"] == sk.accuracy_score(targets, predicted[run["name"]])
            assert run["metrics"]["f1_macro"] == pytest.approx(
                sk.f1_score(targets, predicted[run["name"]], average="macro")
            )
        for pair in content["pairs"]:
            a, b = (predicted[pair[side]] == targets for side in ("first", "second"))
            assert pair["difference"] == pytest.approx(b.mean() - a.mean())
            assert pair["mcnemar"]["first_only"] == (a & ~b).sum()
            assert pair["p_value"] <= pair["p_value_holm"] <= 1
        differ = (predicted["a"] != predicted["b"]) | (predicted["a"] != predicted["c"])
        assert content["disagreements"]["count"] == differ.sum() == len(rows)
        assert {row["id"] for row in rows} == set(np.flatnonzero(differ))
        surest = [min(answer["probability"] for answer in row["answers"].values()) for row in rows]
        assert surest == sorted(surest, reverse=True)
        assert compare.compare(answers, "test", resamples=500)[0] == content  # seeded

    def test_labels_go_by_name(self):
        one, other = class_answers(seed=0), class_answers(seed=1)
        turned = replace(other, labels=LABELS[::-1], predictions=other.predictions[:, ::-1])
        expected = compare.compare({"a": one, "b": other}, "test", resamples=200)
        assert compare.compare({"a": one, "b": turned}, "test", resamples=200) == expected
        strange = replace(other, labels=["no", "yes", "perhaps"])
        with pytest.raises(
            KftError, match="a and b: the runs differ in their labels: one has no maybe and has perhaps"
        ):
            compare.compare({"a": one, "b": strange}, "test")

    def test_rows_in_common(self):
        one, other = class_answers(seed=0, ids=range(30)), class_answers(seed=1, ids=range(39, 9, -1))
        content, _ = compare.compare({"a": one, "b": other}, "validation", resamples=200)
        assert (content["examples"], [run["examples"] for run in content["runs"]]) == (20, [30, 30])
        same = compare.compare(
            {"a": class_answers(seed=0, ids=range(10, 30)), "b": class_answers(seed=1, ids=range(10, 30))},
            "validation", resamples=200,
        )[0]  # fmt: skip
        assert content["pairs"] == same["pairs"]
        assert "validation: 20 examples in common (of a 30, b 30)" in compare.text(content)
        with pytest.raises(KftError, match="no row in common: a has 10, b has 10"):
            compare.compare(
                {"a": class_answers(ids=range(10)), "b": class_answers(ids=range(10, 20))}, "validation"
            )

    def test_other_targets_and_other_tasks_are_refused(self):
        one = class_answers()
        other = replace(one, rows=one.rows.with_columns(target=pl.lit("yes")))
        with pytest.raises(
            KftError, match=r"row \d+ has the target (no|maybe) in a, and yes in b \(\d+ such rows\)"
        ):
            compare.compare({"a": one, "b": other}, "test")
        values = Answers("regression", [], one.rows.with_columns(target=1.0), np.zeros(40))
        with pytest.raises(KftError, match="classification of text, and regression of text"):
            compare.compare({"a": one, "b": values}, "test")

    def test_metrics(self):
        predicted = {"x/a": class_answers(seed=0), "y/a": class_answers(seed=1)}
        content, _ = compare.compare(predicted, "test", metric="f1_macro", resamples=200)
        assert [run["name"] for run in content["runs"]] == ["x/a", "y/a"]
        scores = [run["metrics"]["f1_macro"] for run in content["runs"]]
        assert content["pairs"][0]["difference"] == pytest.approx(scores[1] - scores[0])
        with pytest.raises(KftError, match="did you mean `f1_macro`"):
            compare.compare(predicted, "test", metric="f1_marco")
        with pytest.raises(KftError, match="--metric log_loss: has no bootstrap"):
            compare.compare(predicted, "test", metric="log_loss")

    def test_values(self):
        content, apart = compare.compare({"good": values(0.1), "bad": values(2)}, "test")
        assert content["pairs"][0]["difference"] < 0
        assert content["pairs"][0]["p_value"] < 0.01
        assert content["pairs"][0]["interval"][1] < 0
        assert content["pairs"][0]["mcnemar"] is None
        assert len(apart) == 30
        gaps = [abs(row["answers"]["good"]["value"] - row["answers"]["bad"]["value"]) for row in apart]
        assert gaps == sorted(gaps, reverse=True)
        assert "McNemar" not in compare.text(content)

    def test_questions(self):
        one, other = choices([0.9, 0.8, 0.3]), choices([0.7, 0.4, 0.2])
        content, rows = compare.compare({"a": one, "b": other}, "test", resamples=200)
        assert (content["examples"], content["questions"]) == (6, 3)
        assert [run["metrics"]["accuracy"] for run in content["runs"]] == pytest.approx([1 / 3, 2 / 3])
        assert content["pairs"][0]["mcnemar"]["second_only"] == 1
        assert sorted(row["id"] for row in rows) == [2, 3]
        assert rows[0]["answers"]["a"]["chosen"] is not rows[0]["answers"]["b"]["chosen"]
        assert "test: 3 questions" in compare.text(content)
        half = replace(other, rows=other.rows[:5], predictions=other.predictions[:5])
        assert compare.compare({"a": one, "b": half}, "test", resamples=200)[0]["questions"] == 2


@pytest.fixture(scope="module")
def other_run(tiny_settings, tmp_path_factory) -> Path:
    """A run on the data of `tiny_run` that has learned less."""
    settings = tiny_settings | {"train": tiny_settings["train"] | {"epochs": 1, "learning_rate": 1e-4}}
    folder = tmp_path_factory.mktemp("runs") / "other"
    train.train(configs.parse(settings), folder)
    return folder


class TestCommand:
    def test_json(self, tiny_run, other_run, tmp_path):
        result = kft("compare", tiny_run, other_run, "--json", "--output", tmp_path / "rows.jsonl")
        assert result.exit_code == 0
        assert result.stdout.count("\n") == 1
        content = json.loads(result.stdout)
        assert content["split"] == "test"
        for run, path in zip(content["runs"], (tiny_run, other_run), strict=True):
            assert run["metrics"] == runs.read_json(path / "metrics.json")["test"]
        rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert rows[:5] == content["disagreements"]["examples"]
        assert len(rows) == content["disagreements"]["count"] > 0
        assert not [name for name in names(content) if not is_documented(name, compare.FIELDS)]

    def test_text(self, tiny_run, other_run):
        text = kft("compare", tiny_run, other_run, "--split", "validation").stdout
        for line in (
            "validation: 20 examples\n",
            "other less tiny",
            "McNemar's test",
            "the runs disagree on",
            "target negative: tiny negative (",
        ):
            assert line in text

    def test_a_file(self, tiny_run, other_run, tmp_path):
        rows = [("good film", "positive"), ("bad plot", "negative"), ("dull", "negative")]
        file = write_csv(tmp_path / "new.csv", rows)
        content = json.loads(kft("compare", tiny_run, other_run, "--data", file, "--json").stdout)
        assert (content["split"], content["examples"]) == ("data", 3)
        for run in content["runs"]:
            expected = evaluate.evaluate(run["run"], data=file)["metrics"]
            assert run["metrics"] == pytest.approx(expected, abs=1e-6)

    def test_it_needs_no_keras(self, tiny_run, other_run):
        code = (
            "from click.testing import CliRunner; from kft.cli import main\n"
            f"result = CliRunner().invoke(main, ['compare', {str(tiny_run)!r}, {str(other_run)!r}])\n"
            "assert result.exit_code == 0, result.output"
        )
        assert_not_imported(code, "keras", "jax", "tensorflow", "torch")

    def test_runs_over_folds(self, tiny_settings, tmp_path):
        settings = tiny_settings | {"train": tiny_settings["train"] | {"epochs": 1}}
        folds = configs.parse(settings | {"split": {"folds": 2, "test_fraction": 0.1}})
        scores, one = ensemble.train(folds, tmp_path / "folds"), tmp_path / "folds" / "fold-2"
        content = json.loads(kft("compare", one, tmp_path / "folds", "--json").stdout)
        assert content["split"] == "test"
        assert content["runs"][1]["metrics"] == scores["ensemble"]["test"]["metrics"]
        # On validation a cross-validation has its out-of-fold predictions: those of that fold are
        # the run's own.
        content = json.loads(
            kft("compare", tmp_path / "folds", one, "--split", "validation", "--json").stdout
        )
        assert [run["examples"] for run in content["runs"]] == [180, 90]
        assert (content["examples"], content["disagreements"]["count"]) == (90, 0)
        assert content["runs"][0]["metrics"] == runs.read_json(one / "metrics.json")["validation"]

    def test_mistakes(self, tiny_run, other_run, tmp_path):
        assert "give two different runs or more" in kft("compare", tiny_run).stderr
        assert kft("compare", tiny_run, tiny_run).exit_code == 2
        assert kft("compare", tiny_run, other_run, "--data", "x", "--split", "test").exit_code == 2
        assert kft("compare", tiny_run, other_run, "--backend", "jax").exit_code == 2
        assert "none: no such run folder" in mistake(kft("compare", tiny_run, "none"))
        shutil.copytree(other_run, tmp_path / "half")
        (tmp_path / "half" / "predictions.test.parquet").unlink()
        assert (
            json.loads(kft("compare", tiny_run, tmp_path / "half", "--json").stdout)["split"] == "validation"
        )
        said = mistake(kft("compare", tiny_run, tmp_path / "half", "--split", "test"))
        assert "predictions.test.parquet: is missing" in said
