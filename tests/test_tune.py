"""kft tune: what is searched, points, shared studies that are stopped, and results."""

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from kft import config as configs
from kft import evaluate, runs, train
from kft.cli import main
from kft.errors import KftError
from kft.studies.tune import space

pytest.importorskip("optuna", reason="optuna is not installed")

from kft.studies.tune import results, storage, working  # noqa: E402

RATES = [1e-4, 0.003, 0.03]


def settings(tiny_settings, **tune):
    return configs.parse(tiny_settings | {"train": tiny_settings["train"] | {"epochs": 1}, "tune": tune})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"train.lerning_rate": [1e-5]}, "is not a setting, did you mean `train.learning_rate`?"),
        ({"trails": 3}, "`trails` is not a setting, did you mean `trials`?"),
        ({"learning_rate": [1e-5]}, "did you mean `train.learning_rate`?"),
        ({"train.epochs": []}, "is an empty list"),
        ({"train.epochs": [1, 1]}, "has a value twice"),
        ({"train.epochs": [0, 2]}, "must be at least 1, got: 0"),
        ({"train.epochs": {"low": 3, "high": 1}}, "low is 3, above high, 1"),
        ({"train.epochs": {"low": 1}}, "needs low and high"),
        ({"train.epochs": {"low": 1, "hihg": 2, "high": 2}}, "not 'hihg', did you mean `high`?"),
        ({"train.epochs": {"low": 1, "high": 2.5}}, "takes whole numbers only"),
        ({"train.dropout": 3}, "is not a setting, did you mean `model.dropout`?"),
        ({"train.label_smoothing": {"low": 0, "high": 0.2, "log": True}}, "log needs a low above 0"),
        ({"train.optimizer": {"low": 1, "high": 2}}, "the setting is no number"),
        ({"train.optimizer": ["adan"]}, "did you mean `adam`?"),
        ({"train.momentum": [0.0, 0.9]}, 'needs `train.optimizer` = "sgd"'),
        ({"tune.trials": [1, 2]}, "cannot search itself"),
        ({"gpus_per_trial": 1, "train.epochs": [1]}, 'needs `tune.launcher` = "ray"'),
        ({"launcher": "ray", "cpus_per_trial": 1.5, "train.epochs": [1]}, "below 1 or a whole number"),
        ({}, "names nothing to search"),
    ],
)
def test_a_mistake_in_the_table_is_named(tiny_settings, table, message):
    with pytest.raises(KftError, match="to fix") as raised:
        space.read(settings(tiny_settings, **table))
    assert message in raised.value.message


def test_a_typo_is_named_before_keras_loads(tmp_path, tiny_settings):
    from conftest import assert_not_imported

    (tmp_path / "c.toml").write_text(
        configs.dump(settings(tiny_settings)) + '\n[tune]\n"train.epoch" = [1]\n'
    )
    code = (
        "from click.testing import CliRunner; from kft.cli import main\n"
        f"result = CliRunner().invoke(main, ['tune', {str(tmp_path / 'c.toml')!r}])\n"
        "assert result.exit_code == 1 and 'did you mean `train.epochs`?' in result.stderr, result.stderr"
    )
    assert_not_imported(code, "keras", "jax", "tensorflow", "torch", "optuna")


def test_a_grid_has_every_combination_once(tiny_settings):
    table = {"train.epochs": {"low": 1, "high": 2}, "train.batch_size": {"low": 8, "high": 24, "step": 8}}
    config = settings(tiny_settings, method="grid", **table, **{"train.optimizer": ["adam", "sgd"]})
    points = space.points(config, space.read(config))
    expected = {(o, e, b) for o in ("adam", "sgd") for e in (1, 2) for b in (8, 16, 24)}
    assert len(points) == 12
    assert {(p["train.optimizer"], p["train.epochs"], p["train.batch_size"]) for p in points} == expected


