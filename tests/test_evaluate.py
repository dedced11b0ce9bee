"""Evaluating and predicting with finished runs: formats, pairs, moved runs, full disks."""

import gc
import json
import os
import shutil
import subprocess
import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from conftest import sentences, write_csv

from kft import config as configs
from kft import evaluate, models, runs, train
from kft.cli import main
from kft.errors import KftError

TEXTS = ["a good film", "", "the plot plot plot", "bad"]


def pair_settings(tiny_preset, folder: Path) -> dict:
    """Settings of a run that predicts scores of pairs; its columns have names of their own."""
    rows = [(text, text[::-1].split(" ")[0], i % 7 / 2) for i, (text, _) in enumerate(sentences(60, seed=5))]
    write_csv(folder / "pairs.csv", rows, ("first", "second", "similarity"))
    return {
        "task": "regression",
        "data": {
            "train": str(folder / "pairs.csv"),
            "text": "first",
            "text_pair": "second",
            "label": "similarity",
        },
        "model": {"preset": str(tiny_preset), "max_length": 16},
        "train": {"epochs": 1, "batch_size": 16},
    }


@pytest.fixture(scope="session")
def pair_run(tiny_preset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    train.train(configs.parse(pair_settings(tiny_preset, folder)), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def loaded(tiny_run) -> evaluate.LoadedRun:
    return evaluate.load_run(tiny_run)


@pytest.fixture(scope="module")
def loaded_pairs(pair_run) -> evaluate.LoadedRun:
    return evaluate.load_run(pair_run)


def kft(*arguments, stdin: str | bytes | None = None):
    result = CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answers(run, *arguments, stdin=None) -> list[dict]:
    """The objects that `kft predict` prints."""
    result = kft("predict", run, *arguments, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def same(some: list[dict], others: list[dict]) -> bool:
    """Whether the answers are equal; what shares a batch may change the last digits."""
    for one, other in zip(some, others, strict=True):
        if [one[key] for key in ("id", "text", "label")] != [other[key] for key in ("id", "text", "label")]:
            return False
        pairs = zip(one["probabilities"].values(), other["probabilities"].values(), strict=True)
        if any(abs(a - b) > 1e-5 for a, b in pairs):
            return False
    return True


class TestPlainText:
    def test_one_answer_a_line(self, tiny_run):
        lines = answers(tiny_run, stdin="\n".join(TEXTS))
        assert [list(answer) for answer in lines] == [["id", "text", "label", "probabilities"]] * 4
        assert [answer["id"] for answer in lines] == [0, 1, 2, 3]
        assert [answer["text"] for answer in lines] == TEXTS
        for answer in lines:
            assert list(answer["probabilities"]) == ["negative", "positive"]
            assert sum(answer["probabilities"].values()) == pytest.approx(1)
            assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)

    @pytest.mark.parametrize(
        "content",
        [
            "\n".join(TEXTS).encode(),
            ("\n".join(TEXTS) + "\n").encode(),
            ("\r\n".join(TEXTS) + "\r\n").encode(),
            b"\xef\xbb\xbf" + "\n".join(TEXTS).encode(),
        ],
        ids=["no end", "unix", "windows", "byte-order mark"],
    )
    def test_line_ends(self, tiny_run, tmp_path, content):
        file = tmp_path / "texts.txt"
        file.write_bytes(content)
        expected = answers(tiny_run, stdin="\n".join(TEXTS))
        assert same(answers(tiny_run, file), expected)
        assert same(answers(tiny_run, "-", stdin=content), expected)

    def test_only_line_feeds_end_lines(self, tiny_run):
        odd = ["good\u2028film", "bad\x0bplot", "the\x85actor", "fine\rdull"]
        assert [a["text"] for a in answers(tiny_run, stdin="\n".join(odd))] == odd

    def test_nothing_in_nothing_out(self, tiny_run, tmp_path):
        (tmp_path / "none.txt").touch()
        assert answers(tiny_run, tmp_path / "none.txt") == []
        assert answers(tiny_run, stdin="") == []
        assert len(answers(tiny_run, stdin="\n")) == 1

    def test_text_that_is_not_utf8(self, tiny_run):
        result = kft("predict", tiny_run, stdin=b"good\ncaf\xe9\n")
        assert result.exit_code == 1
        said, hint = result.stderr.split("\n\nhint: ")
        assert said == "Error: standard input, line 2: not UTF-8 text (byte 4)"
        assert "--set data.encoding=cp1252" in hint and "iconv -t utf-8" in hint

    def test_a_file_that_is_not_there(self, tiny_run):
        result = kft("predict", tiny_run, "none.txt")
        assert result.exit_code == 1
        assert result.stderr.startswith(
            "Error: none.txt: cannot be read: No such file or directory\n\nhint: "
        )

    def test_long_and_odd_texts(self, tiny_run):
        odd = ["good " * 25_000, "\t", "😀" * 300, "\0", "[CLS] [SEP]", "<b>&amp;</b>", '"', "e\u0301" * 50]
        assert [a["text"] for a in answers(tiny_run, stdin="\n".join(odd))] == odd


class TestFormats:
    def test_each_format_gives_the_same_answers(self, tiny_run, tmp_path):
        frame = pl.DataFrame(
            {"number": [4, 3, 2, 1], "text": [*TEXTS[:3], "bad"], "other": [None, 1.5, 2.0, 3.0]}
        )
        frame.write_csv(tmp_path / "a.csv")
        frame.write_csv(tmp_path / "a.tsv", separator="\t", quote_style="never")
        frame.write_ndjson(tmp_path / "a.jsonl")
        frame.write_parquet(tmp_path / "a.parquet")
        (tmp_path / "a.json").write_text(json.dumps(frame.to_dicts()))
        expected = answers(tiny_run, stdin="\n".join(TEXTS))
        for ending in ("csv", "tsv", "jsonl", "parquet", "json"):
            assert same(answers(tiny_run, tmp_path / f"a.{ending}"), expected), ending

    def test_texts_with_line_ends_stay_one_input(self, tiny_run, tmp_path):
        file = write_csv(tmp_path / "a.csv", [('good "film"\nof\r\nthe plot', "x")])
        assert [a["text"] for a in answers(tiny_run, file)] == ['good "film"\nof\r\nthe plot']

    def test_labels_are_not_needed_and_not_checked(self, tiny_run, tmp_path):
        rows = [(text, "of no class") for text in TEXTS]
        assert len(answers(tiny_run, write_csv(tmp_path / "a.csv", rows))) == 4

    def test_missing_texts_are_answered_too(self, tiny_run, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "good"}\n{"text": null}\n{"other": 1}\n')
        assert [a["id"] for a in answers(tiny_run, tmp_path / "a.jsonl")] == [0, 1, 2]

    def test_a_wrong_column(self, tiny_run, tmp_path):
        result = kft("predict", tiny_run, write_csv(tmp_path / "a.csv", [("good",)], ("txt",)))
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "Error: a.csv: no column `text` (`data.text`), did you mean `txt`?\n\nhint: " in result.stderr


class TestOutput:
    def test_a_file_gets_what_stdout_would_get(self, tiny_run, tmp_path):
        result = kft("predict", tiny_run, "--output", tmp_path / "new" / "a.jsonl", stdin="\n".join(TEXTS))
        assert (result.exit_code, result.output) == (0, "")
        written = [
            json.loads(line) for line in (tmp_path / "new" / "a.jsonl").read_text("utf-8").splitlines()
        ]
        assert same(written, answers(tiny_run, stdin="\n".join(TEXTS)))

    def test_a_mistake_leaves_the_old_file(self, tiny_run, tmp_path):
        (tmp_path / "a.jsonl").write_text("old")
        result = kft("predict", tiny_run, "--output", tmp_path / "a.jsonl", stdin=b"good\n\xff\n")
        assert result.exit_code == 1
        assert (tmp_path / "a.jsonl").read_text() == "old"
        assert list(tmp_path.iterdir()) == [tmp_path / "a.jsonl"]

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ("file/a.jsonl", "file/a.jsonl: cannot be written: a folder in its path is a file"),
            ("/proc/a.jsonl", "/proc/a.jsonl: cannot be written: "),
        ],
    )
    def test_a_place_that_cannot_be_written(self, tiny_run, tmp_path, monkeypatch, where, message):
        monkeypatch.chdir(tmp_path)
        Path("file").touch()
        result = kft("predict", tiny_run, "--output", where, stdin="good\n")
        assert result.exit_code == 1
        assert message in result.stderr
        assert "hint: choose another folder" in result.stderr

    def test_a_device(self, tiny_run):
        assert kft("predict", tiny_run, "--output", os.devnull, stdin="good\n").exit_code == 0
        assert not Path(os.devnull).is_file()


