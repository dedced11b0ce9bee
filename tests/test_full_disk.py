"""A disk that becomes full: every kind of file fails with one message, nothing half stays."""

import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tomli_w
from conftest import run_kft, sentences, write_csv
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from kft import models, runs
from kft.errors import KftError

FULL = "cannot be written: no space left on the disk"


@pytest.fixture
def disk(tmp_path):
    """Mounts a small disk of so many kilobytes; skips where this process may not."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes: int) -> Path:
        subprocess.run(["umount", folder], capture_output=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a disk: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True)


def figure(path: Path) -> None:
    drawn = Figure(figsize=(9, 6))
    drawn.subplots().plot(np.random.default_rng(0).normal(size=2000))
    drawn.savefig(path)


WRITERS = {
    "text.json": lambda path: runs.write_text(path, "x" * 200_000),
    "table.parquet": lambda path: runs.write_whole(
        path, pl.DataFrame({"x": np.random.default_rng(0).normal(size=40_000)}).write_parquet
    ),
    "state.safetensors": lambda path: runs.write_whole(
        path, lambda aside: save_file({"x": np.ones(60_000, np.float32)}, aside)
    ),
    "curves.png": lambda path: runs.write_whole(path, figure),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kilobytes", [4, 12, 20, 32])
def test_every_kind_of_file(disk, name, kilobytes):
    folder = disk(kilobytes)
    with pytest.raises(KftError) as caught:
        WRITERS[name](folder / name)
    assert caught.value.message == f"{folder / name}: {FULL}"
    assert list(folder.iterdir()) == []


def test_lines_that_are_added(disk):
    file = disk(8) / "history.jsonl"
    with pytest.raises(KftError, match=FULL):
        for _ in range(1000):
            runs.append_line(file, "x" * 100)


def test_weights_at_every_size(disk, tiny_run, tmp_path):
    """HDF5 ends the process where its own write fails; the room that is taken for it is enough."""
    model = models.load(runs.open_run(tiny_run))
    needed = (tiny_run / "model.weights.h5").stat().st_size
    for kilobytes in [*range(4, 4 + needed // 1024 * 2, 24), needed // 1024 * 3]:
        folder = disk(kilobytes)
        try:
            models.save(model, folder / "model.weights.h5")
        except KftError as error:
            assert error.message == f"{folder / 'model.weights.h5'}: {FULL}"
            assert list(folder.iterdir()) == []
        else:
            assert kilobytes * 1024 > needed
            models.load_weights(model, folder / "model.weights.h5")
    assert (folder / "model.weights.h5").exists()


@pytest.mark.parametrize("kilobytes", [8, 60, 200, 300])
def test_training(disk, tiny_preset, tmp_path, kilobytes):
    folder = disk(kilobytes)
    write_csv(tmp_path / "films.csv", sentences(200))
    settings = {
        "data": {"train": "films.csv"},
        "model": {"preset": str(tiny_preset), "max_length": 16},
        "train": {"epochs": 1, "batch_size": 16},
    }
    (tmp_path / "films.toml").write_text(tomli_w.dumps(settings))
    done = run_kft("train", tmp_path / "films.toml", "--run", folder / "run")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message, hint = done.stderr[done.stderr.index("Error: ") :].split("\n\nhint: ")
    assert message.endswith(FULL)
    assert hint == "free some space, or choose another folder\n"
