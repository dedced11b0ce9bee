"""`kft init`: what it takes from files of many shapes, and that what it writes trains."""

import csv
import io
import json
import tomllib

import polars as pl
import pytest
from click.testing import CliRunner
from conftest import assert_not_imported, sentences

from kft import config as configs
from kft import guess, train
from kft.cli import main
from kft.errors import KftError

ROWS = sentences(60, seed=4)


def table(rows, header=None, delimiter=",") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([*([header] if header else []), *rows])
    return text.getvalue()


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


PAIRS = [(a, b, i % 2) for i, ((a, _), (b, _)) in enumerate(zip(ROWS, ROWS[1:], strict=False))]
FIELDS = [{"id": f"x{i}", "text": text, "label": label} for i, (text, label) in enumerate(ROWS)]
FILES = {
    "header": ("d.csv", table(ROWS, ("review", "sentiment")), {"text": "review", "label": "sentiment"}),
    "no header": ("d.csv", table(ROWS), {"header": False, "text": 0, "label": 1}),
    "label first": ("d.tsv", table([(b, a) for a, b in ROWS], delimiter="\t"), {"header": False, "text": 1, "label": 0}),
    "semicolons": ("d.txt", table(ROWS, ("text", "label"), ";"), {"format": "csv", "delimiter": ";"}),
    "numbers of rows": (
        "d.csv",
        table([(i, text, label) for i, (text, label) in enumerate(ROWS)], ("", "text", "label")),
        {"text": "text", "label": "label"},
    ),
    "pairs by name": (
        "d.csv",
        table(PAIRS, ("sentence1", "sentence2", "gold_label")),
        {"text": "sentence1", "text_pair": "sentence2", "label": "gold_label"},
    ),
    "JSON of pandas' columns": (
        "d.json",
        json.dumps({key: [row[key] for row in FIELDS] for key in FIELDS[0]}),
        {"text": "text", "label": "label"},
    ),
    "JSON lines": ("d.jsonl", lines(FIELDS), {"text": "text", "label": "label"}),
    "label twice": (
        "d.jsonl",
        lines([row | {"label": len(row["label"]) % 2, "label_text": row["label"]} for row in FIELDS]),
        {"text": "text", "label": "label_text"},
    ),
    "marked words": (
        "d.jsonl",
        lines([{"sentence1": a, "sentence2": b, "start1": 0, "end1": 2, "start2": 1, "end2": 3, "label": y} for a, b, y in PAIRS]),
        {"spans": [["text", "start1", "end1"], ["text_pair", "start2", "end2"]]},
    ),
    "windows": ("d.csv", table([(f"{a} é", b) for a, b in ROWS], ("text", "label")).encode("cp1252"), {"encoding": "cp1252"}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, content) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("name", FILES)
def test_columns(tmp_path, name):
    file, content, expected = FILES[name]
    result = guess.init(write(tmp_path / file, content))
    data = configs.load(result["config"]).data.model_dump()
    assert {key: data[key] for key in expected} == expected
    assert result["warnings"] == []


def test_values_decide_between_scores_and_classes(tmp_path):
    texts = [text for text, _ in ROWS]
    for values, task, unsure in (
        ([i / 7 for i in range(60)], "regression", False),
        (list(range(60)), "regression", True),
        ([i % 5 + 1 for i in range(60)], "classification", True),
        ([i % 2 for i in range(60)], "classification", False),
        (["yes", "no", "maybe"] * 20, "classification", False),
    ):
        rows = list(zip(texts, values, strict=True))
        path = write(tmp_path / "d.csv", table(rows, ("text", "score")))
        result = guess.init(path, output=f"{task}-{values[1]}.toml")
        decision = result["settings"][0]
        assert (decision["setting"], decision["value"], bool(decision["others"])) == ("task", task, unsure)


def test_numbers_with_a_decimal_comma(tmp_path):
    rows = [(text, f"{i % 9},{i % 2 * 5}" if i else "1.234,5") for i, (text, _) in enumerate(ROWS)]
    lines = [f'"{text}";{i % 12 + 1:02}.05.2024;{stars}' for i, (text, stars) in enumerate(rows)]
    path = write(tmp_path / "d.csv", "\n".join(["text;day;stars", *lines]))
    result = guess.init(path, output=str(tmp_path / "d.toml"))
    settings = {d["setting"]: d["value"] for d in result["settings"]}
    assert (settings["task"], settings["data.decimal"], settings["data.delimiter"]) == (
        "regression",
        ",",
        ";",
    )
    # Lists of numbers, and no numbers.
    lines = [f'"{text}";{("1,2", "2", "1", "2,3", "3")[i % 5]}' for i, (text, _) in enumerate(ROWS)]
    path = write(tmp_path / "e.csv", "\n".join(["text;tags", *lines]))
    result = guess.init(path, output=str(tmp_path / "e.toml"))
    assert result["settings"][0]["value"] == "multilabel_classification"


def test_the_users_task_counts(tmp_path):
    rows = [(text, i % 5) for i, (text, _) in enumerate(ROWS)]
    path = write(tmp_path / "d.csv", table(rows, ("text", "stars")))
    guess.init(path, task="regression")
    assert configs.load("d.toml").task == "regression"
    with pytest.raises(KftError, match="regresion"):
        guess.init(path, task="regresion", output="e.toml")


def test_questions_with_choices(tmp_path):
    rows = [
        {
            "qid": i // 4,
            "question": f"what is {i // 4} then",
            "choice": f"it is {i}",
            "label": int(i % 4 == 1),
        }
        for i in range(80)
    ]
    guess.init(write(tmp_path / "d.jsonl", lines(rows)))
    settings = configs.load("d.toml")
    data = settings.data
    assert settings.task == "choice"
    assert (data.text, data.text_pair, data.label, data.group) == ("question", "choice", "label", "qid")


def test_files_of_other_splits(tmp_path):
    for name in ("train", "dev", "test"):
        write(tmp_path / "films" / f"{name}.csv", table(ROWS, ("text", "label")))
    result = guess.init("films")
    assert result["config"] == "films.toml"
    written = tomllib.loads((tmp_path / "films.toml").read_text())["data"]
    assert {key: written.get(key) for key in ("train", "validation", "test")} == {
        "train": "films/train.csv", "validation": "films/dev.csv", "test": "films/test.csv",
    }  # fmt: skip


def test_a_file_that_is_not_like_train_is_left_out(tmp_path):
    write(tmp_path / "train.csv", table(ROWS, ("text", "label")))
    write(tmp_path / "dev.csv", table(ROWS, ("content", "answer")))
    result = guess.init("train.csv", output="d.toml")
    assert configs.load("d.toml").data.validation is None
    assert result["warnings"] == ["data.validation is left out: dev.csv: no column `text` (`data.text`) …"]


def test_class_folders(tmp_path):
    for split in ("train", "test"):
        for i, (text, label) in enumerate(ROWS):
            write(tmp_path / "films" / split / label / f"{i}.txt", text)
    guess.init("films", output="both.toml")
    assert configs.load("both.toml").data.test == str(tmp_path / "films" / "test")
    guess.init("films/test", output="one.toml")
    assert configs.load("one.toml").data.train == str(tmp_path / "films" / "test")


def test_parquet_and_a_second_text_that_is_unsure(tmp_path):
    frame = pl.DataFrame(FIELDS).with_columns(title=pl.col("text").str.head(9) + " …")
    frame.write_parquet(tmp_path / "d.parquet")
    result = guess.init("d.parquet")
    text = next(d for d in result["settings"] if d["setting"] == "data.text")
    assert text["value"] == "text"
    assert ("data.text_pair", "title") in {(other["setting"], other["value"]) for other in text["others"]}
    assert '# text_pair = "title"' in (tmp_path / "d.toml").read_text().splitlines()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\nfine film\nbad film\n", "has one column"),
        ("id,when\nx1,3\nx2,4\n", "no column looks like a text: `id` .2 different words., `when`"),
        ("text,more\n" + "".join(f"film {i},word {i}\n" for i in range(50)), "no column looks like a label"),
        ("", "d.csv: is empty"),
    ],
)
def test_mistakes(tmp_path, content, message):
    with pytest.raises(KftError, match=message):
        guess.init(write(tmp_path / "d.csv", content))
    assert not (tmp_path / "d.toml").exists()


