"""A run's files, its resumption to the last bit, and the controls of training."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from conftest import GOOD, OTHER, SHARED_DATA, build_model, run_kft, sentences, write_csv
from optimizers import build_optimizer

from kft import audit, runs, train
from kft import config as configs
from kft.errors import KftError
from kft.models import losses
from kft.tasks import TASKS, classification
from kft.tasks.record import Learned
from kft.train import epoch

FILES = """
    DONE config.toml curves.png data.json details.json environment.json history.jsonl labels.json metrics.json model.json
    model.weights.h5 predictions.test.parquet predictions.validation.parquet report.html splits/test.parquet
    splits/validation.parquet tokenizer.json
""".split()


def settings_with(settings: dict, **changes: dict) -> configs.Config:
    merged = {name: dict(section) for name, section in settings.items()}
    for name, section in changes.items():
        merged[name] = merged.get(name, {}) | section if isinstance(section, dict) else section
    return configs.parse(merged)


TIMES = ("examples_per_second", "seconds", "input_wait_fraction")


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def history(run: Path, event: str) -> list[dict]:
    return [line for line in lines_of(run) if line["event"] == event]


def weights_of(run: Path) -> dict[str, np.ndarray]:
    got = {}
    with h5py.File(run / "model.weights.h5") as file:
        file.visititems(
            lambda name, item: got.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return got


def assert_same_run(a: Path, b: Path) -> None:
    assert (a / "metrics.json").read_bytes() == (b / "metrics.json").read_bytes()
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.tobytes() == second[name].tobytes(), name
    for name in ("train", "evaluation"):
        kept = [{k: line[k] for k in ("step", "loss")} for line in history(a, name)]
        again = [{k: line[k] for k in ("step", "loss")} for line in history(b, name)]
        assert [line["step"] for line in kept] == [line["step"] for line in again]
        np.testing.assert_allclose(
            [line["loss"] for line in kept], [line["loss"] for line in again], rtol=1e-4
        )


class TestRun:
    def test_leaves_exactly_these_files(self, tiny_run):
        files = sorted(str(p.relative_to(tiny_run)) for p in tiny_run.rglob("*") if p.is_file())
        kept = [name for name in files if not name.startswith("logs/")]
        assert kept == sorted(FILES)
        assert not (tiny_run / "checkpoints").exists()  # it holds the optimizer's state, twice the weights
        assert any(name.startswith("logs/events") for name in files)

    def test_learns(self, tiny_run):
        metrics = json.loads((tiny_run / "metrics.json").read_text())
        assert list(metrics) == ["validation", "test"]
        assert metrics["test"]["accuracy"] >= 0.9
        losses = [line["loss"] for line in history(tiny_run, "train")]
        assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])

    def test_history_has_a_line_for_each_step_and_epoch(self, tiny_run):
        assert [line["step"] for line in history(tiny_run, "train")] == list(range(1, 21))
        evaluations = history(tiny_run, "evaluation")
        assert [line["epoch"] for line in evaluations] == [1, 2]
        # The epoch's loss is the mean over examples: the last step of 160 / 16 is as full as the
        # others.
        steps = [line["loss"] for line in history(tiny_run, "train")]
        assert evaluations[0]["train_loss"] == pytest.approx(np.mean(steps[:10]), rel=1e-4)

    def test_learning_rate_follows_the_schedule_of_transformers(self, tiny_run):
        import torch
        from transformers import get_linear_schedule_with_warmup

        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
        schedule = get_linear_schedule_with_warmup(optimizer, 2, 20)  # 0.06 of 20 steps, rounded up
        expected = []
        for _ in range(20):
            expected.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        np.testing.assert_allclose(
            [line["learning_rate"] for line in history(tiny_run, "train")], expected, rtol=1e-5
        )

    def test_predictions_hold_every_row(self, tiny_run):
        predictions = pl.read_parquet(tiny_run / "predictions.test.parquet")
        rows = pl.read_parquet(tiny_run / "splits" / "test.parquet")
        assert predictions["text"].to_list() == rows["text"].to_list()
        accuracy = (predictions["target"] == predictions["label"]).mean()
        assert accuracy == json.loads((tiny_run / "metrics.json").read_text())["test"]["accuracy"]

    def test_same_seed_gives_the_same_run(self, tiny_run, tiny_settings, tmp_path):
        train.train(settings_with(tiny_settings), tmp_path / "again")
        assert_same_run(tiny_run, tmp_path / "again")

    def test_compiles_one_training_step_and_one_prediction(self, tiny_settings, tmp_path, monkeypatch):
        from keras.src.backend.jax import trainer

        counts = {}
        for name in ("train_step", "predict_step"):
            step = getattr(trainer.JAXTrainer, name)

            def traced(self, *arguments, _step=step, _name=name):
                counts[_name] = counts.get(_name, 0) + 1  # the body runs once for each compilation
                return _step(self, *arguments)

            monkeypatch.setattr(trainer.JAXTrainer, name, traced)
        train.train(settings_with(tiny_settings), tmp_path / "run")
        assert counts == {"train_step": 1, "predict_step": 1}

    def test_best_epoch_is_kept(self, tiny_settings, tmp_path):
        # A rate that ruins the model in the second epoch: the first one's weights must come out.
        config = settings_with(
            tiny_settings, train={"learning_rate": 0.3, "warmup_fraction": 0.9, "epochs": 3}
        )
        result = train.train(config, tmp_path / "run")
        lines = history(tmp_path / "run", "evaluation")
        best = max(line["metrics"]["accuracy"] for line in lines)
        assert result["metrics"]["validation"]["accuracy"] == best
        assert [line["best"] for line in lines].count(True) >= 1

    def test_patience_stops_early(self, tiny_settings, tmp_path):
        config = settings_with(
            tiny_settings, train={"epochs": 30, "learning_rate": 1e-9, "patience_epochs": 2}
        )
        train.train(config, tmp_path / "run")
        assert len(history(tmp_path / "run", "evaluation")) == 3

    def test_finished_run_is_never_overwritten(self, tiny_run, tiny_settings):
        before = {p: p.stat().st_mtime_ns for p in tiny_run.rglob("*")}
        with pytest.raises(KftError, match="finished run"):
            train.train(settings_with(tiny_settings), tiny_run)
        assert train.resume(tiny_run)["metrics"] == json.loads((tiny_run / "metrics.json").read_text())
        assert before == {p: p.stat().st_mtime_ns for p in tiny_run.rglob("*")}

    def test_a_run_in_use_is_left_alone(self, tiny_run, tiny_settings, tmp_path):
        folder = tmp_path / "r"
        shutil.copytree(tiny_run, folder)
        (folder / "DONE").unlink()
        before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        with runs.only_writer(folder):
            for work in (
                lambda: train.train(configs.parse(tiny_settings), folder),
                lambda: train.resume(folder),
                lambda: runs.open_run(folder),
            ):
                with pytest.raises(KftError, match="in use by process"):
                    work()
        assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before

    def test_runs_without_a_name_of_their_own_never_share_one(self, tiny_settings, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(time, "strftime", lambda *_: "now")
        paths = [train.new_run_path(configs.parse(tiny_settings)) for _ in range(3)]
        assert [path.name for path in paths] == ["films-now", "films-now-2", "films-now-3"]

    def test_checkpoints_are_kept_where_asked(self, tiny_settings, tmp_path):
        config = settings_with(tiny_settings, train={"keep_checkpoints": True, "epochs": 1})
        train.train(config, tmp_path / "run")
        names = [file.name for file in (tmp_path / "run" / "checkpoints").iterdir()]
        assert names == ["step-000000010.safetensors"]

    def test_a_run_killed_after_its_end_is_finished_and_tidied(
        self, tiny_settings, tmp_path, monkeypatch, capsys
    ):
        run = tmp_path / "run"
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "_tidy", 1)
            train.train(settings_with(tiny_settings, train={"epochs": 1}), run)
        assert (run / "checkpoints" / "best.weights.h5").exists()
        result = train.resume(run)
        assert result["metrics"] == json.loads((run / "metrics.json").read_text())
        assert "the run is finished, nothing to do" in capsys.readouterr().err
        assert not (run / "checkpoints").exists()

    def test_infinite_loss_is_reported(self, tiny_settings, tmp_path):
        config = settings_with(
            tiny_settings, train={"learning_rate": 1e30, "gradient_clip_norm": 0, "optimizer": "sgd"}
        )
        with pytest.raises(KftError, match="the loss is"):
            train.train(config, tmp_path / "run")

    def test_dry_run_writes_nothing(self, tiny_settings, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        result = train.dry_run(settings_with(tiny_settings))
        assert list(tmp_path.iterdir()) == []
        assert result["batches"]["steps"] == 10
        assert result["data"]["splits"]["train"]["examples"] == 160
        assert 0.3 < result["first_loss"] < 2


def test_what_is_amiss_with_the_data_is_reported(tiny_settings, tmp_path, capsys):
    rows = sentences(60)
    several = write_csv(tmp_path / "several.csv", [*rows, ("", "positive"), ("film", "")])
    given = {"train": str(several), "test": str(write_csv(tmp_path / "test.csv", rows[:7]))}
    train.train(settings_with(tiny_settings, data=given, model={"max_length": 4}), tmp_path / "run")
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().err.splitlines()[1:4]]
    assert [title for title, _ in lines] == ["dropped", "leaks", "cut"]
    assert lines[0][1] == "train 2 of 62 rows: 1 empty_text, 1 missing_label"


def test_rows_that_are_the_same_for_the_model_are_reported(tiny_settings, tmp_path, capsys):
    given = {
        "train": str(write_csv(tmp_path / "train.csv", [*sentences(60), ("good caf\u00e9", "positive")])),
        "test": str(
            write_csv(tmp_path / "test.csv", [("good xyz", "positive"), ("bad plot ever", "negative")])
        ),
    }
    account = audit.audit(settings_with(tiny_settings, data=given))
    assert account["leaks"]["same_tokens"] == {"validation": 0, "test": 1}
    assert account["leaks"]["test"] == 0
    assert "the same tokens for the model as a row of train, though other texts: 1 in test" in audit.text(
        account, "classification"
    )


class Killed(BaseException):
    """Stands in for SIGKILL: no handler of kft's catches it."""


