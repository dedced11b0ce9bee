"""Intervals and comparisons of rows that stand in groups: whole groups are drawn."""

import numpy as np
import polars as pl
import pytest
from conftest import sentences, write_csv
from scipy import stats
from test_runs import is_documented, names

from kft import config as configs
from kft import evaluate, report, runs, train
from kft.config import CleanConfig, SplitConfig
from kft.data import splits
from kft.data.splits.notices import notices
from kft.metrics.bootstrap import Draws
from kft.report import compare
from kft.tasks import questions, scoring
from kft.tasks.answers import Answers

LABELS = ["no", "yes"]


def grouped(groups: int, size: int, right: int):
    """Groups of equal size; every answer is right in so many of them, wrong in the others."""
    number = np.repeat(np.arange(groups), size)
    targets = np.arange(groups * size) % 2
    answered = np.where(number < right, targets, 1 - targets)
    return number, targets, np.eye(2)[answered]


class TestIntervals:
    def test_by_hand(self):
        """Twelve groups of fifty rows, eight right: accuracy is a binomial share of twelve."""
        number, targets, predictions = grouped(12, 50, 8)
        draws = Draws(resamples=20_000, groups=number)
        result = scoring.grouped("classification", targets, predictions, LABELS, None, draws)
        by_hand = [stats.binom.ppf(q, 12, 8 / 12) / 12 for q in (0.025, 0.975)]
        assert result["groups"] == 12
        assert result["intervals"]["accuracy"] == pytest.approx(by_hand)
        rows = scoring.details("classification", targets, predictions, LABELS)["intervals"]["accuracy"]
        assert rows == pytest.approx([stats.binom.ppf(q, 600, 2 / 3) / 600 for q in (0.025, 0.975)], abs=0.01)

    @pytest.mark.parametrize("kind", ["classification", "regression", "multilabel_classification"])
    def test_a_resample_is_its_groups_put_together(self, kind):
        rng = np.random.default_rng(3)
        number = rng.permutation(np.repeat(np.arange(15), rng.integers(1, 9, 15)))
        number = np.unique(number, return_inverse=True)[1]
        count, labels = len(number), LABELS
        targets, predictions = rng.integers(0, 2, count), rng.dirichlet(np.ones(2), count)
        if kind == "regression":
            targets, predictions, labels = rng.normal(size=count), rng.normal(size=count), None
        if kind == "multilabel_classification":
            targets, p = rng.integers(0, 2, (count, 2)), rng.random((count, 2))
            predictions = np.stack([p, p > 0.5], axis=2)
        scores = scoring.resample(kind, targets, [predictions], labels, Draws(5, 7, number))
        drawn = np.random.default_rng(5).multinomial(15, np.full(15, 1 / 15), size=7)
        for s, counts in enumerate(drawn):
            rows = [
                i
                for group, times in enumerate(counts)
                for i in np.flatnonzero(number == group).tolist() * times
            ]
            expected = scoring.scores(kind, targets[rows], predictions[rows], labels)
            for name, values in scores.items():
                assert values[0, s] == pytest.approx(expected[name]), name

    def test_few_groups_say_nothing(self):
        number, targets, predictions = grouped(9, 100, 5)
        result = scoring.grouped("classification", targets, predictions, LABELS, None, Draws(groups=number))
        assert result["intervals"]["accuracy"] == [None, None]

    def test_groups_of_one_row_are_rows(self):
        number, targets, predictions = grouped(200, 1, 130)
        draws = Draws(resamples=4000, groups=number)
        result = scoring.grouped("classification", targets, predictions, LABELS, None, draws)["intervals"]
        rows = scoring.details("classification", targets, predictions, LABELS, resamples=4000)["intervals"]
        assert result["accuracy"] == pytest.approx(rows["accuracy"], abs=0.011)

    def test_rows_without_a_group_and_questions(self):
        rows = pl.DataFrame({"split_group": ["b", None, "a", "b", None]})
        assert questions.group_numbers(rows).tolist() == [1, 2, 0, 1, 3]
        assert questions.group_numbers(rows.drop("split_group")) is None
        rows = rows.with_columns(group=pl.Series(["q2", "q1", "q2", "q3", "q1"]))
        assert questions.group_numbers(rows).tolist() == [1, 0, 0]  # of q1, q2, q3: none, b, b


def test_one_group_in_several_spellings():
    """It would stand on both sides of a cut."""
    names = ["Ann", " ann ", "ANN\u200b", "Bob", "", None, "\ufeff"]
    frame = splits.with_groups(pl.DataFrame({"split_group": names}))
    assert frame["split_group"].to_list() == ["ann", "ann", "ann", "bob", None, None, None]


