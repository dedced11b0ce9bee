"""Excel workbooks as data: the types of cells, sheets, headers, and what is amiss."""

import datetime
import importlib.util
import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import sentences

from kft import config as configs
from kft import evaluate, guess, train
from kft.cli import main
from kft.config import DataConfig
from kft.data import sources
from kft.errors import KftError

openpyxl = pytest.importorskip("openpyxl", reason="the extra `excel` is not installed")


def write(path: Path, sheets: dict[str, list[tuple]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def column(file: Path, name: str | int, **settings) -> list[str | None]:
    return sources.read_file(file, DataConfig(label=name, **settings))["label"].to_list()


def test_cells_by_their_types(tmp_path):
    """Whole numbers without a point, days without a time, TRUE as true, errors missing.

    Of other numbers all digits count; empty cells are missing, blank rows are none.
    """
    rows = [
        ("text", "number", "when", "flag", "code"),
        ("good", 3.0, datetime.date(2024, 3, 1), True, "007"),
        (),
        ("bad", 0.123456789012345, datetime.datetime(2024, 3, 1, 12, 30), False, " a "),
        ("dull", None, datetime.time(3, 4), None, "#N/A"),
        ("great", 12345678901234, None, None, ""),
        (2024, -1e-12, None, None, "nan"),
    ]
    file = write(tmp_path / "d.xlsx", {"Sheet": rows})
    assert column(file, "number") == ["3", "0.123456789012345", None, "12345678901234", "-1e-12"]
    assert column(file, "when") == ["2024-03-01", "2024-03-01T12:30:00", "03:04:00", None, None]
    assert column(file, "flag") == ["true", "false", None, None, None]
    assert column(file, "code") == ["007", "a", None, None, "nan"]
    assert sources.read_file(file, DataConfig(label="code"))["text"].to_list() == [
        "good",
        "bad",
        "dull",
        "great",
        "2024",
    ]


def test_sheets_headers_and_letters(tmp_path):
    sheets = {
        "Reviews": [("text", "label"), ("good", 1), ("bad", 0, None, "a note beside it")],
        "Old ones": [("fine", "x"), ("dull", "y")],
        "Nothing": [],
    }
    file = write(tmp_path / "d.xlsx", sheets)
    assert column(file, "label") == ["1", "0"]
    assert column(file, "D") == [None, "a note beside it"]  # a column without a name
    assert column(file, 1, text=0, header=False, sheet="Old ones") == ["x", "y"]
    assert column(file, "label", max_examples=1) == ["1"]
    for settings, message, hint in (
        (
            {"sheet": "Old one"},
            "no sheet `Old one` (`data.sheet`), did you mean `Old ones`?",
            "`Reviews`, `Old",
        ),
        ({"sheet": "Nothing"}, "the sheet `Nothing` is empty", "`Reviews`"),
        ({"text": "txt"}, "no column `txt` (`data.text`), did you mean `text`?", "`text`, `label`, `C`, `D`"),
    ):
        with pytest.raises(KftError) as caught:
            sources.read_file(file, DataConfig(**settings))
        assert caught.value.message == f"d.xlsx: {message}"
        assert hint in caught.value.hint


def test_what_is_no_workbook(tmp_path, monkeypatch):
    (tmp_path / "d.xlsx").write_text("text,label\n")
    with pytest.raises(KftError, match="d.xlsx: cannot be read as an Excel workbook: File is not a zip file"):
        sources.read_file(tmp_path / "d.xlsx", DataConfig())
    file = write(tmp_path / "d.csv.xlsx", {"a": [("text", "label"), ("good", 1)]})
    file.rename(tmp_path / "d.csv")
    with pytest.raises(KftError) as caught:
        sources.read_file(tmp_path / "d.csv", DataConfig())
    assert "is an Excel workbook, not text" in caught.value.message
    assert sources.read_file(tmp_path / "d.csv", DataConfig(format="excel"))["text"].to_list() == ["good"]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openpyxl" else find(name))
    with pytest.raises(KftError) as caught:
        sources.read_file(tmp_path / "d.csv", DataConfig(format="excel"))
    assert caught.value.hint == "pip install 'kft[excel]'"


def test_init_train_predict_and_evaluate(tiny_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [("review", "stars"), *sentences(60)]
    file = write(tmp_path / "films.xlsx", {"2024": rows, "Notes": [("made by hand",)]})
    result = guess.init(str(file))
    written = tomllib.loads(Path(result["config"]).read_text())
    assert written["data"] == {"train": "films.xlsx", "sheet": "2024", "text": "review", "label": "stars"}
    own = {key: value for key, value in tiny_settings.items() if key != "data"}
    train.train(configs.parse(own | {"data": written["data"] | {"train": str(file)}}), tmp_path / "run")
    known = evaluate.evaluate(tmp_path / "run", data=file)
    assert known["examples"] == 60
    answers = CliRunner().invoke(main, ["predict", str(tmp_path / "run"), str(file)])
    lines = list(map(json.loads, answers.stdout.splitlines()))
    assert [line["text"] for line in lines] == [text for text, _ in rows[1:]]
    right = sum(line["label"] == label for line, (_, label) in zip(lines, rows[1:], strict=True))
    assert right / 60 == pytest.approx(known["metrics"]["accuracy"])