def _die_before(monkeypatch, name: str, call: int) -> None:
    """Makes the n-th call of a function of `train` (or of what it imports) the moment of death."""
    owner = train
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    whole, calls = getattr(owner, name), 0

    def dying(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return whole(*arguments, **named)

    monkeypatch.setattr(owner, name, dying)


def assert_resumed_alike(config, folder: Path, monkeypatch, step: int) -> None:
    """A run that dies before the end of a step and is resumed ends as one that never stopped."""
    train.train(config, folder / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        _die_before(patched, "epoch.EpochWatch.on_train_batch_end", step)
        train.train(config, folder / "killed")
    train.resume(folder / "killed")
    assert_same_run(folder / "whole", folder / "killed")


class TestResume:
    # Mid-epoch, at each write of an epoch's end, and in the writes after the last epoch.
    MOMENTS = [
        ("epoch.EpochWatch.on_train_batch_end", 2),
        ("epoch.EpochWatch.on_train_batch_end", 7),
        ("epoch.EpochWatch.on_train_batch_end", 14),
        ("epoch.EpochWatch.on_train_batch_end", 20),
        ("runs.write_whole", 10),
        ("save_checkpoint", 1),
        ("save_checkpoint", 2),
        ("models.save", 1),
        ("models.save", 2),
        ("append_history", 2),
        ("_finish", 1),
        ("runs.write_json", 5),
        ("report.report", 1),
    ]

    @pytest.mark.parametrize(("name", "call"), MOMENTS)
    def test_killed_run_ends_as_if_nothing_had_happened(
        self, tiny_run, tiny_settings, tmp_path, monkeypatch, name, call
    ):
        config = settings_with(tiny_settings, train={"checkpoint_every_steps": 3})
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, name, call)
            train.train(config, tmp_path / "run")
        train.resume(tmp_path / "run")
        assert_same_run(tiny_run, tmp_path / "run")

    @pytest.mark.parametrize("step", [5, 12, 17])
    def test_resumed_run_writes_the_history_of_the_whole_one(
        self, tiny_settings, tmp_path, monkeypatch, step
    ):
        """Each line is of the steps since the last one, even over a checkpoint."""
        changes = {"checkpoint_every_steps": 2, "log_every_steps": 5, "batch_size": 12}  # 14 steps an epoch
        config = settings_with(tiny_settings, train=changes)
        train.train(config, tmp_path / "whole")
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", step)
            train.train(config, tmp_path / "killed")
        train.resume(tmp_path / "killed")
        timeless = [
            [
                {key: value for key, value in line.items() if key not in TIMES}
                for line in lines_of(tmp_path / name)
            ]
            for name in ("whole", "killed")
        ]
        assert timeless[0] == timeless[1]

    def test_classes_keep_their_ids(self, tiny_settings, tmp_path, monkeypatch):
        config = settings_with(tiny_settings, train={"checkpoint_every_steps": 3})
        names = ["positive", "negative"]  # as an older version may have ordered them
        with monkeypatch.context() as patched, pytest.raises(Killed):
            older = dataclasses.replace(classification.TASK, learn=lambda *_: Learned(tuple(names)))
            patched.setattr(classification, "TASK", older)
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 20)
            train.train(config, tmp_path / "run")
        result = train.resume(tmp_path / "run")
        assert runs.read_labels(runs.RunDir(tmp_path / "run")) == names
        assert result["metrics"]["test"]["accuracy"] == 1.0

    def test_what_is_not_as_it_was_is_reported_and_kept(self, tiny_settings, tmp_path, monkeypatch, capsys):
        config = settings_with(tiny_settings, train={"checkpoint_every_steps": 3})
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 5)
            train.train(config, tmp_path / "run")
        run = runs.RunDir(tmp_path / "run")
        now = runs.read_json(run.environment)
        old = now | {"versions": now["versions"] | {"jax": "0.4.1", "gone": "1.0"}, "cpu_count": 1000}
        runs.write_json(run.environment, old)
        capsys.readouterr()
        train.resume(run.path)
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("resumed ")]
        for words in ("jax 0.4.1 → ", "gone 1.0 → none", "cpu count 1000 → ", "need not equal"):
            assert words in line
        kept = runs.read_json(run.environment)
        assert {name: kept[name] for name in old} == old
        assert kept["resumed"] == [{"step": 3} | now]
        assert "from step 3 on: jax" in run.report.read_text()

    def test_every_control_resumes(self, tiny_settings, tmp_path, monkeypatch):
        config = settings_with(
            tiny_settings,
            train={
                "checkpoint_every_steps": 3,
                "gradient_accumulation_steps": 2,
                "optimizer": "sgd",
                "momentum": 0.9,
                "nesterov": True,
                "learning_rate": 0.05,
                "label_smoothing": 0.1,
                "class_weight": "balanced",
                "schedule": "cosine",
                "weight_decay": 0.01,
            },
            model={"freeze_layers": 1, "pooling": "mean"},
        )
        assert_resumed_alike(config, tmp_path, monkeypatch, step=8)

    def test_windows_of_tagged_words_resume(self, tiny_preset, tmp_path, monkeypatch):
        """Killed between two accumulation steps."""
        tokens = [GOOD[i % len(GOOD)] if i % 5 == 0 else OTHER[i % 5] for i in range(30)]
        tags = ["B-GOOD" if i % 5 == 0 else "O" for i in range(30)]
        rows = [{"tokens": tokens[: 4 + i % 27], "tags": tags[: 4 + i % 27]} for i in range(54)]
        (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
        config = configs.parse(
            {
                "task": "token_classification",
                "data": {"train": str(tmp_path / "x.jsonl")},
                "clean": {"duplicates": "keep"},
                "model": {"preset": str(tiny_preset), "max_length": 16, "stride": 4},
                "train": {
                    "epochs": 2,
                    "batch_size": 8,
                    "learning_rate": 0.01,
                    "gradient_accumulation_steps": 2,
                    "checkpoint_every_steps": 3,
                },
            }
        )
        assert_resumed_alike(config, tmp_path, monkeypatch, step=8)

    def test_two_checkpoints_are_kept(self, tiny_settings, tmp_path, monkeypatch):
        config = settings_with(tiny_settings, train={"checkpoint_every_steps": 2})
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 10)
            train.train(config, tmp_path / "run")
        names = [p.name for p in runs.checkpoint_files(runs.RunDir(tmp_path / "run"))]
        assert names == ["step-000000006.safetensors", "step-000000008.safetensors"]

    def test_damaged_checkpoint_falls_back_to_the_one_before(
        self, tiny_run, tiny_settings, tmp_path, monkeypatch, capsys
    ):
        config = settings_with(tiny_settings, train={"checkpoint_every_steps": 3})
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 8)
            train.train(config, tmp_path / "run")
        last = runs.checkpoint_files(runs.RunDir(tmp_path / "run"))[-1]
        last.write_bytes(last.read_bytes()[:1000])
        train.resume(tmp_path / "run")
        assert "damaged" in capsys.readouterr().err
        assert_same_run(tiny_run, tmp_path / "run")

    def test_changed_data_is_reported(self, tiny_settings, tmp_path, monkeypatch):
        file = write_csv(tmp_path / "films.csv", sentences(200))
        config = settings_with(tiny_settings, data={"train": str(file)}, train={"checkpoint_every_steps": 3})
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 8)
            train.train(config, tmp_path / "run")
        write_csv(file, sentences(200, seed=1))
        with pytest.raises(KftError, match="not what this run was started with"):
            train.resume(tmp_path / "run")

    def test_sigterm_saves_and_the_run_goes_on(self, tiny_run, tiny_settings, tmp_path, monkeypatch):
        with monkeypatch.context() as patched:
            whole = epoch.EpochWatch.on_train_batch_end

            def signalled(self, batch, logs=None):
                if self.position.step == 4:
                    os.kill(os.getpid(), signal.SIGTERM)
                whole(self, batch, logs)

            patched.setattr(epoch.EpochWatch, "on_train_batch_end", signalled)
            with pytest.raises(train.Stopped, match="kft train --resume"):
                train.train(settings_with(tiny_settings), tmp_path / "run")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        train.resume(tmp_path / "run")
        assert_same_run(tiny_run, tmp_path / "run")

    def test_real_kill_and_real_sigterm_on_the_command_line(self, tiny_run, tmp_path):
        """The same two things from outside, with the exit status that scripts see."""
        config = tiny_run / "config.toml"
        code = (
            "import os, signal, sys\n"
            "from kft import backend; backend.select('jax')\n"
            "from kft.train import epoch\n"
            "whole = epoch.EpochWatch.on_train_batch_end\n"
            "def dying(self, batch, logs=None):\n"
            "    whole(self, batch, logs)\n"
            "    if self.position.step == int(sys.argv[2]): os.kill(os.getpid(), int(sys.argv[1]))\n"
            "epoch.EpochWatch.on_train_batch_end = dying\n"
            "from kft.cli import main\n"
            "main(sys.argv[3:])\n"
        )
        run = str(tmp_path / "run")
        start = ["train", str(config), "--set", "train.checkpoint_every_steps=3", "--run", run]
        killed = subprocess.run(
            [sys.executable, "-c", code, str(int(signal.SIGKILL)), "5", *start], capture_output=True
        )
        assert killed.returncode == -signal.SIGKILL
        again = ["train", "--resume", run]
        stopped = subprocess.run(
            [sys.executable, "-c", code, str(int(signal.SIGTERM)), "8", *again],
            capture_output=True,
            text=True,
        )
        assert stopped.returncode == 75, stopped.stderr
        assert f"kft train --resume {run}" in stopped.stderr
        done = run_kft("train", "--resume", run, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["metrics"] == json.loads((tiny_run / "metrics.json").read_text())
        assert_same_run(tiny_run, Path(run))


class TestControls:
    def test_loss_functions_equal_torchs(self):
        import torch
        from keras import ops

        rng = np.random.default_rng(0)
        logits = rng.normal(size=(3, 4, 5)).astype(np.float32)
        targets = rng.integers(0, 5, (3, 4)).astype(np.int32)
        weights = (rng.random((3, 4)) * (rng.random((3, 4)) > 0.4)).astype(np.float32)
        for smoothing in (0.0, 0.1):
            each = torch.nn.functional.cross_entropy(
                torch.tensor(logits).reshape(12, 5), torch.tensor(targets).reshape(12).long(), reduction="none",
                label_smoothing=smoothing,
            ).numpy()  # fmt: skip
            expected = (each * weights.ravel()).sum() / weights.sum()
            loss = losses.LOSSES["cross_entropy"](smoothing)
            got = loss(ops.convert_to_tensor(targets), ops.convert_to_tensor(logits), sample_weight=weights)
            assert float(got) == pytest.approx(expected, rel=1e-5)
        values = rng.normal(size=(3, 4, 1)).astype(np.float32)
        scores = rng.normal(size=(3, 4, 1)).astype(np.float32)
        got = losses.LOSSES["mse"]()(scores, values, sample_weight=weights)
        expected = (((values - scores)[..., 0] ** 2) * weights).sum() / weights.sum()
        assert float(got) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("name", "options", "reference"),
        [
            ("adamw", {"weight_decay": 0.1}, lambda t, p: t.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
            ("adam", {}, lambda t, p: t.optim.Adam(p, lr=0.01)),
            ("sgd", {}, lambda t, p: t.optim.SGD(p, lr=0.01)),
            ("sgd", {"momentum": 0.9}, lambda t, p: t.optim.SGD(p, lr=0.01, momentum=0.9)),
        ],
    )
    def test_updates_equal_torchs(self, name, options, reference):
        import keras
        import torch

        rng = np.random.default_rng(0)
        start = rng.normal(size=(4, 3)).astype(np.float32)
        variable = keras.Variable(start, name="kernel")
        parameter = torch.nn.Parameter(torch.tensor(start))
        theirs = reference(torch, [parameter])
        ours = build_optimizer(name, learning_rate=0.01, steps=20, clip_norm=1.0, **options)
        ours.build([variable])
        for _ in range(20):
            gradient = rng.normal(size=(4, 3)).astype(np.float32)
            parameter.grad = torch.tensor(gradient)
            torch.nn.utils.clip_grad_norm_([parameter], 1.0)
            theirs.step()
            ours.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        np.testing.assert_allclose(np.asarray(variable.value), parameter.detach().numpy(), atol=1e-5)

    def test_weight_decay_spares_biases_and_norms(self, tiny_preset):
        from kft.models import presets

        model = build_model(presets.locate(str(tiny_preset)), "classification", ["a", "b"], 2)
        optimizer = build_optimizer("adamw", learning_rate=0.01, steps=1, weight_decay=0.1)
        optimizer.build(model.trainable_variables)
        decayed = {v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)}
        assert decayed
        for variable in model.trainable_variables:
            assert (variable.path in decayed) == (len(variable.shape) > 1 and "bias" not in variable.name), (
                variable.path
            )

    @pytest.mark.parametrize("weight", [{"a": 0, "b": 0, "c": 0}, {"a": 0, "b": 0}])
    def test_weights_that_leave_nothing_to_learn(self, weight):
        with pytest.raises(
            KftError, match="`train.class_weight` leaves (one class alone|no class) in the loss"
        ):
            classification.example_weights(np.array([0, 1, 2, 0]), ["a", "b", "c"], weight)

    def test_an_accumulation_longer_than_the_training(self, tiny_settings, tmp_path):
        config = settings_with(tiny_settings, train={"gradient_accumulation_steps": 21})
        with pytest.raises(KftError, match="is 21, and the whole training has 20 steps: nothing is learnt"):
            train.train(config, tmp_path / "run")

    def test_an_average_that_forgets_nothing_is_reported(self, tiny_settings, tmp_path, capsys):
        train.train(settings_with(tiny_settings, train={"ema_momentum": 0.999}), tmp_path / "run")
        assert "after 20 updates the averaged weights are still 98% the first ones" in capsys.readouterr().err

    def test_scores_keep_their_digits(self):
        seconds = [1_700_000_000 + i for i in range(8)]
        frame = pl.DataFrame({"label": list(map(str, seconds))})
        task = TASKS["regression"]
        learned = task.learn(frame)
        assert (learned.mean, learned.scale) == (np.mean(seconds), pytest.approx(np.std(seconds)))
        targets = task.reads(frame, None, learned).targets
        assert targets.dtype == np.float32
        np.testing.assert_allclose(
            targets[:, 0] * learned.scale, np.array(seconds) - np.mean(seconds), atol=1e-6
        )
        assert task.truths(frame["label"], learned).tolist() == seconds

    def test_class_weights(self):
        from sklearn.utils.class_weight import compute_class_weight

        targets = np.array([0, 0, 0, 1, 2, 2])
        labels = ["a", "b", "c"]
        balanced = classification.example_weights(targets, labels, "balanced")
        np.testing.assert_allclose(
            balanced, compute_class_weight("balanced", classes=np.arange(3), y=targets)[targets]
        )
        assert classification.example_weights(targets, labels, {"b": 3.0}).tolist() == [1, 1, 1, 3, 1, 1]
        with pytest.raises(KftError, match="did you mean `aa`|is no label"):
            classification.example_weights(targets, labels, {"bb": 1.0})

    def test_regression_recovers_scores_of_any_scale(self, tiny_settings, tmp_path):
        rows = [(text, 500 + 100 * (label == "positive")) for text, label in sentences(300)]
        file = write_csv(tmp_path / "scores.csv", rows)
        config = settings_with(tiny_settings, task="regression", data={"train": str(file)})
        result = train.train(config, tmp_path / "run")
        assert result["metrics"]["test"]["root_mean_squared_error"] < 30
        first = history(tmp_path / "run", "train")[0]["loss"]
        assert 1000 < first < 5000  # in the scores' own unit: their variance is about 2,200

    @pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
    def test_unpacked_and_bfloat16_learn_too(self, tiny_settings, tmp_path, precision):
        config = settings_with(tiny_settings, train={"packing": False, "precision": precision})
        assert train.train(config, tmp_path / "run")["metrics"]["test"]["accuracy"] >= 0.9


