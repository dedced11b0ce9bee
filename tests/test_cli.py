"""The commands: what they print where, how they end, and what they say about mistakes."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w
from click.testing import CliRunner, Result
from conftest import sentences, write_csv

from kft import __version__, runs
from kft import config as configs
from kft.cli import main

PACKAGE = Path(__file__).parents[1] / "kft"
ROWS = sentences(40, seed=3)
HEADER = b"text,label\n"
GOOD = b"".join(f"{text},{label}\n".encode() for text, label in ROWS)


def kft(*arguments, stdin: str | bytes | None = None) -> Result:
    """`kft …` in this process, on the backend that the tests run on."""
    result = CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def mistake(result: Result, status: int = 1) -> str:
    """The message of a mistake, after checking its form."""
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    printed = result.stderr[result.stderr.index("Error: ") :]
    message, hint = printed.split("\n\nhint: ")
    assert message.removeprefix("Error: ").strip()
    assert hint.strip()
    assert hint.endswith("\n")
    return printed


@pytest.fixture
def world(tmp_path, monkeypatch, tiny_preset) -> Path:
    """A folder to work in, with data and a config in it."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "films.csv", ROWS)
    settings = {
        "data": {"train": "films.csv"},
        "model": {"preset": str(tiny_preset), "max_length": 16},
        "train": {"epochs": 1, "batch_size": 16},
    }
    (tmp_path / "films.toml").write_text(tomli_w.dumps(settings))
    return tmp_path


@pytest.fixture
def copied(tiny_run, world) -> Path:
    """A copy of the finished run under the name `r`."""
    shutil.copytree(tiny_run, world / "r")
    return world / "r"


