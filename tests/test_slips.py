"""Slips of the command line that would lose data, and data that changed behind a run."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import VOCABULARY, make_bert_folder, sentences, write_csv
from test_cli import kft, mistake
from test_train import Killed, _die_before, settings_with

from kft import config as configs
from kft import evaluate, runs, train
from kft.errors import KftError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "films.csv", sentences(40))
    return tmp_path


class TestOutputs:
    def test_the_file_that_is_read(self, tiny_run, folder):
        before = Path("films.csv").read_bytes()
        Path("link.csv").symlink_to("films.csv")
        Path("hard.csv").hardlink_to("films.csv")
        for output in ("films.csv", "./films.csv", "link.csv", "hard.csv"):
            message = mistake(kft("predict", tiny_run, "films.csv", "--output", output))
            assert f"{output}: is read, and would be lost" in message
        assert Path("films.csv").read_bytes() == before

    def test_the_files_of_a_run_and_its_training_data(self, tiny_run, tiny_csv, folder):
        shutil.copytree(tiny_run, "r")
        before = {file: file.read_bytes() for file in Path("r").rglob("*") if file.is_file()}
        for output in ("r/metrics.json", "r/splits/test.parquet", tiny_csv):
            assert "would be lost" in mistake(kft("predict", "r", "films.csv", "--output", output))
        assert "would be lost" in mistake(kft("compare", "r", tiny_run, "--output", "r/DONE"))
        assert "would be lost" in mistake(kft("compare", "r", tiny_run, "--output", tiny_csv))
        assert {file: file.read_bytes() for file in Path("r").rglob("*") if file.is_file()} == before
        assert kft("predict", "r", "films.csv", "--output", "r/answers.jsonl").exit_code == 0

    @pytest.mark.parametrize("named", ["data/*.csv", "data", "**/*.csv", "dat[a]/part-?.csv"])
    def test_patterns_and_folders_of_training_data(self, folder, named):
        Path("data").mkdir()
        Path("data/part-1.csv").write_text("precious")
        absolute = str(Path(named).resolve())
        for read in (named, absolute):
            with pytest.raises(KftError, match="data/part-1.csv: is read, and would be lost"):
                runs.check_output("data/part-1.csv", "new.csv", read)
            runs.check_output("data/answers.csv", read)  # it is not there yet
        runs.check_output("films.csv", named.replace("**/", "data/"), "https://a.b/films.csv", "[", "")

    def test_a_failure_leaves_what_was_there(self, tiny_run, folder):
        Path("answers.jsonl").write_text("precious")
        Path("bad.csv").write_text("text\ngood\nbad,film\n")
        mistake(kft("predict", tiny_run, "bad.csv", "--output", "answers.jsonl"))
        assert Path("answers.jsonl").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--backend", "jax", "--set", "backend=torch"], "--backend jax and --set backend=torch contradict"),
        (["train", "--seeds", "1,2", "--set", "train.seed=3"], "--seeds [1, 2] and --set train.seed=3 contradict"),
        (["train", "--dry-run", "--run", "r"], "--dry-run writes nothing"),
        (["train", "--dry-run", "--seeds", "1"], "--dry-run writes nothing"),
        (["tune", "--method", "grid", "--set", "tune.method=tpe"], "--method grid and --set tune.method=tpe contradict"),
        (["suite", "glue", "--preset", "a", "--set", "model.preset=b"], "--preset a and --set model.preset=b contradict"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other(folder, arguments, message):
    result = kft(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


class TestChangedBehindTheRun:
    def test_training_data(self, tiny_settings, folder):
        settings = tiny_settings | {
            "data": {"train": "films.csv"},
            "train": tiny_settings["train"] | {"epochs": 1},
        }
        train.train(configs.parse(settings), "r")
        assert json.loads(kft("evaluate", "r", "--split", "train", "--json").stdout)["split"] == "train"
        write_csv(Path("films.csv"), sentences(40, seed=1))
        with pytest.raises(KftError, match="the train data is not what this run was trained on"):
            evaluate.evaluate("r", "train")
        assert kft("evaluate", "r").exit_code == 0

    def test_the_tokenizer_of_a_preset_folder(self, tiny_settings, folder, monkeypatch):
        preset = make_bert_folder(folder / "preset")
        settings = tiny_settings | {"model": tiny_settings["model"] | {"preset": str(preset)}}
        config = settings_with(settings, train={"checkpoint_every_steps": 3})
        with monkeypatch.context() as patched, pytest.raises(Killed):
            _die_before(patched, "epoch.EpochWatch.on_train_batch_end", 5)
            train.train(config, "r")
        words = [*VOCABULARY[:5], *reversed(VOCABULARY[5:])]
        (preset / "vocab.txt").write_text("\n".join(words) + "\n")
        with pytest.raises(KftError, match="the tokenizer of .* is not what this run was started with"):
            train.resume("r")
        (preset / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
        train.resume("r")
        assert runs.open_run("r")


class TestMoreEpochs:
    def test_a_new_run_goes_on_from_the_weights_of_a_finished_one(self, tiny_run, folder):
        shutil.copytree(tiny_run, "r")
        before = {file: file.read_bytes() for file in Path("r").rglob("*") if file.is_file()}
        result = kft("train", "--resume", "r", "--set", "train.epochs=3", "--run", "more", "--json")
        assert result.exit_code == 0, result.stderr
        assert "had 2 epochs; a new run trains its weights for 1 more" in result.stderr
        new, old = runs.RunDir(Path("more")), runs.RunDir(Path("r").resolve())
        assert runs.read_config(new).train.epochs == 1
        origin = runs.read_json(new.model)["from_run"]
        assert (origin["path"], origin["head_kept"]) == (str(old.path), True)
        assert runs.read_json(new.data)["splits"] == runs.read_json(old.data)["splits"]
        assert {file: file.read_bytes() for file in Path("r").rglob("*") if file.is_file()} == before

    def test_the_data_must_be_the_same(self, tiny_run, tiny_csv, folder):
        """More epochs on other data would be another training, whose test rows it may have seen."""
        shutil.copytree(tiny_run, "r")
        *lines, last = tiny_csv.read_text().splitlines(keepends=True)
        assert last
        Path("fewer.csv").write_text("".join(lines))
        config = Path("r/config.toml")
        config.write_text(config.read_text().replace(str(tiny_csv), str(Path("fewer.csv").resolve())))
        result = kft("train", "--resume", "r", "--set", "train.epochs=3", "--run", "more")
        assert "r: the train data is not what this run was trained on" in mistake(result)
        assert "put the old data back, or start a new run from its weights" in result.stderr
        assert not Path("more/model.json").exists()

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("train.epochs=2", "`train.epochs` is 2, and the run has had 2"),
            ("data.text=x", "more epochs of a run are of the same data and model, and data.text differs"),
        ],
    )
    def test_what_is_no_more_of_it(self, tiny_run, folder, setting, message):
        assert message in mistake(kft("train", "--resume", tiny_run, "--set", setting))