class TestPairsAndScores:
    def test_lines_with_a_tab(self, pair_run):
        lines = answers(pair_run, stdin="good film\tbad plot\nfine\t\n")
        assert [list(answer) for answer in lines] == [["id", "text", "text_pair", "value"]] * 2
        assert (lines[0]["text"], lines[0]["text_pair"]) == ("good film", "bad plot")
        assert all(isinstance(answer["value"], float) for answer in lines)

    def test_files_with_the_columns_of_the_run(self, pair_run, tmp_path):
        file = write_csv(tmp_path / "a.csv", [("bad plot", "good film")], ("second", "first"))
        by_file, by_line = answers(pair_run, file), answers(pair_run, stdin="good film\tbad plot\n")
        assert by_file[0]["value"] == pytest.approx(by_line[0]["value"], abs=1e-5)
        assert by_file[0]["text"] == "good film"

    @pytest.mark.parametrize("line", ["good film", "a\tb\tc"])
    def test_lines_that_are_no_pairs(self, pair_run, line):
        result = kft("predict", pair_run, stdin=f"a\tb\n{line}\n")
        assert result.exit_code == 1
        assert "standard input, line 2: must be two texts with a tab between, got " in result.stderr
        assert "hint: the run was trained on pairs" in result.stderr

    def test_scores_of_a_file(self, pair_run, tmp_path):
        file = write_csv(
            tmp_path / "a.csv", [("a", "b", 1), ("c", "d", 2.5)], ("first", "second", "similarity")
        )
        content = json.loads(kft("evaluate", pair_run, "--data", file, "--json").stdout)
        assert (content["split"], content["examples"]) == ("data", 2)
        assert "mean_squared_error" in content["metrics"]
        write_csv(file, [("a", "b", "high")], ("first", "second", "similarity"))
        result = kft("evaluate", pair_run, "--data", file)
        assert result.exit_code == 1
        assert "a.csv, row 1: label must be a finite number, got: 'high'" in result.stderr

    def test_an_undefined_score_is_null(self, pair_run, tmp_path):
        file = write_csv(tmp_path / "a.csv", [("a", "b", 1)], ("first", "second", "similarity"))
        assert (
            json.loads(kft("evaluate", pair_run, "--data", file, "--json").stdout)["metrics"]["pearson"]
            is None
        )

    def test_label_errors_need_classes(self, pair_run):
        result = kft("data", pair_run.parent / "run" / "config.toml", "--run", pair_run)
        assert result.exit_code == 1
        assert "predicts no classes" in result.stderr
        assert "hint: leave out --run" in result.stderr


