"""`kft tune --launcher ray` on its own Ray: a killed worker, a stop, the rest without Ray."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from click.testing import CliRunner

from kft import config as configs
from kft.cli import main

pytest.importorskip("optuna", reason="optuna is not installed")
pytest.importorskip("ray", reason="ray is not installed")


def processes_below(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    got, grown = {pid}, True
    while grown:
        more = got | {child for child, parent in pairs if parent in got}
        got, grown = more, more != got
    return got - {pid}


def alive(pids: set[int]) -> list[str]:
    chosen = ",".join(map(str, pids))
    listing = subprocess.run(["ps", "-o", "stat=,args=", "-p", chosen], capture_output=True, text=True).stdout
    return [line for line in listing.splitlines() if not line.startswith("Z")]


def test_workers_on_ray_are_replaced_and_stopped(tiny_settings, tmp_path):
    tune = {"method": "grid", "train.learning_rate": [0.01, 0.03]}
    whole = {"train": tiny_settings["train"] | {"epochs": 40}, "tune": tune}
    (tmp_path / "c.toml").write_text(configs.dump(configs.parse(tiny_settings | whole)))
    arguments = ["tune", str(tmp_path / "c.toml"), "--run", str(tmp_path / "study"), "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "kft.cli", *arguments, "--launcher", "ray"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_ADDRESS": "local"},
    ) as command:
        lines, workers, started = [], [], set()
        for line in command.stderr:
            lines.append(line)
            worker = re.search(r"pid=(\d+)\) epoch \d+/40", line)
            if worker and worker[1] not in workers:
                workers.append(worker[1])
                started |= processes_below(command.pid)
                if len(workers) == 1:
                    os.kill(int(worker[1]), signal.SIGKILL)
                else:
                    command.send_signal(signal.SIGTERM)
        printed = command.stdout.read()
    said = "".join(lines)
    assert command.returncode == 75, said
    assert "a Ray worker died; its trial is taken over" in said
    assert "\x1b" not in said
    assert json.loads(printed)["planned"] == 2
    assert len(started) > 3
    for _ in range(60):  # the last worker ends when it sees that Ray has
        if not alive(started):
            break
        time.sleep(0.5)
    assert not alive(started)
    finished = CliRunner().invoke(main, arguments)
    content = json.loads(finished.stdout)
    assert Counter(t["state"] for t in content["trials"]) == {"complete": 2}
    assert [len(t["epochs"]) for t in content["trials"]] == [40, 40]