def test_a_group_in_the_files_of_two_splits_is_reported():
    """kft does not part what it cuts; files that the user cut may."""

    def frame(name, authors):
        texts = [f"{name} {author} {i}" for i, author in enumerate(authors)]
        columns = {"text": texts, "label": ["a", "b"] * (len(authors) // 2), "split_group": authors}
        return pl.DataFrame(columns | {"id": range(len(authors)), "origin": name})

    frames = {
        "train": frame("train", ["Ann", "Bob", "Cid", ""]),
        "test": frame("test", ["ann ", "Bob", "Eve", ""]),
    }
    config = SplitConfig(validation_fraction=0.25, group="author")
    account = splits.prepare(frames, config, CleanConfig(), "classification").account
    assert account["leaks"]["groups"] == {"test": 2}
    assert "groups that also have rows in train: 2 of test" in dict(notices(account))["leaks"]


def answers(number, targets, predictions) -> Answers:
    rows = pl.DataFrame(
        {
            "id": range(len(number)),
            "text": [f"t{i}" for i in range(len(number))],
            "target": [LABELS[t] for t in targets],
            "split_group": [f"author {n}" for n in number],
        }
    )
    return Answers("classification", LABELS, rows, predictions)


def test_compare_draws_groups():
    """One author of forty makes the difference: by rows it looks sure, by authors not."""
    number, targets, first = grouped(40, 25, 30)
    better = np.where((number == 35)[:, None], np.eye(2)[targets], first)
    scores = {"a": answers(number, targets, first), "b": answers(number, targets, better)}
    result, _ = compare.compare(scores, "test", resamples=2000)
    (pair,) = result["pairs"]
    assert (result["groups"], pair["mcnemar"], pair["difference"]) == (40, None, pytest.approx(0.025))
    assert pair["p_value"] > 0.5  # (39 / 40) ** 40 = 0.36 of the resamples lack the author
    assert all(is_documented(name, compare.FIELDS) for name in names(result))
    assert "by the paired bootstrap over 40 groups" in compare.text(result)
    alone = {
        name: Answers(a.kind, a.labels, a.rows.drop("split_group"), a.predictions)
        for name, a in scores.items()
    }
    result, _ = compare.compare(alone, "test", resamples=2000)
    assert result["groups"] is None
    assert result["pairs"][0]["p_value"] < 0.01
    few = {name: answers(number // 5, targets, a.predictions) for name, a in scores.items()}
    (pair,) = compare.compare(few, "test", resamples=200)[0]["pairs"]  # of eight authors
    assert (pair["interval"], pair["p_value"], pair["p_value_holm"]) == ([None, None], None, None)
    mixed, _ = compare.compare({"a": alone["a"], "b": scores["b"]}, "test", resamples=2000)
    assert mixed["groups"] == 40


def test_a_run(tiny_settings, tmp_path):
    """Its splits, predictions and a file keep the column; an empty cell is no group."""
    rows = [
        (text, label, f"author {i % 24}" if i % 40 else " ") for i, (text, label) in enumerate(sentences(240))
    ]
    file = write_csv(tmp_path / "a.csv", rows, ("text", "label", "author"))
    settings = tiny_settings | {
        "data": {"train": str(file)},
        "split": {"group": "author", "validation_fraction": 0.2, "test_fraction": 0.5},
    }
    train.train(configs.parse(settings), tmp_path / "run")
    run = runs.RunDir(tmp_path / "run")
    details = runs.read_json(run.details)
    table = pl.read_parquet(run.predictions("test"))
    known = table["split_group"].n_unique() - 1 + table["split_group"].null_count()
    assert 10 <= known == details["test"]["groups"] < len(table)
    assert not set(table["split_group"].drop_nulls()) & set(
        pl.read_parquet(run.split("validation"))["split_group"]
    )
    page = run.report.read_text()
    assert all(f"{details[split]['groups']} groups" in page for split in ("validation", "test"))
    text = report.summary(runs.read_json(run.metrics), details)
    assert f"95 % interval over {known} groups" in text
    loaded = evaluate.load_run(run.path)
    assert evaluate.evaluate(loaded, data=file)["details"]["groups"] == 24 + 6
    without = write_csv(tmp_path / "b.csv", [row[:2] for row in rows])
    assert "groups" not in evaluate.evaluate(loaded, data=without)["details"]
    assert evaluate.predict_file(loaded, str(without), tmp_path / "answers.jsonl") == 240