class TestPython:
    def test_predict_takes_texts_and_frames(self, loaded):
        answers = list(evaluate.predict(loaded, TEXTS))
        assert same(answers, list(evaluate.predict(loaded, pl.DataFrame({"text": TEXTS}))))

    def test_chunks_count_on(self, loaded, monkeypatch):
        expected = list(evaluate.predict(loaded, TEXTS * 3))
        monkeypatch.setattr(evaluate.inputs, "CHUNK_EXAMPLES", 5)
        answers = list(evaluate.predict(loaded, TEXTS * 3))
        assert [answer["id"] for answer in answers] == list(range(12))
        assert same(answers, expected)

    def test_a_chunk_that_is_answered_leaves_memory(self, loaded):
        tokens = evaluate.encode(loaded, pl.DataFrame({"text": ["a good film", "dull"]}))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # such as Keras's, of data that ran out
            evaluate.predict_logits(loaded.model, tokens)
        left = weakref.ref(tokens)
        del tokens
        gc.collect()
        assert left() is None

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
    def test_files_are_answered_whole_in_chunks(self, loaded, tmp_path, monkeypatch, name):
        frame = pl.DataFrame({"text": TEXTS * 3})
        write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
        write[name[2:]](tmp_path / name)
        expected = list(evaluate.predict(loaded, TEXTS * 3))
        few = loaded.config.model_copy(
            update={"data": loaded.config.data.model_copy(update={"max_examples": 2})}
        )
        monkeypatch.setattr(evaluate.inputs, "CHUNK_EXAMPLES", 4)
        output = tmp_path / "answers.jsonl"
        count = evaluate.predict_file(replace(loaded, config=few), str(tmp_path / name), output)
        assert count == len(TEXTS) * 3
        assert same([json.loads(line) for line in output.read_text("utf-8").splitlines()], expected)

    def test_single_texts_and_pairs_do_not_mix(self, loaded, loaded_pairs):
        with pytest.raises(KftError, match="reads single texts"):
            next(evaluate.predict(loaded, [("a", "b")]))
        with pytest.raises(KftError, match="reads pairs of texts"):
            next(evaluate.predict(loaded_pairs, ["ab"]))
        assert next(evaluate.predict(loaded_pairs, [("a", "b")]))["text_pair"] == "b"

    def test_evaluate_reports_the_details(self, loaded):
        content = evaluate.evaluate(loaded, "validation")
        assert set(content) == {"run", "split", "examples", "metrics", "details"}
        assert content["details"]["examples"] == content["examples"] == 20


