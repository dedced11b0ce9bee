"""Trackers: what other programs read of a run's losses and scores."""

import json
import struct

import pytest

from kft.errors import KftError
from kft.train import trackers
from kft.train.trackers import Opened, Tracker, Tracking
from kft.train.trackers.event_file import EventFile

VALUES = {1: {"train/loss": 0.5, "train/learning_rate": 1e-5}, 200: {"train/loss": 0.25}, 70000: {"é": -3.0}}


def test_event_file_is_what_tensorboard_reads(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    file = EventFile(tmp_path)
    for step, values in VALUES.items():
        file.add(step, values)
    file.close()
    read = accumulator.EventAccumulator(str(tmp_path)).Reload()
    seen = {(event.step, tag): event.value for tag in read.Tags()["scalars"] for event in read.Scalars(tag)}
    expected = {
        (step, tag): struct.unpack("f", struct.pack("f", value))[0]
        for step, values in VALUES.items()
        for tag, value in values.items()
    }
    assert seen == expected


def test_event_file_has_the_checksums_of_tfrecord(tmp_path):
    record = pytest.importorskip("tensorflow.data", exc_type=ImportError).TFRecordDataset
    file = EventFile(tmp_path)
    file.add(3, {"loss": 1.0})
    file.close()
    (path,) = tmp_path.iterdir()
    assert len(list(record(str(path)))) == 2  # it raises where a checksum is wrong


@pytest.fixture
def fake(monkeypatch):
    """A tracker that keeps what it is given."""
    calls = []

    def start(origin):
        calls.append(("open", origin.known, origin.settings))
        return Opened(
            "key-7",
            lambda step, values: calls.append((step, values)),
            lambda finished: calls.append(("close", finished)),
        )

    monkeypatch.setitem(trackers.TRACKERS, "wandb", Tracker(None, start))
    return calls


def test_a_resumed_run_goes_on_under_the_same_name(tmp_path, fake):
    settings = {"train": {"epochs": 3, "optax": {}}, "task": "x"}
    flat = {"train.epochs": 3, "train.optax": {}, "task": "x"}
    for finished in (False, True):
        tracking = Tracking(["wandb"], tmp_path / "logs", "run", settings)
        tracking.log(5, {"loss": 1.0, "f1": None, "r2": float("nan")})
        tracking.close(finished)
    assert fake == [
        ("open", None, flat), (5, {"loss": 1.0}), ("close", False),
        ("open", "key-7", flat), (5, {"loss": 1.0}), ("close", True),
    ]  # fmt: skip


def test_a_tracker_that_fails_is_left_out(tmp_path, monkeypatch, capsys):
    def start(origin):
        def fail(step, values):
            raise ConnectionError("nobody answers")

        return Opened(None, fail, lambda finished: pytest.fail("it was left out"))

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Tracker(None, start))
    tracking = Tracking(["mlflow", "tensorboard"], tmp_path, "run", {})
    for step in (1, 2):
        tracking.log(step, {"loss": 1.0})
    tracking.close(True)
    message = "tracker mlflow: left out from now on: ConnectionError: nobody answers\n"
    assert capsys.readouterr().err == message


def test_a_missing_package_is_a_mistake_with_the_line_that_mends_it(tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "wandb", Tracker("no_such_package", pytest.fail))
    with pytest.raises(KftError, match="pip install no_such_package"):
        Tracking(["wandb"], tmp_path, "run", {})


def test_wandb_writes_an_offline_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for finished in (False, True):
        tracking = Tracking(["wandb"], tmp_path / "logs", "run", {"train": {"epochs": 2}})
        tracking.log(1, {"train/loss": 0.5})
        tracking.close(finished)
    key = (tmp_path / "logs" / "wandb.txt").read_text()
    runs = list((tmp_path / "logs" / "wandb").glob(f"offline-run-*-{key}/run-{key}.wandb"))
    assert len(runs) in (1, 2) and all(
        file.stat().st_size for file in runs
    )  # one where both began in a second


@pytest.mark.parametrize("store", ["sqlite:///{}/mlflow.db", "file://{}/mlruns"])
def test_mlflow_has_the_values_and_settings(tmp_path, monkeypatch, store):
    mlflow = pytest.importorskip("mlflow")
    if store.startswith("sqlite"):
        pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.format(tmp_path))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for step in (1, 2):
        tracking = Tracking(["mlflow"], tmp_path / "logs", "run", {"train": {"epochs": 2}})
        tracking.log(step, {"train/loss": 0.5 / step})
        tracking.close(finished=step == 2)
    client = mlflow.MlflowClient()
    run = client.get_run((tmp_path / "logs" / "mlflow.txt").read_text())
    assert run.info.status == "FINISHED" and run.data.params == {"train.epochs": "2"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.25)]


def test_a_run_logs_losses_and_scores(tiny_run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(tiny_run / "logs")).Reload()
    history = [json.loads(line) for line in (tiny_run / "history.jsonl").read_text().splitlines()]
    lines = {kind: [line for line in history if line["event"] == kind] for kind in ("train", "evaluation")}

    def scalars(tag: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in read.Scalars(tag)]

    assert scalars("train/loss") == [(line["step"], pytest.approx(line["loss"])) for line in lines["train"]]
    assert scalars("validation/accuracy") == [
        (line["step"], pytest.approx(line["metrics"]["accuracy"])) for line in lines["evaluation"]
    ]
    test = json.loads((tiny_run / "metrics.json").read_text())["test"]
    assert scalars("test/accuracy")[-1][1] == pytest.approx(test["accuracy"])
