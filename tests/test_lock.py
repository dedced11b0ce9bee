"""One writer at a time: who is refused and how, and which locks are nobody's any more."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kft import runs
from kft.errors import KftError
from kft.runs import lock

HOLD = (
    "import sys, time; from kft import runs\n"
    "with runs.only_writer(sys.argv[1]):\n"
    "    print('has it', flush=True); time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that writes in the folder `used`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "used")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "has it\n"
    yield process
    process.kill()
    process.wait()


def refused(folder: Path) -> str:
    with pytest.raises(KftError) as caught, runs.only_writer(folder):
        pass
    assert caught.value.hint == "wait for it, or choose another folder with --run"
    return caught.value.message


def record(folder: Path, **changed) -> None:
    """Makes the lock's file of a folder say that somebody else has it."""
    folder.mkdir(exist_ok=True)
    file = folder / ".lock"
    file.touch()
    content = lock._here() | {"inode": file.stat().st_ino, "token": "other", "host": "far"} | changed
    file.write_text(json.dumps(content))


def test_a_second_process_is_refused_by_name(tmp_path, holder):
    message = refused(tmp_path / "used")
    assert message.startswith(
        f"{tmp_path / 'used'}: is in use by process {holder.pid} on {os.uname().nodename} since 2"
    )
    assert runs.user_of(tmp_path / "used").startswith(f"process {holder.pid} on ")


def test_a_second_thread_is_refused(tmp_path):
    with runs.only_writer(tmp_path):
        assert f"is in use by process {os.getpid()} on " in refused(tmp_path)
    with runs.only_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_ends_with_its_process(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "used" / ".lock").exists()
    assert runs.user_of(tmp_path / "used") is None
    with runs.only_writer(tmp_path / "used"):
        pass
    assert not (tmp_path / "used" / ".lock").exists()


def test_a_copied_folder_is_nobodys(tmp_path, holder):
    shutil.copytree(tmp_path / "used", tmp_path / "copied")
    assert runs.user_of(tmp_path / "copied") is None
    with runs.only_writer(tmp_path / "copied"):
        pass


def test_a_number_that_another_process_has_now(tmp_path):
    """The numbers of processes are used again; in a container they are always the same."""
    record(tmp_path, process=1, started="some other time")
    with runs.only_writer(tmp_path):
        pass
    record(tmp_path, process=os.getppid(), started=lock._started(os.getppid()))
    assert f"process {os.getppid()} on far" in refused(tmp_path)
    record(tmp_path, process=1, namespace="pid:[of another container]")
    with runs.only_writer(tmp_path):  # one kernel has the locks of all its containers
        pass


class TestAnotherMachine:
    """A file system that keeps locks to one machine."""

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch):
        monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
        monkeypatch.setattr(lock, "DEAD_SECONDS", 1.0)

    def test_one_that_gives_signs_of_life(self, tmp_path):
        record(tmp_path, machine="another")
        code = "import os, sys, time\nwhile True: os.utime(sys.argv[1]); time.sleep(0.02)"
        beating = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / ".lock")])
        try:
            time.sleep(0.2)
            assert "is in use by process" in refused(tmp_path)
        finally:
            beating.kill()
            beating.wait()

    def test_one_that_gives_none(self, tmp_path, capsys):
        record(tmp_path, machine="another")
        assert runs.user_of(tmp_path).startswith("process ")  # as far as can be seen at once
        with runs.only_writer(tmp_path):
            pass
        assert "waiting for a sign of life" in capsys.readouterr().err

    def test_one_that_has_been_silent_for_long(self, tmp_path, capsys):
        record(tmp_path, machine="another")
        os.utime(tmp_path / ".lock", (0, 0))
        assert runs.user_of(tmp_path) is None
        with runs.only_writer(tmp_path):
            os.utime(tmp_path / ".lock", (0, 0))
            while (tmp_path / ".lock").stat().st_mtime == 0:  # it gives signs itself
                time.sleep(0.01)
        assert capsys.readouterr().err == ""


def test_a_file_system_without_locks(tmp_path, monkeypatch, holder):
    def no_lock(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    assert f"is in use by process {holder.pid} on " in refused(tmp_path / "used")
    holder.kill()
    holder.wait()
    with runs.only_writer(tmp_path / "used"):
        assert json.loads((tmp_path / "used" / ".lock").read_text())["process"] == os.getpid()


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    for name, message in (
        ("file", "is a file, not a folder"),
        ("file/deep", "cannot be written: a folder in its path is a file"),
    ):
        with pytest.raises(KftError) as caught, runs.only_writer(tmp_path / name):
            pass
        assert caught.value.message == f"{tmp_path / name}: {message}"


def test_what_killed_processes_left_aside_is_swept(tmp_path):
    left = [runs.aside_of(tmp_path / "a.json"), runs.aside_of(tmp_path / "checkpoints" / "b.h5")]
    kept = [tmp_path / ".keep", tmp_path / "checkpoints" / "b.h5"]
    folder = runs.aside_of(tmp_path / "export")
    (folder / "inner").mkdir(parents=True)
    for file in (*left, *kept):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    runs.sweep(tmp_path)
    assert not any(path.exists() for path in (*left, folder))
    assert all(path.exists() for path in kept)
