"""Runs over seeds and folds: each once, spread, out-of-fold scores, averaged answers."""

import json
import os
import shutil
import signal
import statistics
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from conftest import write_csv
from sklearn.metrics import accuracy_score, log_loss
from test_cli import kft, mistake
from test_evaluate import pair_settings
from test_runs import is_documented, names

from kft import config as configs
from kft import evaluate, models, runs, train
from kft.cli import main
from kft.errors import KftError
from kft.report import answers
from kft.studies import ensemble
from kft.tasks import answers as together
from kft.train import epoch

TEXTS = ["a good film", "", "the plot plot plot", "bad dull", "great"]


def shorter(tiny_settings: dict, **sections) -> configs.Config:
    return configs.parse(tiny_settings | {"train": tiny_settings["train"] | {"epochs": 1}} | sections)


@pytest.fixture(scope="module")
def seeds(tiny_settings, tmp_path_factory) -> tuple[configs.Config, Path, dict]:
    """Two runs over seeds, made without a stop."""
    config, folder = shorter(tiny_settings), tmp_path_factory.mktemp("runs") / "seeds"
    return config, folder, ensemble.train(config, folder, (1, 2))


@pytest.fixture(scope="module")
def folds(tiny_settings, tmp_path_factory) -> tuple[configs.Config, Path, dict]:
    """The three runs of a cross-validation."""
    config = shorter(tiny_settings, split={"folds": 3, "test_fraction": 0.2})
    folder = tmp_path_factory.mktemp("runs") / "folds"
    return config, folder, ensemble.train(config, folder)


def predictions(folder: Path, member: str, split: str) -> pl.DataFrame:
    return pl.read_parquet(folder / member / f"predictions.{split}.parquet")


class TestScores:
    def test_mean_and_deviation_are_over_the_runs(self, seeds):
        _, folder, content = seeds
        scores = [runs.read_json(folder / name / "metrics.json") for name in ("seed-1", "seed-2")]
        assert [m["metrics"] for m in content["members"]] == scores
        assert [(m["seed"], m["fold"]) for m in content["members"]] == [(1, None), (2, None)]
        for split in ("validation", "test"):
            for metric in ("accuracy", "f1_macro", "log_loss"):
                values = [s[split][metric] for s in scores]
                assert content["metrics"][split][metric] == pytest.approx(np.mean(values))
                assert content["sd"][split][metric] == pytest.approx(np.std(values, ddof=1))
        assert content["out_of_fold"] is None
        assert content["run"] == str(folder)

    def test_a_member_is_the_run_of_that_seed_alone(self, seeds, tmp_path):
        config, _, content = seeds
        alone = train.train(configs.change(config, {"train.seed": 2}), tmp_path / "alone")
        assert alone["metrics"] == content["members"][1]["metrics"]

    def test_out_of_fold_predicts_each_row_once_by_the_run_that_did_not_see_it(self, folds):
        _, folder, content = folds
        parts = [predictions(folder, f"fold-{n}", "validation") for n in (1, 2, 3)]
        pooled = pl.concat(parts)
        test = predictions(folder, "fold-1", "test")
        assert sorted([*pooled["id"], *test["id"]]) == list(range(200))
        assert content["out_of_fold"]["examples"] == 160
        scores = content["out_of_fold"]["metrics"]
        probabilities = np.array(pooled["probabilities"].to_list())
        assert scores["accuracy"] == accuracy_score(pooled["target"], pooled["label"])
        assert scores["log_loss"] == pytest.approx(log_loss(pooled["target"], probabilities))
        assert content["out_of_fold"]["sd"]["accuracy"] is None
        written = pl.read_parquet(folder / "predictions.out-of-fold.parquet")
        assert written.drop("probabilities").equals(pooled.drop("probabilities"))
        for n, part in enumerate(parts, 1):
            seen = set(runs.read_json(folder / f"fold-{n}" / "data.json")["cut"].items())
            assert {("folds", 3), ("fold", n)} <= seen
            assert set(part["text"]).isdisjoint(test["text"])

    def test_the_ensemble_is_the_mean_of_the_probabilities(self, seeds, folds):
        for (_, folder, content), run_dirs in (
            (seeds, ("seed-1", "seed-2")),
            (folds, ("fold-1", "fold-2", "fold-3")),
        ):
            tables = [predictions(folder, run, "test") for run in run_dirs]
            mean = np.mean([t["probabilities"].to_list() for t in tables], axis=0)
            targets = tables[0]["target"].to_list()
            got = content["ensemble"]["test"]
            assert got["examples"] == len(targets)
            assert got["metrics"]["log_loss"] == pytest.approx(log_loss(targets, mean))
            labels = np.array(["negative", "positive"])[mean.argmax(axis=1)]
            assert got["metrics"]["accuracy"] == accuracy_score(targets, labels)
        assert list(seeds[2]["ensemble"]) == ["validation", "test"]
        assert list(folds[2]["ensemble"]) == ["test"]

    def test_seeds_times_folds(self, tiny_settings, tmp_path):
        config = shorter(tiny_settings, split={"folds": 2})
        content = ensemble.train(config, tmp_path / "both", (3, 4))
        assert [m["run"] for m in content["members"]] == [
            f"seed-{s}-fold-{f}" for s in (3, 4) for f in (1, 2)
        ]
        assert "test" not in content["metrics"]
        pooled = [
            pl.concat(predictions(tmp_path / "both", f"seed-{s}-fold-{f}", "validation") for f in (1, 2))
            for s in (3, 4)
        ]
        accuracies = [accuracy_score(p["target"], p["label"]) for p in pooled]
        assert content["out_of_fold"]["metrics"]["accuracy"] == pytest.approx(statistics.mean(accuracies))
        assert content["out_of_fold"]["sd"]["accuracy"] == pytest.approx(statistics.stdev(accuracies))
        mean = np.mean([p["probabilities"].to_list() for p in pooled], axis=0)
        written = pl.read_parquet(tmp_path / "both" / "predictions.out-of-fold.parquet")
        np.testing.assert_allclose(np.array(written["probabilities"].to_list()), mean, atol=1e-12)
        with pytest.raises(KftError, match="other validation rows each") as raised:
            evaluate.evaluate(tmp_path / "both")  # it has no test split
        assert raised.value.hint.endswith("here give --data FILE")