def test_random_points_stay_as_trials_are_added_and_never_repeat(tiny_settings):
    table = {
        "train.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "train.epochs": {"low": 1, "high": 3},
    }
    points = {
        trials: space.points(c, space.read(c))
        for trials in (10, 40)
        for c in [settings(tiny_settings, trials=trials, seed=3, **table)]
    }
    assert points[40][:10] == points[10]
    assert all(
        1e-5 <= p["train.learning_rate"] <= 1e-3 and p["train.epochs"] in (1, 2, 3) for p in points[40]
    )
    below = sum(p["train.learning_rate"] < 1e-4 for p in points[40])
    assert 10 <= below <= 30  # half, since the draw is even in the logarithm
    config = settings(tiny_settings, trials=40, **{"train.epochs": {"low": 1, "high": 3}})
    assert len(space.points(config, space.read(config))) == 3


@pytest.fixture(scope="module")
def finished(tiny_settings, tmp_path_factory):
    """A grid of three rates with a setting that fails, worked on without a stop."""
    config = settings(tiny_settings, method="grid", **{"train.learning_rate": RATES})
    folder = tmp_path_factory.mktemp("studies") / "whole"
    return config, working.tune(config, folder), folder


def test_a_study_ranks_its_trials_and_scores_the_winner_alone(finished):
    config, content, folder = finished
    assert Counter(t["state"] for t in content["trials"]) == {"complete": 3}
    assert sorted(t["params"]["train.learning_rate"] for t in content["trials"]) == RATES
    values = [t["value"] for t in content["trials"]]
    assert values == sorted(values, reverse=True)
    assert content == json.loads((folder / "study.json").read_text())
    assert content["best"]["number"] == content["trials"][0]["number"]
    assert (
        content["best"]["metrics"]["test"] == evaluate.evaluate(content["best"]["runs"][0], "test")["metrics"]
    )
    assert not any("test" in t["metrics"] for t in content["trials"])
    assert not list(folder.rglob("predictions.test.parquet"))
    page = (folder / "study.html").read_text()
    assert page.count("<svg") >= 2
    assert f"trial {content['best']['number']} on test" in results.text(content)


def test_best_toml_trains_the_winner_again(finished, tmp_path):
    _, content, folder = finished
    again = train.train(configs.load(folder / "best.toml"), tmp_path / "again")
    assert again["metrics"]["validation"] == content["best"]["metrics"]["validation"]


def test_a_study_stopped_and_shared_by_two_equals_a_whole_one(finished, tmp_path):
    config, whole, _ = finished
    opened = storage.begin(config, tmp_path / "parts", None)
    abandoned = storage.claim(opened)  # a process that dies over its trial …
    other = storage.claim(opened)
    assert {abandoned.index, other.index} == {0, 1}
    abandoned.lock.close()  # … loses its lock, the other one is alive
    stop = threading.Event()
    stop.set()
    working._run_trial(opened, storage.claim(opened), stop)  # stopped at once, after saving
    again = storage.open_study(tmp_path / "parts", None)
    other.lock.close()
    working._run_trial(again, storage.claim(again), threading.Event())
    content = working.finish(again)  # as a command does that is stopped: best so far, not yet scored on test
    assert (len(content["trials"]), list(content["best"]["metrics"])) == (1, ["validation"])
    assert "2 of 3 trials are not finished" in results.text(content)
    working.work(again, threading.Event())
    content = working.finish(again)
    assert Counter(t["number"] for t in content["trials"]) == {1: 1, 2: 1, 3: 1}
    keys = ("number", "params", "state", "value", "metrics")
    assert [{k: t[k] for k in keys} for t in content["trials"]] == [
        {k: t[k] for k in keys} for t in whole["trials"]
    ]


def test_a_finished_study_goes_on_with_more_trials_and_refuses_other_settings(finished):
    config, content, folder = finished
    assert working.tune(config, folder) == content
    changed = config.model_copy(update={"train": config.train.model_copy(update={"batch_size": 8})})
    with pytest.raises(KftError, match="begun with another train.batch_size"):
        working.tune(changed, folder)


