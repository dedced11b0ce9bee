"""One rule for missing values in every format: null, empty, and NaN where labels are numbers."""

import math
from types import SimpleNamespace

import polars as pl
import pytest

from kft import config as configs
from kft.data import sources, splits
from kft.errors import KftError
from kft.evaluate import inputs
from kft.tasks import TASKS
from kft.tasks.record import Learned


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_not_a_number_is_a_missing_score_in_every_format(tmp_path, ending):
    """What a column of floats has for a missing value is none where it is spelled, either."""
    values = [math.nan if i % 4 == 0 else i / 2 for i in range(40)]
    frame = pl.DataFrame({"text": [f"t{i}" for i in range(40)], "score": values})
    file = tmp_path / f"scores.{ending}"
    frame.write_csv(file) if ending == "csv" else frame.write_parquet(file)
    assert ending == "parquet" or "t0,NaN" in file.read_text()
    config = configs.parse({"task": "regression", "data": {"train": str(file), "label": "score"}})
    prepared = splits.prepare(sources.read(config.data), config.split, config.clean, config.task)
    assert prepared.account["splits"]["train"]["dropped"] == {"missing_label": 10}
    loaded = SimpleNamespace(config=config, labels=[], task=TASKS["regression"])
    rows = inputs.rows_of_file(loaded, file)
    assert rows["label"].null_count() == 10
    with pytest.raises(KftError, match="scores.*row 1: the label is missing .10 such rows."):
        loaded.task.check(rows, Learned())
    assert len(inputs.rows_of_file(loaded, file, skip_unlabelled=True)) == 30


@pytest.mark.parametrize("known", [["0", "1"], ["nan", "yes"]])
def test_in_a_file_to_score_as_in_training(tmp_path, known):
    """Among classes that are numbers NaN is a missing one; beside words it is a word."""
    file = tmp_path / "new.csv"
    file.write_text(f"text,label\na,{known[1]}\nb,nan\nc,\n")
    config = configs.parse({"data": {"train": str(file)}})
    loaded = SimpleNamespace(config=config, labels=known, task=TASKS["classification"])
    assert inputs.rows_of_file(loaded, file)["label"].null_count() == 1 + ("0" in known)


def test_texts(tmp_path):
    """A text column of floats has missing texts where it is NaN; the word is a text."""
    frame = pl.DataFrame({"text": [math.nan, 2.5], "label": ["x", "y"]})
    frame.write_parquet(tmp_path / "a.parquet")
    assert sources.read_file(tmp_path / "a.parquet", configs.DataConfig())["text"].to_list() == [None, "2.5"]
    (tmp_path / "a.csv").write_text("text,label\nnan,x\n")
    assert sources.read_file(tmp_path / "a.csv", configs.DataConfig())["text"].to_list() == ["nan"]


@pytest.mark.parametrize("cell", ["1", "1.0", "true", "True"])
def test_marks_of_labels_as_pandas_writes_them(tmp_path, cell):
    """A column of 0 and 1 with one missing value is a column of floats."""
    no = {"1": "0", "1.0": "0.0", "true": "false", "True": "False"}[cell]
    (tmp_path / "a.csv").write_text(f"text,joy,anger\na,{cell},{no}\nb,nan,{cell}\nc,,{no}\n")
    data = configs.DataConfig(labels=["joy", "anger"])
    assert sources.read_file(tmp_path / "a.csv", data)["label"].to_list() == ['["joy"]', None, None]
