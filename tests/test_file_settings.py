"""Settings of the file that a finished run reads, its encoding, and its labels."""

import json
from pathlib import Path

import pytest
from conftest import sentences, write_csv
from test_cli import kft, mistake

from kft import config as configs
from kft import evaluate, train
from kft.errors import KftError

ROWS = sentences(60)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def latin(tiny_settings, tmp_path_factory) -> Path:
    """A run on a file of its own layout: columns `review` and `stars`, semicolons, Latin-1."""
    file = tmp_path_factory.mktemp("latin") / "train.csv"
    lines = [f"café {text};{label}" for text, label in ROWS]
    file.write_text("\n".join(["review;stars", *lines]), "latin-1")
    data = {"train": str(file), "encoding": "latin-1", "delimiter": ";", "text": "review", "label": "stars"}
    settings = tiny_settings | {"data": data, "train": tiny_settings["train"] | {"epochs": 1}}
    train.train(configs.parse(settings), file.with_name("run"))
    return file.with_name("run")


@pytest.fixture(scope="module")
def numbered(tiny_settings, tmp_path_factory) -> Path:
    """A run on a file without a header."""
    file = tmp_path_factory.mktemp("numbered") / "train.csv"
    file.write_text("\n".join(f"{label},{text}" for text, label in ROWS))
    data = {"train": str(file), "header": False, "text": 1, "label": 0}
    settings = tiny_settings | {"data": data, "train": tiny_settings["train"] | {"epochs": 1}}
    train.train(configs.parse(settings), file.with_name("run"))
    return file.with_name("run")


def texts(*arguments, stdin=None) -> list[str]:
    result = kft("predict", *arguments, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line)["text"] for line in result.stdout.splitlines()]


def test_json_is_utf_8_whatever_the_training_file_was(latin, folder):
    Path("a.jsonl").write_text('{"review": "café good", "stars": "positive"}\n', "utf-8")
    Path("a.json").write_text('[{"review": "café good", "stars": "positive"}]', "utf-8")
    Path("b.json").write_text('[{"review": "café good", "stars": "positive"}]', "utf-16")
    for name in ("a.jsonl", "a.json", "b.json"):
        assert texts(latin, name) == ["café good"]
    Path("bad.jsonl").write_text('{"review": "café"}\n', "latin-1")
    assert "JSON is UTF-8 whatever `data.encoding` says" in mistake(kft("predict", latin, "bad.jsonl"))


def test_utf_8_in_place_of_a_one_byte_encoding_is_reported(latin, folder):
    Path("a.csv").write_text("review;stars\ncafé good;positive\n", "utf-8")
    assert "a.csv: is UTF-8 text, and is read as latin-1" in kft("predict", latin, "a.csv").stderr
    result = kft("predict", latin, "a.csv", "--set", "data.encoding=utf-8")
    assert (json.loads(result.stdout)["text"], result.stderr) == ("café good", "")
    for content, encoding in (("café", "latin-1"), ("cafe", "utf-8")):
        Path("a.csv").write_text(f"review;stars\n{content};positive\n", encoding)
        assert kft("predict", latin, "a.csv").stderr == ""


def test_a_file_of_another_layout(latin, folder):
    Path("a.csv").write_text("text,label\ngood film,positive\n")
    settings = []
    for setting in ("data.delimiter=,", "data.text=text", "data.label=label"):
        content = mistake(kft("evaluate", latin, "--data", "a.csv", *settings))
        assert "go with --set" in content
        settings += ["--set", setting]
    content = json.loads(kft("evaluate", latin, "--data", "a.csv", "--json", *settings).stdout)
    assert content["examples"] == 1
    assert texts(latin, "a.csv", *settings) == ["good film"]
    other = train_copy(latin, folder)
    content = json.loads(kft("compare", latin, other, "--data", "a.csv", "--json", *settings).stdout)
    assert content


def train_copy(run: Path, folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(run, folder / "other"))