class TestParity:
    def test_backends_agree_on_a_run_trained_on_jax(self, tiny_run, tmp_path):
        self.check(tiny_run, tmp_path, ["torch", "tensorflow"])

    def test_backends_agree_on_a_run_trained_on_torch(self, tiny_run, tmp_path):
        run = tmp_path / "torch-run"
        done = run_kft(
            "train", str(tiny_run / "config.toml"), "--backend", "torch", "--run", str(run), "--json"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["metrics"]["test"]["accuracy"] >= 0.8
        self.check(run, tmp_path, ["jax"])

    @staticmethod
    def check(run: Path, tmp_path: Path, backends: list[str]) -> None:
        stored = pl.read_parquet(run / "predictions.test.parquet")
        texts = "\n".join(stored["text"]) + "\n"
        for backend in backends:
            scored = run_kft("evaluate", str(run), "--backend", backend, "--json")
            assert scored.returncode == 0, scored.stderr
            content = json.loads((run / "metrics.json").read_text())["test"]
            assert json.loads(scored.stdout)["metrics"] == pytest.approx(content, abs=1e-6)
            predicted = run_kft("predict", str(run), "-", "--backend", backend, stdin=texts)
            assert predicted.returncode == 0, predicted.stderr
            rows = [json.loads(line)["probabilities"] for line in predicted.stdout.splitlines()]
            # Log-probabilities are logits up to a constant of the row.
            got = np.log([list(row.values()) for row in rows])
            np.testing.assert_allclose(got, np.log(np.array(stored["probabilities"].to_list())), atol=1e-4)

    @pytest.mark.slow
    def test_losses_of_the_plain_torch_loop(self):
        """Fifty steps of all-MiniLM: the loop that kft replaces, kft on JAX, kft on torch."""
        tool = Path(__file__).parents[1] / "tools" / "parity.py"
        done = subprocess.run(
            [sys.executable, tool, "--max-length", "32", "--json"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert all(len(losses) == 50 for losses in result["losses"].values())
        assert max(result["largest_difference"].values()) < 1e-3
        assert result["losses"]["loop"][-1] < result["losses"]["loop"][0] - 0.05
        assert len({round(accuracy, 2) for accuracy in result["accuracy"].values()}) == 1


@pytest.mark.slow
def test_trains_on_several_devices(tiny_run, tmp_path):
    """Batches shared over 4 virtual devices give the losses of one."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [
        sys.executable,
        "-m",
        "kft.cli",
        "train",
        str(tiny_run / "config.toml"),
        "--run",
        str(tmp_path / "four"),
    ]
    command += ["--set", "model.dropout=0.0", "--json"]
    one = subprocess.run([*command[:6], str(tmp_path / "one"), *command[7:]], capture_output=True, text=True)
    four = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert one.returncode == four.returncode == 0, four.stderr
    environment = json.loads((tmp_path / "four" / "environment.json").read_text())
    assert len(environment["devices"]) == 4
    losses = [[line["loss"] for line in history(tmp_path / name, "train")] for name in ("one", "four")]
    np.testing.assert_allclose(*losses, atol=1e-4)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real data sets lie beside a checkout, not in it")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sst2", {"data": {"train": "train.tsv", "validation": "dev.tsv", "header": False, "text": 0, "label": 1}}),
        ("stsb", {"task": "regression", "data": {"train": "train.csv", "validation": "dev.csv", "test": "test.csv",
                  "header": False, "text": 0, "text_pair": 1, "label": 2}}),
        ("mrpc", {"data": {"train": "train.tsv", "test": "test.tsv", "text": "#1 String", "text_pair": "#2 String",
                  "label": "Quality"}}),
        ("cola", {"data": {"train": "train.tsv", "validation": "dev.tsv", "test": "dev_out_of_domain.tsv", "header": False,
                  "text": 3, "label": 1}}),
        ("mnli", {"data": {"train": "train.tsv", "validation": "dev.tsv", "text": "sentence1", "text_pair": "sentence2",
                  "label": "gold_label"}}),
        ("emotion", {"data": {"train": "train.txt", "validation": "dev.txt", "format": "tsv", "delimiter": ";",
                     "label": "label_name"}}),
        ("chnsenticorp", {"data": {"train": "train.csv", "text": "review"}}),
    ],
)  # fmt: skip
def test_real_files_train_as_they_are(tiny_preset, tmp_path, name, changes):
    data = {
        k: str(SHARED_DATA / name / v) if k in ("train", "validation", "test") else v
        for k, v in changes["data"].items()
    }
    settings = changes | {
        "data": data
        | ({} if name == "chnsenticorp" else {"max_examples": 300}),  # that one is sorted by label
        "model": {"preset": str(tiny_preset), "max_length": 32},
        "train": {"epochs": 1, "learning_rate": 0.001},
    }
    result = train.train(configs.parse(settings), tmp_path / "run")
    assert all(
        value is not None
        for key, value in result["metrics"]["validation"].items()
        if key in ("accuracy", "r2")
    )