class TestRuns:
    def test_a_moved_run_without_its_data(self, tiny_run, tmp_path):
        moved = tmp_path / "moved"
        shutil.copytree(tiny_run, moved)
        data = configs.load(moved / "config.toml").data.train
        text = (moved / "config.toml").read_text()
        (moved / "config.toml").write_text(text.replace(data, "/no/longer/there.csv"))
        shutil.move(moved, tmp_path / "renamed")
        for split in ("test", "validation"):
            content = json.loads(kft("evaluate", tmp_path / "renamed", "--split", split, "--json").stdout)
            assert content["run"] == str(tmp_path / "renamed")
            assert content["metrics"] == pytest.approx(runs.read_json(tiny_run / "metrics.json")[split])
        assert same(answers(tmp_path / "renamed", stdin="good\n"), answers(tiny_run, stdin="good\n"))

    def test_written_predictions_are_those_of_predict(self, tiny_run, loaded):
        written = pl.read_parquet(tiny_run / "predictions.test.parquet")
        rows = pl.read_parquet(tiny_run / "splits" / "test.parquet")
        answers = list(evaluate.predict(loaded, rows["text"].to_list()))
        assert written["label"].to_list() == [answer["label"] for answer in answers]
        assert written["target"].to_list() == rows["label"].to_list()
        expected = np.array([list(answer["probabilities"].values()) for answer in answers])
        np.testing.assert_allclose(np.array(written["probabilities"].to_list()), expected, atol=1e-5)

    def test_metrics_can_be_computed_again_from_the_predictions(self, tiny_run):
        written = pl.read_parquet(tiny_run / "predictions.test.parquet")
        accuracy = (written["label"] == written["target"]).mean()
        assert accuracy == pytest.approx(runs.read_json(tiny_run / "metrics.json")["test"]["accuracy"])

    def test_a_run_without_a_test_split(self, tiny_run, tmp_path):
        shutil.copytree(tiny_run, tmp_path / "r")
        run = runs.RunDir(tmp_path / "r")
        for file in (run.split("test"), run.predictions("test"), run.done):
            file.unlink()
        runs.finish(run)
        assert json.loads(kft("evaluate", run.path, "--json").stdout)["split"] == "validation"
        result = kft("evaluate", run.path, "--split", "test")
        assert result.exit_code == 1
        assert (
            "the run has no test split\n\nhint: it has validation; or give a file with --data"
            in result.stderr
        )


