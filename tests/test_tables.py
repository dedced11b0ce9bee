"""Answers as CSV, TSV and Parquet, with the columns of the input."""

import io
from pathlib import Path

import polars as pl
import pytest
from test_cli import kft

from kft.data.sources import OWN
from kft.evaluate import tables

TABLE = pl.DataFrame(
    {"id": [7, 8], "text": ["good film", 'bad, "bad" film'], "score": [0.5, None], "tags": [["a"], []]}
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    TABLE.drop("tags").write_csv("in.csv")
    TABLE.write_parquet("in.parquet")
    TABLE.write_ndjson("in.jsonl")
    return tmp_path


def answers(*arguments) -> None:
    result = kft("predict", *arguments)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr


class TestCommand:
    @pytest.mark.parametrize("name", ["in.csv", "in.parquet", "in.jsonl"])
    @pytest.mark.parametrize("output", ["out.csv", "out.tsv", "out.parquet"])
    def test_own_columns_come_first(self, tiny_run, folder, name, output):
        answers(tiny_run, name, "--output", output)
        read = pl.read_parquet if output == "out.parquet" else pl.read_csv
        table = read(output, **({"separator": "\t"} if output == "out.tsv" else {}))
        own = ["id", "text", "score", *(["tags"] if name != "in.csv" else [])]
        assert table.columns == [*own, "predicted_label", "probability_negative", "probability_positive"]
        assert table["text"].to_list() == TABLE["text"].to_list()
        assert set(table["predicted_label"]) <= {"negative", "positive"}
        if (name, output) == ("in.parquet", "out.parquet"):
            assert table.select(TABLE.columns).equals(TABLE)

    def test_lines_of_text_on_standard_output(self, tiny_run, folder):
        result = kft("predict", tiny_run, "--format", "csv", stdin="good film\nbad film\n")
        table = pl.read_csv(io.StringIO(result.stdout))
        assert table.columns[:2] == ["text", "predicted_label"]
        assert table["text"].to_list() == ["good film", "bad film"]

    def test_parquet_needs_a_file(self, tiny_run, folder):
        result = kft("predict", tiny_run, "in.csv", "--format", "parquet")
        assert result.exit_code == 2
        assert "--format parquet goes with --output" in result.stderr


def test_parts_have_one_header_and_the_columns_of_the_first():
    parts = [
        (pl.DataFrame({"text": ["a"], f"{OWN}x": ["1"]}), [{"label": "p", "spans": [1, 2]}]),
        (pl.DataFrame({"text": ["b"], f"{OWN}x": ["2"], f"{OWN}late": ["3"]}), [{"label": "q", "spans": []}]),
    ]
    stream = io.StringIO()
    assert tables.write_text(parts, stream, "csv") == 2
    assert stream.getvalue() == 'x,predicted_label,predicted_spans\n1,p,"[1, 2]"\n2,q,[]\n'
