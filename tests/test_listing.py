"""`kft runs` lists and cleans; `kft completion` completes."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from kft import runs
from kft.cli import main


@pytest.fixture
def folder(tiny_run, tmp_path):
    """A finished run with checkpoints, and an unfinished one in a sub-folder."""
    shutil.copytree(tiny_run, tmp_path / "done")
    for name in ("done", "group/half"):
        shutil.copytree(tiny_run, tmp_path / name, dirs_exist_ok=True)
        (tmp_path / name / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / name / "checkpoints" / "step-000000007.safetensors").write_bytes(b"x" * 3000)
    (tmp_path / "group" / "half" / "DONE").unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.toml").write_text("")
    return tmp_path


def kft(*arguments, stdin=None, env=None):
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin, env=env)


def listed(folder):
    rows = json.loads(kft("runs", folder, "--json").stdout)
    return {os.path.relpath(row["run"], folder): row for row in rows}


def test_runs_are_listed(folder, tiny_run):
    rows = listed(folder)
    assert {name: row["state"] for name, row in rows.items()} == {
        "done": "finished",
        "group/half": "unfinished",
    }
    done = rows["done"]
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert (done["data"], done["split"], done["metrics"]) == ("films.csv", "test", metrics["test"])
    assert done["bytes"] > done["spare_bytes"] == 3000
    text = kft("runs", folder).stdout
    assert f"test accuracy {metrics['test']['accuracy']:.4f}" in text and "unfinished" in text


def test_a_run_in_use_says_so_and_is_not_cleaned(folder):
    with runs.only_writer(folder / "done"):
        assert listed(folder)["done"]["state"] == "in use"
        assert kft("runs", folder, "--clean", "--yes").stdout == "freed 0.0 MiB\n"


@pytest.mark.parametrize(("answer", "kept"), [("n\n", True), ("y\n", False)])
def test_cleaning_asks(folder, answer, kept):
    result = kft("runs", folder, "--clean", stdin=answer)
    assert "0.0 MiB of checkpoints in 1 finished runs" in result.stderr
    assert (folder / "done" / "checkpoints").exists() == kept
    assert (folder / "group" / "half" / "checkpoints" / "step-000000007.safetensors").exists()
    runs.open_run(folder / "done")  # whole


def test_mistakes(tmp_path):
    result = kft("runs", tmp_path / "none")
    assert result.exit_code == 1 and "none: no such folder" in result.stderr
    assert kft("runs", tmp_path).stdout == "no runs\n"
    assert kft("runs", tmp_path, "--yes").exit_code == 2


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [
        ("kft tra", 1, "train"),
        ("kft train ss", 2, "sst2"),
        ("kft train --set train.epo", 3, "train.epochs="),
        ("kft train --ba", 2, "--backend"),
    ],
)
def test_completion_completes(words, position, expected):
    environment = {"_KFT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    code = "import sys; sys.argv = ['kft']; from kft.cli import main; main(prog_name='kft')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert f"plain,{expected}" in done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell):
    result = kft("completion", shell)
    assert result.exit_code == 0 and "_KFT_COMPLETE" in result.stdout
    if shell == "bash" and shutil.which("bash"):
        assert subprocess.run(["bash", "-n"], input=result.stdout, text=True).returncode == 0
