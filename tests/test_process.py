"""The process around a command: signals at any moment, standard streams unlike usual."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tomli_w
from conftest import sentences, write_csv

KFT = [sys.executable, "-m", "kft.cli"]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STRANGE = "café 😀"


def start(command: list[str], folder: Path, **options) -> subprocess.Popen:
    """A process that SIGINT reaches as it reaches one in the foreground."""
    return subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def run(command: str, **environment: str) -> subprocess.CompletedProcess:
    """A line of a shell, in which `kft` is the command under test."""
    line = command.replace("kft ", f"'{sys.executable}' -m kft.cli ")
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=os.environ | environment)
    assert b"Traceback" not in done.stderr + done.stdout, done.stderr
    assert b"Exception ignored" not in done.stderr, done.stderr
    return done


@pytest.fixture
def films(tmp_path, tiny_preset) -> Path:
    """A folder with data and a config that trains for long."""
    write_csv(tmp_path / "films.csv", sentences(200))
    settings = {
        "data": {"train": "films.csv"},
        "model": {"preset": str(tiny_preset), "max_length": 16},
        "train": {"epochs": 1000, "batch_size": 16},
    }
    (tmp_path / "films.toml").write_text(tomli_w.dumps(settings))
    return tmp_path


class TestSignals:
    @pytest.mark.parametrize("number", SIGNALS)
    @pytest.mark.parametrize("line", ["", "data ", "model "])
    def test_before_the_first_step(self, films, number, line):
        """While Python starts, while the model is made, and while the first step is compiled."""
        if line:
            process = start([*KFT, "train", "films.toml", "--run", "r"], films)
            while not (said := process.stderr.readline()).startswith(line):
                assert said
            process.send_signal(number)
        else:
            code = f"import sys; sys.argv = ['kft']; import kft.cli, os; os.kill(os.getpid(), {int(number)}); input()"
            process = start([sys.executable, "-c", code], films)
        err = process.communicate()[1]
        if line == "model " and process.returncode == 75:  # the step was done by then
            assert "stopped; go on with: kft train --resume" in err
        else:
            assert process.returncode == 1
            assert err.endswith(f"Error: stopped by {number.name}\n\nhint: the same command starts again\n")

    @pytest.mark.parametrize("number", SIGNALS)
    @pytest.mark.parametrize("where", ["callback", "finalizer", "swallows", "library"])
    def test_where_an_exception_gets_lost(self, films, number, where):
        """In a collector's callback, a finalizer, a catch-all, a call that does not return."""
        code = textwrap.dedent(f"""
            import ctypes, gc, os, signal, sys, threading, time
            sys.argv = ["kft"]
            from kft.cli import main, process
            import click
            process.GRACE_SECONDS = 0.5
            send = lambda *_: (os.kill(os.getpid(), {int(number)}), time.sleep(0.1))

            @main.command("wait")
            def wait():
                where = {where!r}
                if where == "callback":
                    gc.callbacks.append(send)
                    gc.collect()
                elif where == "finalizer":
                    type("Thing", (), {{"__del__": send}})()
                elif where == "swallows":
                    try:
                        send()
                    except BaseException:
                        pass
                else:
                    threading.Timer(0.2, send).start()
                    ctypes.PyDLL(None).sleep(5)  # holds the lock of the interpreter at first
                    ctypes.CDLL(None).sleep(60)
                time.sleep(60)

            main(["wait"])
        """)
        process = start([sys.executable, "-c", code], films)
        err = process.communicate(timeout=50)[1]
        assert process.returncode == 1, err
        assert err == f"Error: stopped by {number.name}\n\nhint: the same command starts again\n"

    def test_programs_that_call_the_commands_keep_their_handlers(self):
        from click.testing import CliRunner

        from kft.cli import main

        before = [signal.getsignal(number) for number in SIGNALS]
        CliRunner().invoke(main, ["configs"])
        assert [signal.getsignal(number) for number in SIGNALS] == before


class TestStreams:
    @pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-16", "utf-8"])
    def test_answers_are_utf_8_whatever_the_terminal(self, tiny_run, encoding):
        done = run(f"echo '{STRANGE}' | kft predict {tiny_run}", PYTHONIOENCODING=encoding)
        assert json.loads(done.stdout.decode("utf-8"))["text"] == STRANGE

    @pytest.mark.parametrize(
        "command", ["data films.toml --json", "config films.toml --json", "config films.toml"]
    )
    def test_other_results_for_programs_are_utf_8(self, films, command):
        rows = [(f"{text} {STRANGE}", f"{label} {STRANGE}") for text, label in sentences(40)]
        write_csv(films / f"{STRANGE}.csv", rows)
        (films / "films.toml").write_text(
            (films / "films.toml").read_text().replace("films.csv", f"{STRANGE}.csv"), "utf-8"
        )
        done = run(f"cd '{films}'; kft {command}", PYTHONIOENCODING="latin-1")
        assert STRANGE in done.stdout.decode("utf-8")

    def test_tables_leave_out_what_the_terminal_lacks(self, films):
        rows = [(text, f"{label} {STRANGE}") for text, label in sentences(40)]
        write_csv(films / "films.csv", rows)
        done = run(f"cd '{films}'; kft data films.toml", PYTHONIOENCODING="latin-1")
        assert "positive café ?" in done.stdout.decode("latin-1")

    def test_a_closed_output(self, tiny_run):
        done = run(f"echo good | kft predict {tiny_run} >&-")
        assert done.returncode == 1
        assert done.stderr.decode() == (
            "Error: standard output is closed\n\nhint: give a file for the answers with --output\n"
        )

    def test_a_closed_input(self, tiny_run):
        done = run(f"kft predict {tiny_run} <&-")
        assert done.returncode == 1
        assert done.stderr.decode() == "Error: standard input is closed\n\nhint: give a file with texts\n"

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_commands_whose_streams_are_closed(self, tiny_run, tmp_path, closed):
        assert run(f"kft configs {closed}").returncode == 0
        done = run(f"kft predict {tiny_run} /etc/hostname --output {tmp_path / 'answers.jsonl'} {closed}")
        assert (done.returncode, done.stdout) == (0, b"")
        assert json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])["label"]
        assert run(f"kft data none.toml {closed}").returncode == 1

    def test_nobody_listens_any_more(self, tiny_run):
        assert run(f"kft predict {tiny_run} /etc/services | true").returncode == 0
        assert run("kft data none.toml 2> >(true); sleep 0.2").returncode == 0
        assert run("kft data none.toml 2> /dev/full").returncode == 1

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_disk_behind_the_output(self, tiny_run):
        done = run(f"echo good | kft predict {tiny_run} > /dev/full")
        assert done.returncode == 1
        assert done.stderr.decode() == (
            "Error: standard output: cannot be written: no space left on the disk\n\nhint: free some space\n"
        )