class TestFiles:
    def test_every_field_is_documented(self, seeds, folds):
        got: dict[str, set] = {"plan.json": set(), "ensemble.json": set()}
        for _, folder, content in (seeds, folds):
            for name in got:
                got[name] |= names(runs.read_json(folder / name))
            assert {"run": str(folder)} | runs.read_json(folder / "ensemble.json") == content
        for name, fields in ensemble.FIELDS.items():
            assert not [field for field in got[name] if not is_documented(field, fields)]
            assert not [f for f in fields if not any(is_documented(field, [f]) for field in got[name])]

    def test_the_page_links_the_runs_and_needs_nothing_else(self, folds):
        _, folder, _ = folds
        page = (folder / "ensemble.html").read_text()
        assert page.count("<svg") == 1
        assert 'href="fold-3/report.html"' in page
        assert (folder / "fold-3" / "report.html").exists()
        assert "each predicted by the run that did not train on it" in page
        assert "<script" not in page
        assert "src=" not in page

    def test_a_folder_moves(self, seeds, tmp_path):
        _, folder, content = seeds
        shutil.copytree(folder, tmp_path / "moved")
        again = evaluate.evaluate(tmp_path / "moved", "test")
        assert again["run"] == str(tmp_path / "moved")
        assert again["metrics"]["accuracy"] == content["ensemble"]["test"]["metrics"]["accuracy"]