def test_machines_with_a_storage_of_their_own_share_a_study(tiny_settings, tmp_path, monkeypatch, capsys):
    config = settings(tiny_settings, method="grid", **{"train.learning_rate": RATES[1:]})
    url = f"sqlite:///{tmp_path / 'server.db'}"
    one, other = (storage.begin(config, tmp_path / machine / "study", url) for machine in ("one", "other"))
    suspended = storage.claim(one)
    suspended.lock.close()
    assert storage.claimable(other) == 1  # the one of another machine, which may be alive, is not to be had
    monkeypatch.setattr(storage, "DEAD_SECONDS", -1)
    monkeypatch.setattr(storage, "SETTLE_SECONDS", 0)
    assert storage.claimable(other) == 2
    working.work(other, threading.Event())
    assert list(working.finish(one)["best"]["metrics"]) == ["validation"]
    assert "the winner's run is on another machine" in capsys.readouterr().err
    content = working.finish(other)
    assert Counter(t["number"] for t in content["trials"]) == {1: 1, 2: 1}
    assert working.finish(one)["best"]["metrics"]["test"] == content["best"]["metrics"]["test"]
    awake = iter([replace(suspended, lock=(tmp_path / "lock").open("a")), None])
    monkeypatch.setattr(storage, "claim", lambda opened: next(awake))
    working.work(one, threading.Event())
    assert "another process has taken it over and finished it" in capsys.readouterr().err


def test_a_storage_without_its_driver_says_what_to_install(tiny_settings, tmp_path):
    config = settings(tiny_settings, method="grid", **{"train.learning_rate": RATES})
    with pytest.raises(KftError, match="needs the package pg8000\n\nhint: pip install pg8000"):
        storage.begin(config, tmp_path / "study", "postgresql+pg8000://user@127.0.0.1/studies")


def test_a_trial_that_fails_leaves_the_others(tiny_settings, tmp_path):
    table = {"model.max_length": [16, 64]}  # the tiny model reads 32 tokens
    content = working.tune(settings(tiny_settings, method="grid", seeds=[1, 2], **table), tmp_path / "study")
    assert [t["state"] for t in content["trials"]] == ["complete", "failed"]
    assert "reads at most 32 tokens" in content["trials"][1]["reason"]
    run_dirs = [runs.read_json(Path(run) / "metrics.json")["validation"] for run in content["best"]["runs"]]
    assert content["best"]["value"] == pytest.approx(sum(r["accuracy"] for r in run_dirs) / 2)
    assert content["best"]["sd"] == pytest.approx(
        abs(run_dirs[0]["accuracy"] - run_dirs[1]["accuracy"]) / 2**0.5
    )


def test_when_all_trials_fail_the_reason_is_reported(tiny_settings, tmp_path):
    config = settings(tiny_settings, method="grid", **{"model.max_length": [64]})
    with pytest.raises(KftError, match="reads at most 32 tokens"):
        working.tune(config, tmp_path / "study")


def test_tpe_prunes(tiny_settings, tmp_path):
    table = {"train.learning_rate": [0.03, 1e-6], "train.epochs": [3]}
    pruner = {"prune_after_trials": 1, "metric": "log_loss"}
    config = settings(
        tiny_settings, method="tpe", trials=2, seed=2, **pruner, **table
    )  # draws both, in order
    good, hopeless = working.tune(config, tmp_path / "study")["trials"]
    assert (good["state"], hopeless["state"]) == ("complete", "pruned")
    assert (list(good["epochs"]), list(hopeless["epochs"])) == (["1", "2", "3"], ["1"])
    assert hopeless["metrics"] == {"validation": {"log_loss": hopeless["epochs"]["1"]}}


def test_the_command(tiny_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(configs.dump(settings(tiny_settings)))
    arguments = ["tune", "c.toml", "--method", "grid", "--set", 'tune."train.learning_rate"=[0.03]', "--json"]
    result = CliRunner().invoke(main, arguments)
    content = json.loads(result.stdout)
    assert result.exit_code == 0
    assert content["run"] == "runs/c-tune"
    assert [t["params"] for t in content["trials"]] == [{"train.learning_rate": 0.03}]
    again = CliRunner().invoke(main, ["tune", "--run", "runs/c-tune", "--json"])
    assert json.loads(again.stdout) == content
    refused = CliRunner().invoke(main, [*arguments, "--trials", "3"])
    assert refused.exit_code == 2
