"""The batch size that is found automatically."""

import pytest
from test_train import Killed, _die_before, history, settings_with

from kft import config as configs
from kft import runs, train
from kft.errors import KftError
from kft.train import memory


def test_batches_are_powers_of_two_that_leave_steps_enough():
    assert list(memory.batch_sizes(100_000)) == [256, 128, 64, 32, 16, 8, 4, 2, 1]
    assert list(memory.batch_sizes(6_920))[0] == 128  # 55 steps
    assert list(memory.batch_sizes(10))[0] == 8


def test_the_largest_that_fits_is_taken():
    def choose(room, compiled=lambda size: 2000 * size):
        return memory.largest_batch(memory.batch_sizes(100_000), room, lambda size: 1000 * size, compiled)

    assert choose(10**9) == 256
    assert choose(2000 * 64) == 64
    assert choose(2000 * 64 - 1) == 32
    assert choose(1000 * 64, lambda size: None) == 64  # no backend to ask
    assert choose(0) == 1
    sizes = []
    choose(1000 * 64, lambda size: sizes.append(size) or 0)
    assert sizes == [64]  # what does not fit by the estimate is not compiled


def test_the_room_is_below_what_the_machine_has():
    import psutil

    assert 0 < memory.room_bytes() <= psutil.virtual_memory().total


def test_a_run_keeps_the_size_that_was_found(tiny_settings, tmp_path, monkeypatch, capsys):
    config = settings_with(
        tiny_settings, train={"batch_size": "auto", "checkpoint_every_steps": 3, "epochs": 1}
    )
    planned = {}
    whole = memory.compiled_bytes

    def compiled(model, batch):
        planned[batch[2].shape] = whole(model, batch)
        return planned[batch[2].shape]

    monkeypatch.setattr(memory, "compiled_bytes", compiled)
    monkeypatch.setattr(memory, "estimate", lambda *_: 0)
    monkeypatch.setattr(memory, "room_bytes", lambda: 2**40)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 5)
        train.train(config, tmp_path / "run")
    assert "1024.0 GiB for a step: train.batch_size = 8" in capsys.readouterr().err
    assert runs.read_config(runs.RunDir(tmp_path / "run")).train.batch_size == 8

    monkeypatch.setattr(memory, "room_bytes", lambda: 0)  # a smaller machine goes on with the same size
    train.resume(tmp_path / "run")
    assert history(tmp_path / "run", "evaluation")[-1]["step"] == 160 / 8

    (largest,) = planned.values()
    monkeypatch.setattr(memory, "room_bytes", lambda: largest - 1)
    result = train.dry_run(config)
    assert result["batches"]["examples"] == 4
    assert min(planned.values()) < largest


@pytest.mark.parametrize(
    ("value", "message"), [(0, "at least 1, got: 0"), ("big", "a whole number or 'auto', got: 'big'")]
)
def test_other_values_are_mistakes(value, message):
    with pytest.raises(KftError, match="1 to fix") as error:
        configs.parse({"data": {"source": "bbc_news"}, "train": {"batch_size": value}})
    assert f"`train.batch_size` must be {message}" in error.value.message