class TestEvaluateAndPredict:
    def test_evaluate(self, seeds, folds, tiny_csv):
        for _, folder, content in (seeds, folds):
            scores = json.loads(kft("evaluate", folder, "--json").stdout)
            assert list(scores) == ["run", "split", "examples", "metrics"]
            assert (scores["split"], scores["run"]) == ("test", str(folder))
            assert scores["metrics"] == pytest.approx(content["ensemble"]["test"]["metrics"], abs=1e-5)
        content = json.loads(kft("evaluate", folds[1], "--data", tiny_csv, "--json").stdout)
        assert (content["split"], content["examples"]) == ("data", 200)

    def test_rows_that_some_runs_trained_on_are_refused(self, seeds, folds):
        for split in ("validation", "train"):
            said = mistake(kft("evaluate", folds[1], "--split", split))
            assert f"the runs have other {split} rows each, and some were trained on those of others" in said
            assert "ensemble.json holds the out-of-fold scores" in said
            assert "--split test or --data FILE" in said
        content = evaluate.evaluate(seeds[1], "validation")["metrics"]
        assert content == pytest.approx(seeds[2]["ensemble"]["validation"]["metrics"], abs=1e-5)

    def test_predict(self, seeds, monkeypatch):
        _, folder, _ = seeds
        single = [list(evaluate.predict(folder / run, TEXTS)) for run in ("seed-1", "seed-2")]
        monkeypatch.setattr(
            evaluate.inputs, "CHUNK_EXAMPLES", 2
        )  # several chunks, so that weights come and go
        result = kft("predict", folder, stdin="\n".join(TEXTS))
        assert (result.exit_code, result.stderr) == (0, "")
        got = [json.loads(line) for line in result.stdout.splitlines()]
        assert [a["text"] for a in got] == TEXTS
        for one, two, both in zip(*single, got, strict=True):
            for label in ("negative", "positive"):
                mean = (one["probabilities"][label] + two["probabilities"][label]) / 2
                assert both["probabilities"][label] == pytest.approx(mean, abs=1e-5)
            assert both["label"] == max(both["probabilities"], key=both["probabilities"].get)

    def test_labels_travel_by_name(self, seeds, tmp_path):
        _, folder, content = seeds
        shutil.copytree(folder, tmp_path / "e")
        run = runs.RunDir(tmp_path / "e" / "seed-2")
        loaded = evaluate.load_run(run.path)
        kernel, bias = (np.array(v) for v in loaded.model.head.get_weights())
        loaded.model.head.set_weights([kernel[:, ::-1], bias[::-1]])
        models.save(loaded.model, run.weights)
        runs.write_json(run.labels, {"labels": loaded.labels[::-1]})
        table = pl.read_parquet(run.predictions("test"))
        turned = pl.Series("probabilities", [p[::-1] for p in table["probabilities"].to_list()])
        table.with_columns(turned).write_parquet(run.predictions("test"))
        runs.finish(run)
        expected = list(evaluate.predict(folder, TEXTS))
        for one, other in zip(expected, evaluate.predict(tmp_path / "e", TEXTS), strict=True):
            assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)
        mean = answers.read(tmp_path / "e", "test")
        np.testing.assert_allclose(mean.predictions, answers.read(folder, "test").predictions)
        runs.write_json(run.labels, {"labels": ["negative", "neutral"]})
        runs.finish(run)
        with pytest.raises(KftError, match="they differ in labels"):
            evaluate.load_run(tmp_path / "e")

    def test_values(self, tiny_preset, tmp_path):
        settings = pair_settings(tiny_preset, tmp_path) | {"split": {"folds": 2}}
        content = ensemble.train(configs.parse(settings), tmp_path / "e")
        pairs = [("a good film", "bad"), ("the plot", "fine")]
        single = [[a["value"] for a in evaluate.predict(tmp_path / "e" / f"fold-{n}", pairs)] for n in (1, 2)]
        got = [a["value"] for a in evaluate.predict(tmp_path / "e", pairs)]
        np.testing.assert_allclose(got, np.mean(single, axis=0), atol=1e-5)
        assert content["out_of_fold"]["examples"] == 60
        assert content["metric"] == "spearman"

    def test_choices_are_averaged_within_their_question(self):
        rows = pl.DataFrame({"id": range(5), "group": list("aabbb"), "target": list("10010")})
        one, two = (
            together.Answers("choice", [], rows, np.array(p))
            for p in (
                [[1, 0.6, 1], [0, 0.4, 0], [0, 0.3, 0], [0, 0.3, 0], [1, 0.4, 1]],
                [[0, 0.1, 0], [5, 0.9, 1], [0, 0.1, 0], [3, 0.7, 1], [0, 0.2, 0]],
            )
        )
        both = together.together([one, two])
        np.testing.assert_allclose(both.predictions[:, 1], [0.35, 0.65, 0.2, 0.5, 0.3])
        assert both.predictions[:, 2].tolist() == [0, 1, 0, 1, 0]
        targets, probabilities = together.scored(both)
        assert targets.tolist() == [0, 1]
        np.testing.assert_allclose(probabilities, [[0.35, 0.65, 0], [0.2, 0.5, 0.3]])


def stop_at(monkeypatch, batches: int) -> None:
    """SIGTERM comes after so many batches, counted over all runs."""
    left, go_on = iter(range(batches - 1)), epoch.EpochWatch.on_train_batch_end

    def signalled(self, batch, logs=None):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGTERM)
        go_on(self, batch, logs)

    monkeypatch.setattr(epoch.EpochWatch, "on_train_batch_end", signalled)