def test_nothing_is_overwritten(tmp_path):
    path = write(tmp_path / "d.csv", table(ROWS, ("text", "label")))
    write(tmp_path / "d.toml", "kept")
    with pytest.raises(KftError, match="d.toml: exists"):
        guess.init(path)
    assert (tmp_path / "d.toml").read_text() == "kept"


def test_what_it_writes_trains(tmp_path, tiny_preset):
    write(tmp_path / "films.csv", table(ROWS, ("text", "label")))
    result = CliRunner().invoke(main, ["init", "films.csv"])
    assert result.exit_code == 0, result.output
    assert "kft train films.toml" in result.output
    overrides = [f"model.preset='{tiny_preset}'", "model.max_length=16", "train.epochs=1"]
    scores = train.train(configs.load("films.toml", overrides), tmp_path / "run")
    assert set(scores["metrics"]) == {"validation", "test"}


def test_it_needs_no_keras(tmp_path):
    path = write(tmp_path / "d.csv", table(ROWS, ("text", "label")))
    code = f"from click.testing import CliRunner; from kft.cli import main\nresult = CliRunner().invoke(main, ['init', {path!r}])\nassert result.exit_code == 0, result.output"
    assert_not_imported(code, "tensorflow", "torch", "keras_hub", "tensorflow_datasets")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"tags": ["a", "b"][: i % 3]} for i in range(60)], {"label": "tags"}),
        (
            [{"label": ["a", "b", "a,b", "c", "b,c"][i % 5]} for i in range(60)],
            {"label": "label", "label_separator": ","},
        ),
        (
            [{"rude": i % 2, "odd": i % 3 % 2, "long": i % 5 % 2} for i in range(60)],
            {"labels": ["rude", "odd", "long"]},
        ),
    ],
)
def test_rows_with_several_labels(tmp_path, rows, expected):
    rows = [{"text": text, **row} for (text, _), row in zip(ROWS, rows, strict=True)]
    result = guess.init(write(tmp_path / "d.jsonl", lines(rows)))
    settings = configs.load("d.toml")
    data = settings.data.model_dump()
    assert settings.task == "multilabel_classification"
    assert {key: data[key] for key in expected} == expected
    assert result["warnings"] == []