class TestFullDisk:
    @pytest.fixture
    def small_disk(self, tmp_path) -> Path:
        """A disk of 64 KiB."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True
        )
        if mounted.returncode:
            pytest.skip("only root can mount a small disk")
        yield disk
        subprocess.run(["umount", disk], check=True)

    def test_files_of_every_library(self, loaded, small_disk):
        texts = pl.DataFrame({"text": [str(np.random.default_rng(0).bytes(90_000))]})
        writers = {
            "model.weights.h5": lambda file: models.save(loaded.model, file),
            "rows.parquet": lambda file: runs.write_whole(file, texts.write_parquet),
            "metrics.json": lambda file: runs.write_json(file, {"text": texts["text"][0]}),
        }
        for name, write in writers.items():
            (small_disk / name).write_text("old")
            with pytest.raises(KftError) as caught:
                write(small_disk / name)
            assert (
                caught.value.message == f"{small_disk / name}: cannot be written: no space left on the disk"
            )
            assert caught.value.hint == "free some space, or choose another folder"
            assert [f.name for f in small_disk.iterdir()] == [name]
            assert (small_disk / name).read_text() == "old"
            (small_disk / name).unlink()

    def test_predictions(self, tiny_run, small_disk):
        result = kft("predict", tiny_run, "--output", small_disk / "a.jsonl", stdin="good film\n" * 2000)
        assert result.exit_code == 1
        assert (
            "a.jsonl: cannot be written: no space left on the disk\n\nhint: free some space" in result.stderr
        )
        assert list(small_disk.iterdir()) == []

    def test_a_run_folder(self, small_disk, tiny_csv, tiny_preset):
        with (small_disk / "filler").open("wb") as filler:
            filler.write(bytes(64 * 1024))
        result = kft(
            "train",
            "--run",
            small_disk / "r",
            "--set",
            f"data.train={tiny_csv}",
            "--set",
            f"model.preset={tiny_preset}",
        )
        assert result.exit_code == 1
        assert (
            f"Error: {small_disk / 'r'}: cannot be written: no space left on the disk\n\nhint: "
            in result.stderr
        )

    @pytest.mark.parametrize("name", ["history.jsonl", "DONE"])
    def test_training_goes_on_when_there_is_space_again(
        self, tiny_run, tiny_settings, tmp_path, monkeypatch, name
    ):
        full = OSError(28, "No space left on device")

        def refuse(path: Path, write) -> None:
            def fail(aside: Path) -> None:
                write(aside)
                if path.name == name:
                    raise full

            whole(path, fail)

        def refuse_line(path: Path, line: str) -> None:
            append(path, line)
            if path.name == name and '"step": 7' in line:
                raise runs.cannot_write(path, full)

        whole, append = runs.write_whole, runs.append_line
        monkeypatch.setattr(runs, "write_whole", refuse)
        monkeypatch.setattr(runs.files, "write_whole", refuse)
        monkeypatch.setattr(runs, "append_line", refuse_line)
        settings = configs.parse(tiny_settings, ["train.checkpoint_every_steps=4"])
        with pytest.raises(KftError, match=f"{name}: cannot be written: no space left on the disk") as caught:
            train.train(settings, tmp_path / "r")
        assert "free some space" in caught.value.hint
        assert not (tmp_path / "r" / "DONE").exists()
        monkeypatch.undo()
        text = (tmp_path / "r" / "config.toml").read_text()
        (tmp_path / "r" / "config.toml").write_text(text.replace("epochs = 2", "epochs = 3"))
        with pytest.raises(KftError, match="config.toml: was changed since the run began"):
            train.resume(tmp_path / "r")
        (tmp_path / "r" / "config.toml").write_text(text)
        resumed = train.resume(tmp_path / "r")
        assert resumed["metrics"] == runs.read_json(tiny_run / "metrics.json")
