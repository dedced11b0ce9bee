"""Mistakes in files and what is said about them: the hint must be about that mistake."""

import bz2
import io
import lzma
import zipfile

import pyarrow as pa
import pytest
from pyarrow import parquet

from kft import config as configs
from kft.config import DataConfig
from kft.data import sources, splits
from kft.errors import KftError


def zipped(*names: str) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name in names:
            archive.writestr(name, "text,label")
    return result.getvalue()


# name: (content, settings, what the message says, what the hint says)
FILES = {
    "book.xlsx": (zipped("[Content_Types].xml", "xl/workbook.xml"), {}, "cannot be read as an Excel workbook", "as CSV UTF-8"),
    "book.csv": (zipped("[Content_Types].xml", "xl/workbook.xml"), {}, "is an Excel workbook", "ending .xlsx"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, "is an old Excel workbook", "save it as CSV"),
    "zip.csv": (zipped("a.csv"), {}, "is a zip archive", "unpack it"),
    "bz2.csv": (bz2.compress(b"text,label"), {}, "is compressed with bzip2", "bunzip2 bz2.csv"),
    "bz2.txt": (bz2.compress(b"text,label"), {"format": "csv"}, "is compressed with bzip2", "ending .bz2"),
    "xz.csv": (lzma.compress(b"text,label"), {"format": "csv"}, "is compressed with xz", "unxz"),
    "zst.jsonl": (b"\x28\xb5\x2f\xfd\x04", {"format": "jsonl"}, "is compressed with Zstandard", "unzstd"),
    "page.csv": (b"<!DOCTYPE html>\n<html>", {}, "is a web page", "download the file itself"),
    "lfs.csv": (b"version https://git-lfs.github.com/spec/v1\noid", {}, "pointer of Git LFS", "git lfs pull"),
    "nul.csv": (b"text,label\na,x\nb\0c,y\n", {}, "nul.csv, row 2 (line 3): holds a NUL character", "tr -d"),
    "far.csv": (b"text,label\n" + b"a,x\n" * 5000 + b"b\0c,y\n", {}, "far.csv, row 5001 (line 5002): holds a NUL", "tr -d"),
    "far.tsv": (b"text\tlabel\n" + b"a\tx\n" * 5000 + b"b\0c\ty\n", {}, "row 5001 (line 5002): holds a NUL", "tr -d"),
    "wide.csv": ("text,label\na,x\n".encode("utf-16-le"), {}, "is a binary file (it holds NUL bytes)", "utf-16"),
    "comma.jsonl": (b'{"text": "a", "label": "x"},\n', {}, "row 1 (line 1): not valid JSON", "the line ends with a comma"),
    "two.jsonl": (b'{"text": "a"} {"text": "b"}\n', {}, "row 1 (line 1): not valid JSON", "several objects"),
    "array.jsonl": (b'[\n{"text": "a"}\n]', {}, "row 1 (line 1): not valid JSON", 'data.format = "json"'),
    "quotes.jsonl": (b"{'text': 'a'}\n", {}, "row 1 (line 1): not valid JSON", "JSON has double quotes"),
    "quotes.json": (b"[{'text': 'a'}]", {}, "line 1: not valid JSON", "JSON has double quotes"),
    "pretty.json": (
        b'{\n "text": "a",\n "label": "x"\n}\n{\n "text": "b",\n "label": "y"\n}\n',
        {},
        "holds 2 JSON objects one after the other",
        "put brackets around",
    ),
    "twin.csv": (b"text,label,label\na,x,y\n", {}, "twin.csv: ", "rename or remove one"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name):
    content, settings, message, hint = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KftError) as caught:
        sources.read(DataConfig(train=str(tmp_path / name), **settings))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_columns_whose_names_are_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("0,1\na,x\n")
    config = configs.parse({"data": {"train": str(tmp_path / "a.csv"), "text": 0, "label": 1}})
    frame = sources.read(config.data)["train"]
    assert frame.select("text", "label").rows() == [("a", "x")]


class TestParquet:
    def test_two_columns_of_one_name(self, tmp_path):
        columns = [pa.array(["a"]), pa.array(["x"]), pa.array(["y"])]
        parquet.write_table(
            pa.Table.from_arrays(columns, names=["text", "label", "label"]), tmp_path / "a.parquet"
        )
        with pytest.raises(KftError, match="has 2 columns `label`.*\n\nhint: rename or remove one"):
            sources.read_file(tmp_path / "a.parquet", DataConfig())

    @pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.string(), pa.large_string()])
    def test_text_that_is_not_utf_8(self, tmp_path, kind):
        def text(*values: bytes) -> pa.Array:
            raw = pa.binary() if kind in (pa.binary(), pa.string()) else pa.large_binary()
            array = pa.array(list(values), raw)
            return pa.Array.from_buffers(kind, len(array), array.buffers())

        file = tmp_path / "a.parquet"
        parquet.write_table(pa.table({"text": text(b"good", b"caf\xe9"), "label": ["x", "y"]}), file)
        with pytest.raises(KftError, match=r"a.parquet, row 2: `text` is not UTF-8 text \(byte 0xe9\)"):
            sources.read_file(file, DataConfig())
        parquet.write_table(pa.table({"text": text(b"good", "café".encode()), "label": ["x", "y"]}), file)
        assert sources.read_file(file, DataConfig())["text"].to_list() == ["good", "café"]


def test_scores_with_a_decimal_comma(tmp_path):
    (tmp_path / "a.csv").write_text("text;label\n" + "".join(f"film {i};{i},5\n" for i in range(20)))
    config = configs.parse(
        {"task": "regression", "data": {"train": str(tmp_path / "a.csv"), "delimiter": ";"}}
    )
    with pytest.raises(KftError) as caught:
        splits.prepare(sources.read(config.data), config.split, config.clean, config.task, None)
    assert "decimal comma" in caught.value.hint
    assert "header" not in caught.value.hint