def test_a_run_without_a_header_reads_named_columns(numbered, folder):
    Path("a.jsonl").write_text('{"text": "good film", "label": "positive"}\n')
    assert "no column `1` (`data.text`)" in mistake(kft("predict", numbered, "a.jsonl"))
    assert texts(numbered, "a.jsonl", "--set", "data.text=text") == ["good film"]
    settings = ("--set", "data.text=text", "--set", "data.label=label")
    assert kft("evaluate", numbered, "--data", "a.jsonl", *settings).exit_code == 0


def test_standard_input(latin, folder):
    assert texts(latin, "--set", "data.format=csv", stdin="review;stars\ngood;x\n") == ["good"]
    assert texts(latin, "--set", "data.encoding=latin-1", stdin="café\n".encode("latin-1")) == ["café"]
    message = mistake(kft("predict", latin, "--set", "data.text=text", stdin="good\n"))
    assert "`data.text` is set, and standard input holds one text a line" in message


def test_settings_that_are_not_of_a_file(latin, folder):
    wrong = ["data.delimter=,", "train.epochs=2", "data.header=5", "data.text_pair=b"]
    message = mistake(kft("predict", latin, "a.csv", *(a for w in wrong for a in ("--set", w))))
    for words in (
        "--set: 4 to fix",
        "`train` is not about the file that is read",
        "`data.delimter` is not a setting of one file, did you mean `delimiter`?",
        "`data.header` must be true or false, got: 5",
        "`data.text_pair` is set, and the run does not read such a column",
    ):
        assert words in message
    for option in (("--set", "data.text=a"), ("--skip-unlabelled",)):
        result = kft("evaluate", latin, *option)
        assert result.exit_code == 2
        assert "is about the file of --data" in result.stderr


def test_the_splits_of_a_training_may_have_other_formats(tiny_settings, folder):
    lines = [f"{text};{label}" for text, label in ROWS]
    Path("train.csv").write_text("\n".join(["text;label", *lines]))
    Path("dev.jsonl").write_text('{"text": "a film", "label": "positive"}\n')
    write_csv(Path("test.tsv"), [])
    Path("test.tsv").write_text("text\tlabel\nthe plot\tnegative\n")
    from kft.data import sources

    data = {
        "train": "train.csv",
        "validation": "dev.jsonl",
        "test": "test.tsv",
        "delimiter": ";",
        "format": "csv",
    }
    frames = sources.read(configs.parse(tiny_settings | {"data": data}).data)
    assert [frame["text"][0] for frame in frames.values()] == [ROWS[0][0], "a film", "the plot"]


class TestLabels:
    def test_all_mistakes_at_once_and_before_the_model_is_asked(self, tiny_run, folder, monkeypatch):
        write_csv(Path("a.csv"), [("good", ""), ("bad", "neutral"), ("bad", "mixed"), ("a", "neutral")])

        def never(*_, **__):
            raise AssertionError("the model was asked")

        monkeypatch.setattr(evaluate, "_predictions", never)
        for work in (evaluate.evaluate, evaluate.answer_file):
            with pytest.raises(KftError) as caught:
                work(tiny_run, data="a.csv")
            assert caught.value.message.splitlines() == [
                "a.csv: 4 rows cannot be scored: 1 missing, neutral 2, mixed 1",
                "a.csv, row 1: the label is missing",
                "a.csv, row 2: label must be one of negative, positive, got: neutral (2 such rows)",
                "a.csv, row 3: label must be one of negative, positive, got: mixed",
            ]
            assert "--skip-unlabelled" in caught.value.hint

    def test_rows_without_a_label_may_be_left_out(self, tiny_run, folder):
        write_csv(Path("a.csv"), [("good", ""), ("bad", "negative"), ("a", "  ")])
        result = kft("evaluate", tiny_run, "--data", "a.csv", "--skip-unlabelled", "--json")
        assert json.loads(result.stdout)["examples"] == 1
        assert result.stderr == "a.csv: 2 rows without a label left out, 1 are scored\n"