class TestHelp:
    def test_version(self):
        assert kft("--version").stdout == f"kft, version {__version__}\n"

    @pytest.mark.parametrize("flag", ["--help", "-h"])
    def test_the_group_lists_every_command(self, flag):
        result = kft(flag)
        assert result.exit_code == 0
        for name, command in main.commands.items():
            assert f"\n  {name} " in result.stdout
            assert not command.get_short_help_str(100).endswith("...")

    def test_every_command_stands_in_the_readme(self):
        readme = (PACKAGE.parent / "README.md").read_text("utf-8")
        assert [name for name in main.commands if f"`kft {name}" not in readme] == []

    @pytest.mark.parametrize("name", list(main.commands))
    def test_every_command_and_option_has_help(self, name):
        result = kft(name, "--help")
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: main {name} ")
        for option in main.commands[name].params:
            assert option.param_type_name == "argument" or option.help, option.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Usage:"),
        (("trian",), "no such command 'trian', did you mean `train`?"),
        (("train", "--epochs", "3"), "No such option '--epochs'"),
        (("train", "--backend", "pytorch"), "'pytorch' is not one of 'jax', 'torch', 'tensorflow'"),
        (("train", "--resume", "r", "--seeds", "1"), "--resume takes its settings from the run"),
        (("train", "--resume", "r", "--run", "q"), "--resume takes its settings from the run"),
        (("train", "a", "b"), "unexpected extra argument"),
        (("evaluate",), "Missing argument 'RUN'"),
        (("evaluate", "r", "--split", "dev"), "'dev' is not one of 'test', 'validation', 'train'"),
        (("evaluate", "r", "--split", "test", "--data", "x"), "--split and --data exclude each other"),
        (("predict",), "Missing argument 'RUN'"),
        (("predict", "r", "--output", "."), "is a directory"),
        (("predict", "r", "--json"), "No such option '--json'"),
    ],
)
def test_wrong_usage_has_status_2(world, arguments, message):
    result = kft(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output


def scores_file(value: str) -> bytes:
    return b"text,label\n" + b"".join(f"film {i},{i / 10 if i != 5 else value}\n".encode() for i in range(30))


# (content of data.csv or None for no file, overrides, what the message says, what the hint says)
BAD_DATA = {
    "missing file": (None, [], "data.csv: no such file", "holds"),
    "missing folder": (None, ["data.train=no/data.csv"], "no/data.csv: no such file", "there is no folder no either"),
    "empty file": (b"", [], "data.csv: is empty", "write the file again"),
    "white space only": (b" \n\n", [], "data.csv: is empty", "write the file again"),
    "header only": (HEADER, [], "data.csv: holds column names and no rows", "data.header = false"),
    "wrong column": (b"Text,label\ngood,a\n", [], "no column `text` (`data.text`), did you mean `Text`?", "`Text`"),
    "two wrong columns": (b"txt,lable\ngood,a\n", [], "no column `label` (`data.label`), did you mean `lable`?", "lable"),
    "column with a space": (b"text,label \ngood,a\n", [], "no column `label`", "`label `"),
    "one class": (HEADER + b"good,a\nfine,a\nbad,a\n", [], "every row has the label a", "data.label"),
    "a label for each row": (HEADER + b"".join(b"t%d,l%d\n" % (i, i) for i in range(30)), [], "different labels", "regression"),
    "class that only test has": (
        HEADER + GOOD, ["data.test=test.csv"], "test.csv, row 2: label must be one of negative, positive, got: postive, did you mean `positive`?",
        "mend the rows",
    ),
    "NA score": (scores_file("NA"), ["task=regression"], "data.csv, row 6: label must be a finite number, got: 'NA'", "mend or remove"),
    "infinite score": (scores_file("inf"), ["task=regression"], "data.csv, row 6: label must be a finite number", "mend or remove"),
    "text labels in a regression": (HEADER + GOOD, ["task=regression"], "label must be a finite number, got: 'negative'", "classification"),
    "not UTF-8": (HEADER + GOOD + "café,positive\n".encode("latin-1"), [], "data.csv, row 41 (line 42): byte 0xe9", "data.encoding"),
    "unknown encoding": (HEADER + GOOD, ["data.encoding=utf-9"], "no encoding `utf-9`, did you mean `utf-8`?", "latin-1"),
    "binary file": (bytes(range(256)) * 4, [], "data.csv: is a binary file", "CSV, JSONL or Parquet"),
    "workbook": (b"PK\x03\x04" + bytes(50), [], "data.csv: is a zip archive", "unpack it"),
    "row too long": (HEADER + GOOD + b"a,b,c\n", [], "data.csv, row 41 (line 42): expected 2 columns, got 3", "quote texts"),
    "row too short": (HEADER + b"a\n" + GOOD, [], "data.csv, row 1 (line 2): expected 2 columns, got 1", "quote texts"),
    "open quote": (HEADER + b'"a,b\n' + GOOD, [], "row 1 (line 2): a quote is opened and never closed", "doubled"),
    "duplicate column": (b"text,label,label\na,b,c\n", [], "has 2 columns `label`", "rename or remove one"),
    "another delimiter": (b"text;label\na;b\n", [], "no column `text`", 'data.delimiter = ";"'),
    "wrong format": (HEADER + GOOD, ["data.format=parquet"], "data.csv: cannot be read as Parquet", "write the file again"),
    "JSONL that is not": (HEADER + GOOD, ["data.format=jsonl"], "data.csv, row 1 (line 1): not valid JSON", "one object a line"),
    "JSON that is not": (b'{"text":', ["data.format=json"], "data.csv, line 1: not valid JSON", "JSONL"),
    "column number too high": (GOOD, ["data.header=false", "data.text=0", "data.label=2"], "no column `2`", "from 0 to 1"),
    "a folder": (None, ["data.train=empty"], "empty: has no sub-folders", "one sub-folder of .txt files per class"),
    "unknown ending": (None, ["data.train=test.dat"], "the ending .dat does not say what the file holds", "data.format"),
    "no pair column": (HEADER + GOOD, ["data.text_pair=other"], "no column `other` (`data.text_pair`)", "the columns are"),
    "too few rows": (HEADER + b"good,a\nbad,b\n", [], "leaves validation empty", "data.validation"),
    "no validation": (HEADER + GOOD, ["split.validation_fraction=0"], "leaves no validation examples", "data.validation"),
    "label name of no label": (HEADER + GOOD, ["data.label_names.postive=good"], "no row has the label `postive`, did you mean `positive`?", "negative"),
    "max_length": (HEADER + GOOD, ["model.max_length=400"], "`model.max_length` is 400, ", "--set model.max_length=32"),
    "unknown metric": (HEADER + GOOD, ["train.best_metric=acuracy"], "did you mean `accuracy`?", "the metrics are"),
    "weight of no label": (HEADER + GOOD, ["train.class_weight.postive=2.0"], "did you mean `positive`?", "the labels are"),
    "preset folder that is not there": (HEADER + GOOD, ["model.preset=./nowhere"], "nowhere: no such folder", "model.preset"),
    "preset without a config": (HEADER + GOOD, ["model.preset=."], "config.json is missing", "preset's folder"),
    "unknown preset": (HEADER + GOOD, ["model.preset=bert_base_enn"], "did you mean `bert_base_en`?", "model.preset"),
    "freeze too much": (HEADER + GOOD, ["model.freeze_layers=9"], "`model.freeze_layers` is 9, ", "at most 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(world, name):
    content, overrides, message, hint = BAD_DATA[name]
    if content is not None:
        Path("data.csv").write_bytes(content)
    Path("test.csv").write_bytes(HEADER + b"good film,positive\nbad film,postive\n")
    Path("test.dat").write_bytes(HEADER + GOOD)
    Path("empty").mkdir()
    before = {f: f.read_bytes() for f in world.iterdir() if f.is_file()}
    sets = [argument for o in ["data.train=data.csv", *overrides] for argument in ("--set", o)]
    printed = mistake(kft("train", "films.toml", "--run", "r", *sets))
    said, hinted = printed.split("\n\nhint: ")
    assert message in said
    assert hint in hinted
    # Finished work is untouched, and the same run folder works once the mistake is mended.
    assert {f: f.read_bytes() for f in world.iterdir() if f.is_file()} == before
    assert runs.create("r")


@pytest.mark.parametrize(
    ("files", "where", "message"),
    [
        ({"r/DONE": "", "r/config.toml": ""}, "r", "r: holds a finished run, which is never overwritten"),
        (
            {"r/checkpoints/step-000000001.safetensors": "", "r/config.toml": ""},
            "r",
            "r: holds an unfinished run",
        ),
        ({"r/letter.txt": "dear"}, "r", "r: is not empty and holds no run"),
        ({"r": "text"}, "r", "r: is a file, not a folder"),
        ({"file": "text"}, "file/r", "file/r: cannot be written: a folder in its path is a file"),
        ({}, "/proc/r", "/proc/r: cannot be written"),
    ],
)
def test_run_folders_that_cannot_be_used(world, files, where, message):
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    assert message in mistake(kft("train", "films.toml", "--run", where))
    assert {name: Path(name).read_text() for name in files} == files


@pytest.mark.parametrize("command", ["train", "data", "config"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.toml"], "none.toml: no such config file"),
        (["films.csv"], "films.csv: not valid TOML"),
        (["."], ".: is a folder, not a config file"),
        (["films.toml", "--set", "train.epoch=3"], "films.toml and --set: 1 to fix\n  `train.epoch` is not a setting, did you mean `epochs`?"),
        (["films.toml", "--set", "train.epochs"], "--set train.epochs: must look like train.epochs=2"),
        (["--set", "train.epochs=x"], "bbc_news and --set: 1 to fix"),
    ],
)  # fmt: skip
def test_bad_configs(world, command, arguments, message):
    assert message in mistake(kft(command, *arguments))
    assert not Path("runs").exists()


def change(file: str, **fields) -> None:
    Path(file).write_text(json.dumps(json.loads(Path(file).read_text()) | fields))


DAMAGES = {
    "not there": (lambda: shutil.rmtree("r"), "r: no such run folder"),
    "a file": (lambda: (shutil.rmtree("r"), Path("r").touch()), "r: is a file, not a run folder"),
    "no config": (lambda: Path("r/config.toml").unlink(), "r: holds no run (config.toml is missing)"),
    "no model": (lambda: Path("r/model.json").unlink(), "r: the run is not whole: missing model.json"),
    "no weights": (lambda: Path("r/model.weights.h5").unlink(), "r: the run is not whole: missing model.weights.h5"),
    "no labels, no vocabulary": (
        lambda: (Path("r/labels.json").unlink(), Path("r/tokenizer.json").unlink()), "missing labels.json, tokenizer.json"
    ),
    "not finished": (lambda: Path("r/DONE").unlink(), "r: training has not finished"),
    "truncated weights": (lambda: os.truncate("r/model.weights.h5", 40_000), "changed since training model.weights.h5"),
    "garbage weights": (lambda: Path("r/model.weights.h5").write_bytes(b"x" * 99), "changed since training model.weights.h5"),
    "truncated model": (lambda: os.truncate("r/model.json", 99), "r/model.json: is damaged: "),
    "garbage model": (lambda: Path("r/model.json").write_bytes(b"\xff\xfe"), "r/model.json: is damaged: 'utf-8'"),
    "model that is a list": (lambda: Path("r/model.json").write_text("[]"), "r/model.json: is damaged: must be a JSON object"),
    "edited model": (lambda: change("r/model.json", outputs=3), "damaged or changed since training model.json"),
    "newer format": (lambda: change("r/model.json", format=3), "run format 3, this kft reads formats up to 2"),
    "shortened labels": (lambda: change("r/labels.json", labels=["negative"]), "changed since training labels.json"),
    "labels without a name": (lambda: Path("r/labels.json").write_text("{}"), "changed since training labels.json"),
    "cut vocabulary": (lambda: os.truncate("r/tokenizer.json", 30), "changed since training tokenizer.json"),
    "config with a wrong key": (
        lambda: Path("r/config.toml").write_text(Path("r/config.toml").read_text().replace("epochs", "epoch")),
        "`train.epoch` is not a setting, did you mean `epochs`?",
    ),
    "config with another value": (
        lambda: Path("r/config.toml").write_text(Path("r/config.toml").read_text().replace("max_length = 16", "max_length = 9")),
        "damaged or changed since training config.toml",
    ),
    "truncated config": (lambda: os.truncate("r/config.toml", 20), "config.toml: not valid TOML"),
    "garbage config": (lambda: Path("r/config.toml").write_bytes(b"\xff"), "config.toml: not UTF-8 text"),
    "edited metrics": (lambda: Path("r/metrics.json").write_text("[3]"), "changed since training metrics.json"),
    "damaged seal": (lambda: Path("r/DONE").write_text("yes"), "r/DONE: is damaged"),
    "truncated split": (lambda: os.truncate("r/splits/test.parquet", 100), "changed since training splits/test.parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_runs_half_copied_or_edited(copied, name):
    damage, message = DAMAGES[name]
    damage()
    before = {f: f.read_bytes() for f in copied.rglob("*") if f.is_file()}
    for arguments in (["evaluate", "r"], ["predict", "r", "films.csv"], ["data", "films.toml", "--run", "r"]):
        if "config" in name and arguments[0] == "data":
            continue  # reads no setting of the run
        assert message in mistake(kft(*arguments))
    assert {f: f.read_bytes() for f in copied.rglob("*") if f.is_file()} == before


class TestDamagedRuns:
    def test_lost_splits_and_predictions(self, copied):
        shutil.rmtree("r/splits")
        assert kft("predict", "r", stdin="good\n").exit_code == 0
        assert "splits/test.parquet: is missing" in mistake(kft("evaluate", "r"))
        assert kft("evaluate", "r", "--data", "films.csv").exit_code == 0
        Path("r/predictions.test.parquet").unlink()
        assert "predictions.test.parquet: is missing" in mistake(kft("data", "films.toml", "--run", "r"))

    def test_resume_of_a_finished_run_that_is_damaged(self, copied):
        Path("r/details.json").write_text("[3]")
        assert "changed since training details.json" in mistake(kft("train", "--resume", "r"))

    def test_data_that_are_gone_or_changed(self, copied):
        text = Path("r/config.toml").read_text()
        Path("r/config.toml").write_text(text.replace(tomllib.loads(text)["data"]["train"], "/gone.csv"))
        assert "/gone.csv: no such file" in mistake(kft("evaluate", "r", "--split", "train"))
        assert kft("evaluate", "r").exit_code == 0

    def test_resume_with_other_data(self, copied):
        Path("r/DONE").unlink()
        text = Path("r/config.toml").read_text()
        Path("r/config.toml").write_text(
            text.replace(tomllib.loads(text)["data"]["train"], str(Path.cwd() / "films.csv"))
        )
        message = mistake(kft("train", "--resume", "r"))
        assert "data is not what this run was started with" in message


class TestConfigCommand:
    def test_it_prints_a_config_that_loads(self, world):
        result = kft("config", "films.toml", "--set", "train.epochs=9")
        assert result.exit_code == 0
        assert result.stderr == ""
        again = configs.parse(tomllib.loads(result.stdout))
        assert again == configs.load("films.toml", ["train.epochs=9"])
        assert again.data.train == str(world / "films.csv")

    def test_json(self, world):
        result = kft("config", "films.toml", "--json")
        assert json.loads(result.stdout)["train"]["epochs"] == 1

    def test_schema(self):
        lines = kft("config", "--schema").stdout.splitlines()
        assert [line.split()[0] for line in lines] == [row[0] for row in configs.settings_table()]
        assert "train.epochs" in json.dumps(lines)
        assert json.loads(kft("config", "--schema", "--json").stdout)["title"] == "Config"

    def test_without_a_config_it_is_bbc_news(self):
        assert 'source = "bbc_news"' in kft("config").stdout

    def test_built_in_configs(self):
        assert kft("configs").stdout.split() == list(configs.builtin())
        for name, file in configs.builtin().items():
            assert kft("configs", name).stdout == file.read_text("utf-8")
        assert "did you mean `bbc_news`?" in mistake(kft("configs", "bbc_new"))


class TestDataCommand:
    def test_text(self, world):
        write_csv(Path("films.csv"), [*ROWS, ROWS[0], ("", "positive"), ("good", "")])
        result = kft("data", "films.toml", "--set", "model.max_length=4")
        assert result.exit_code == 0
        assert result.stderr == ""
        for words in (
            "examples from films.csv",
            "dropped     2 of 43: 1 empty_text, 1 missing_label",
            "labels      negative ",
            "duplicates  1 exact",
            "% truncated",
            "leaks: no row of train stands in another split",
        ):
            assert words in result.stdout

    def test_json(self, world):
        result = kft("data", "films.toml", "--json")
        content = json.loads(result.stdout)
        assert sum(part["examples"] for part in content["splits"].values()) == 40
        assert content["splits"]["train"]["tokens"]["max"] > 3

    def test_label_errors_of_a_run(self, copied):
        content = json.loads(kft("data", "films.toml", "--run", "r", "--json").stdout)
        for row in content["label_errors"]:
            assert set(row) == {"split", "origin", "id", "text", "label", "suggested", "probability"}
            assert row["label"] != row["suggested"]
        assert "label errors: " in kft("data", "films.toml", "--run", "r").stdout


class TestEvaluateCommand:
    def test_json_is_one_object_and_alone(self, tiny_run):
        result = kft("evaluate", tiny_run, "--json")
        content = json.loads(result.stdout)
        assert result.stdout.count("\n") == 1
        assert list(content) == ["run", "split", "examples", "metrics"]
        assert (content["split"], content["examples"]) == ("test", 20)
        assert content["metrics"] == runs.read_json(tiny_run / "metrics.json")["test"]

    def test_other_splits_and_data(self, tiny_run, world):
        content = json.loads(kft("evaluate", tiny_run, "--split", "train", "--json").stdout)
        assert (content["split"], content["examples"]) == ("train", 160)
        content = json.loads(kft("evaluate", tiny_run, "--data", "films.csv", "--json").stdout)
        assert (content["split"], content["examples"]) == ("data", 40)

    def test_text(self, tiny_run):
        result = kft("evaluate", tiny_run, "--split", "validation")
        assert result.stdout.startswith("validation: 20 examples\n")
        for words in ("accuracy", "95 % interval", "confusion matrix", "negative"):
            assert words in result.stdout

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"text,label\ngood,positve\n", "data.csv, row 1: label must be one of negative, positive, got: positve, did you mean `positive`?"),
            (b"text,label\ngood,\n", "data.csv, row 1: the label is missing"),
            (b"text\ngood\n", "data.csv: no column `label`"),
            (b"", "data.csv: is empty"),
            (None, "data.csv: no such file"),
        ],
    )  # fmt: skip
    def test_bad_data(self, tiny_run, world, content, message):
        if content is not None:
            Path("data.csv").write_bytes(content)
        assert message in mistake(kft("evaluate", tiny_run, "--data", "data.csv"))


class TestTrainCommand:
    def test_resume_of_a_finished_run_reports_its_metrics(self, tiny_run):
        before = {f: f.stat().st_mtime_ns for f in tiny_run.rglob("*")}
        result = kft("train", "--resume", tiny_run, "--json")
        assert json.loads(result.stdout) == {
            "run": str(tiny_run),
            "metrics": runs.read_json(tiny_run / "metrics.json"),
        }
        assert result.stderr == f"{tiny_run}: the run is finished, nothing to do\n"
        assert {f: f.stat().st_mtime_ns for f in tiny_run.rglob("*")} == before

    def test_a_mistake_needs_neither_keras_nor_polars(self, world):
        code = (
            "import sys; from kft.cli import main\n"
            "try: main(['train', 'films.toml', '--set', 'train.epoch=1'])\n"
            "except SystemExit as end: assert end.code == 1\n"
            "heavy = {'keras', 'jax', 'tensorflow', 'torch', 'polars', 'numpy'} & set(sys.modules)\n"
            "assert not heavy, heavy\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


class TestStreams:
    @pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
    def test_a_reader_that_has_gone(self):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "kft.cli", "configs", "bbc_news"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_disk_behind_stdout(self):
        command = f"{sys.executable} -m kft.cli configs bbc_news > /dev/full"
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert done.returncode == 1
        assert (
            done.stderr
            == "Error: standard output: cannot be written: no space left on the disk\n\nhint: free some space\n"
        )


def test_every_mistake_has_a_hint():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "KftError":
                assert len(node.args) + len(node.keywords) > 1, f"{file}, line {node.lineno}: no hint"