class TestStops:
    def test_a_stopped_command_goes_on_and_ends_as_one_that_was_not_stopped(
        self, seeds, tiny_settings, tmp_path, monkeypatch
    ):
        _, _, whole = seeds
        monkeypatch.chdir(tmp_path)
        Path("c.toml").write_text(configs.dump(shorter(tiny_settings)))
        with monkeypatch.context() as patched:
            stop_at(patched, 14)  # an epoch has ten batches
            result = CliRunner().invoke(main, ["train", "c.toml", "--seeds", "1,2"])
        folder = tmp_path / "runs" / "c-seeds"
        assert result.exit_code == 75
        assert f"go on with: kft train --resume {folder}" in result.stderr
        half = runs.read_json(folder / "ensemble.json")
        assert ([m["run"] for m in half["members"]], half["planned"]) == (["seed-1"], 2)
        assert "1 of 2 runs are not finished" in ensemble.text(half)
        assert "1 of 2 runs are not finished: seed-2" in mistake(kft("evaluate", folder))
        before = {f: f.stat().st_mtime_ns for f in (folder / "seed-1").rglob("*")}
        result = kft("train", "--resume", folder, "--json")
        content = json.loads(result.stdout)
        assert {f: f.stat().st_mtime_ns for f in (folder / "seed-1").rglob("*")} == before
        assert content == whole | {"run": str(folder)}
        weights = [Path(run, "seed-2", "model.weights.h5") for run in (whole["run"], folder)]
        loaded = [models.load(runs.RunDir(w.parent)).get_weights() for w in weights]
        assert all(np.array_equal(a, b) for a, b in zip(*loaded, strict=True))
        again = kft("train", "c.toml", "--seeds", "1,2", "--json")  # the same command, when all is done
        assert json.loads(again.stdout) == content
        assert again.stderr.count("finished before") == 2

    def test_more_seeds_may_come_later(self, seeds, tmp_path):
        config, folder, _ = seeds
        shutil.copytree(folder, tmp_path / "e")
        before = (tmp_path / "e" / "seed-1" / "DONE").stat().st_mtime_ns
        content = ensemble.train(config, tmp_path / "e", (2, 3))
        assert [m["seed"] for m in content["members"]] == [1, 2, 3]
        assert (tmp_path / "e" / "seed-1" / "DONE").stat().st_mtime_ns == before

    def test_other_settings_are_refused(self, seeds):
        config, folder, _ = seeds
        changed = configs.change(config, {"train.batch_size": 8})
        with pytest.raises(KftError, match="begun with another train.batch_size"):
            ensemble.train(changed, folder, (1, 2))
        with pytest.raises(KftError, match="begun with another --seeds"):
            ensemble.train(config, folder)
        with pytest.raises(KftError, match="begun with another split.folds"):
            ensemble.train(configs.change(config, {"split.folds": 2}), folder, (1, 2))

    def test_two_processes_do_not_train_in_one_folder(self, seeds):
        config, folder, _ = seeds
        with (
            runs.only_writer(folder),
            pytest.raises(KftError, match="is in use by process"),
        ):
            ensemble.train(config, folder, (1, 2))


class TestCommand:
    @pytest.fixture
    def config(self, tiny_settings, tmp_path, monkeypatch) -> str:
        monkeypatch.chdir(tmp_path)
        Path("films.toml").write_text(configs.dump(shorter(tiny_settings, split={"folds": 2})))
        return "films.toml"

    def test_folds_are_all_trained_unless_one_is_named(self, config):
        result = kft("train", config, "--json")
        content = json.loads(result.stdout)
        assert content["run"] == str(Path("runs/films-folds").resolve())
        assert [m["fold"] for m in content["members"]] == [1, 2]
        assert set(content["metrics"]["validation"]) == set(content["sd"]["validation"])
        text = kft("train", config).stdout
        assert "pooled: 200 examples, each by the run that did not train on it" in text
        assert "best epoch" in text
        one = json.loads(kft("train", config, "--set", "split.fold=2", "--run", "one", "--json").stdout)
        assert one["metrics"] == content["members"][1]["metrics"]
        assert runs.open_run("one")
        for command in (
            ["export", "runs/films-folds", "--to", "hf", "--output", "o"],
            ["data", config, "--run", "runs/films-folds"],
        ):
            assert "holds several runs, over seeds or folds, and one is needed" in mistake(kft(*command))

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["--seeds", "a"], 2, "must be whole numbers with commas between, got: 'a'"),
            (["--seeds", "-1"], 2, "must be from 0 to 2147483647"),
            (["--seeds", ""], 2, "must be whole numbers"),
            (["--seeds", "1", "--run", "films.toml"], 1, "films.toml: is a file, not a folder"),
            (["--seeds", "1", "--run", "full"], 1, "full: is not empty and holds no runs"),
            (["--seeds", "1", "--set", "data.text=txt"], 1, "seed-1-fold-1: "),
        ],
    )
    def test_mistakes(self, config, arguments, status, message):
        Path("full").mkdir()
        Path("full/letter.txt").write_text("dear")
        result = kft("train", config, *arguments)
        assert result.exit_code == status
        assert message in result.stderr
        assert result.stdout == ""
        assert kft("train", "--resume", "r", "--seeds", "1").exit_code == 2

    def test_a_mistake_in_the_data_can_be_mended(self, config, tmp_path):
        write_csv(tmp_path / "few.csv", [("good", "a"), ("bad", "b")])
        said = mistake(kft("train", config, "--set", "data.train=few.csv"))
        assert "fold-1: " in said
        assert json.loads(kft("train", config, "--json").stdout)["planned"] == 2
