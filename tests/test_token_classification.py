"""Tagged words from files to a run: readers of odd files, reads, windows, answers."""

import json
import shutil
import tomllib
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner
from conftest import BAD, GOOD, OTHER
from pyarrow import parquet
from seqeval import metrics as seqeval

from kft import config, evaluate, train
from kft.cli import main
from kft.data import sources
from kft.errors import KftError
from kft.models import presets
from kft.tasks import TASKS, words
from kft.tasks.record import Inputs
from kft.tasks.token_classification.reads import first_tokens
from kft.text import BERT, encode, encode_frame

TASK = "token_classification"


def sentences(count: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """(words, tags) that a tiny model can learn: praise and blame of one word."""
    tags = {**dict.fromkeys(GOOD, "B-GOOD"), **dict.fromkeys(BAD, "B-BAD"), **dict.fromkeys(OTHER, "O")}
    rng = np.random.default_rng(seed)
    rows = [rng.choice([*tags, *OTHER], rng.integers(3, 9)).tolist() for _ in range(count)]
    return [(row, [tags[word] for word in row]) for row in rows]


def conll(rows, line: str = "{}\t{}", end: str = "\n") -> str:
    return end.join(end.join(map(line.format, *row)) + end for row in rows)


def data_of(path, **settings):
    return config.parse({"task": TASK, "data": {"train": str(path), **settings}}).data


def read(path, **settings) -> pl.DataFrame:
    return sources.read(data_of(path, **settings))["train"]


def tagged(frame: pl.DataFrame) -> list[tuple[list[str], list[str] | None]]:
    """(words, tags) of the rows of a frame."""
    return [
        (
            [row["text"][a:b] for a, b in words.spans_of(row["text"], row.get("words"))],
            words.tags_in(row["label"] or ""),
        )
        for row in frame.iter_rows(named=True)
    ]


ROWS = [(["Ann", "met", "#Bo"], ["B-PER", "O", "B-PER"]), (["#", "😀"], ["O", "O"])]


@pytest.mark.parametrize(
    ("name", "text", "settings"),
    [
        ("tabs.conll", conll(ROWS), {}),
        ("spaces.bio", conll(ROWS, "{} {}"), {}),
        ("last.conll", conll(ROWS).rstrip("\n"), {}),
        ("crlf.conll", conll(ROWS, end="\r\n"), {}),
        ("mark.conll", "\ufeff" + conll(ROWS), {}),
        ("blank.iob", conll(ROWS).replace("\n\n", "\n\t \n \n"), {}),
        ("documents.conll", "-DOCSTART- -X- O O\n\n" + conll(ROWS, "{} NN x {}"), {}),
        ("comments.conll", "# text = Ann met\n" + conll(ROWS, "{}\tNN\t{}"), {}),
        ("order.txt", conll(ROWS, "{1} x {0}"), {"format": "conll", "tokens": 2, "tags": 0}),
        ("negative.conll", conll(ROWS, "x {0} {1} y"), {"tokens": -3, "tags": -2}),
        ("bars.conll", conll(ROWS, "{}|{}"), {"delimiter": "|"}),
    ],
)
def test_conll_files(tmp_path, name, text, settings):
    (tmp_path / name).write_text(text, "utf-8", newline="")
    assert tagged(read(tmp_path / name, **settings)) == ROWS


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("Ann B-PER\nmet\n", {}, "x.conll, line 2: expected 2 columns, got 1"),
        ("Ann B-PER\nmet O x\n", {}, "x.conll, line 2: expected 2 columns, got 3"),
        ("Ann B-PER\n", {"tags": 2}, "x.conll: there is no column 2 (`data.tags`), a line has 2"),
        (
            "Ann B-PER\n",
            {"tokens": "word"},
            "`data.tokens` is 'word', and a CoNLL file's columns have numbers",
        ),
        ("-DOCSTART- O\n\n", {}, "x.conll: holds no words"),
        ("Ann,B-PER\nmet,O\n\nBo,O\n", {}, "x.conll: has one column, such as 'Ann,B-PER'"),
    ],
)
def test_mistakes_in_conll_files(tmp_path, text, settings, message):
    (tmp_path / "x.conll").write_text(text)
    with pytest.raises(KftError) as raised:
        read(tmp_path / "x.conll", **settings)
    assert message in raised.value.message
    assert raised.value.hint


def test_a_tag_that_cannot_follow_is_told_with_its_line_and_counted(tmp_path, capsys):
    (tmp_path / "x.conll").write_text("a O\nb I-X\n\nc B-X\nd I-Y\ne B-Y\n")
    frame = read(tmp_path / "x.conll")
    told = capsys.readouterr().err
    assert "x.conll, line 2: I-X cannot stand after O in IOB2 (2 such places in x.conll)" in told
    described = TASKS[TASK].labels.describe(frame)
    assert described["words"] == {"count": 5, "scheme": "IOB2", "misplaced_tags": 2, "without_tag": 0}
    assert described["entities"] == {"X": 2, "Y": 2}


def test_words_without_a_tag_are_told_with_their_line_and_counted(tmp_path, capsys):
    (tmp_path / "x.conll").write_text("a\tO\nb\tB-X\nc\t\n\nd\t\ne\tO\n")
    frame = read(tmp_path / "x.conll")
    assert "x.conll, line 3: word 3 has no tag (2 such words in x.conll)" in capsys.readouterr().err
    assert [tags for _, tags in tagged(frame)] == [["O", "B-X", None], [None, "O"]]


def test_lists_of_parquet_and_json(tmp_path):
    names = ["O", "B-PER"]
    for kind in ("Sequence", "List"):
        feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": kind}
        info = {"info": {"features": {"ner": feature}}}
        table = pa.table(
            {"tokens": [t for t, _ in ROWS], "ner": [[names.index(i) for i in t] for _, t in ROWS]}
        )
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        parquet.write_table(table, tmp_path / "x.parquet")
        assert tagged(read(tmp_path / "x.parquet", tokens="tokens", tags="ner")) == ROWS
    lines = [json.dumps({"tokens": t, "tags": tags}) for t, tags in ROWS]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    assert tagged(read(tmp_path / "x.jsonl")) == ROWS
    renamed = tagged(read(tmp_path / "x.jsonl", label_names={"PER": "person"}))
    assert renamed[0][1] == ["B-person", "O", "B-person"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "x.jsonl, row 2: 2 tokens and 1 tags"),
        ({"tokens": "a b", "tags": ["O"]}, "x.jsonl, row 2: `tokens` must be a list, got: a b"),
        ({"tokens": [["a"]], "tags": ["O"]}, 'x.jsonl, row 2: `tokens` must hold strings, got: ["a"]'),
        ({"tags": ["O"]}, "x.jsonl, row 2: `tokens` must be a list, got: None"),
    ],
)
def test_mistakes_in_lists(tmp_path, row, message):
    (tmp_path / "x.jsonl").write_text(f"{json.dumps({'tokens': ['a'], 'tags': ['O']})}\n{json.dumps(row)}\n")
    with pytest.raises(KftError) as raised:
        read(tmp_path / "x.jsonl")
    assert message in raised.value.message


def test_entities_by_characters_of_two_programs(tmp_path, capsys):
    text = "😀 Ann Lee met שלום."
    rows = [
        {"text": text, "label": [[2, 9, "PER"], [14, 18, "GPE"]]},
        {"text": text, "label": [{"start": 2, "end": 9, "label": "PER"}]},
        {"text": text, "label": [{"start": 2, "end": 9, "text": "Ann Lee", "labels": ["PER"]}]},
        {"text": text, "label": [[2, 9, "PER"], [6, 13, "X"], [14, 17, "GPE"]]},
        {"text": text, "label": []},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    frame = read(tmp_path / "x.jsonl", entities="label")
    assert [tags for _, tags in tagged(frame)] == [
        ["O", "B-PER", "I-PER", "O", "B-GPE", "O"],
        ["O", "B-PER", "I-PER", "O", "O", "O"],
        ["O", "B-PER", "I-PER", "O", "O", "O"],
        ["O", None, None, None, None, "O"],
        ["O"] * 6,
    ]
    told = capsys.readouterr().err
    assert "x.jsonl, row 4: the entity PER from 2 to 9 overlaps another (3 such entities in x.jsonl)" in told
    assert TASKS[TASK].labels.describe(frame)["words"]["without_tag"] == 4


def test_entities_outside_their_text_are_refused(tmp_path):
    rows = [{"text": "Ann", "entities": [[0, 4, "PER"]]}, {"text": "Ann", "entities": [[2, 2, "PER"]]}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(KftError) as raised:
        read(tmp_path / "x.jsonl", entities="entities")
    assert "row 1: the entity PER from 0 to 4 does not stand in 3 characters" in raised.value.message
    assert "row 2: the entity PER from 2 to 2 holds no character" in raised.value.message


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x.conll", conll(sentences(40)), {}),
        ("x.jsonl", "\n".join(json.dumps({"tokens": w, "tags": t}) for w, t in sentences(40)), {}),
        (
            "x.jsonl",
            "\n".join(json.dumps({"words": w, "pos": [2] * len(w), "ner_tags": t}) for w, t in sentences(40)),
            {"tokens": "words", "tags": "ner_tags"},
        ),
        (
            "x.jsonl",
            "\n".join(
                json.dumps({"text": f"{i} good plot", "label": [[len(f"{i} "), len(f"{i} good"), "GOOD"]]})
                for i in range(40)
            ),
            {"text": "text", "entities": "label"},
        ),
    ],
)
def test_init_knows_tagged_words(tmp_path, monkeypatch, name, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    result = CliRunner().invoke(main, ["init", name, "--output", "x.toml"])
    assert result.exit_code == 0 and "note: " not in result.output, result.output
    content = tomllib.loads((tmp_path / "x.toml").read_text())
    assert content["task"] == TASK
    assert {key: value for key, value in content["data"].items() if key != "train"} == expected


# What is read.


def frame_of(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"text": texts})


def test_the_first_piece_of_each_word_is_read(tiny_preset):
    tokenizer = presets.locate(str(tiny_preset)).tokenizer
    texts = ["the film good", "bad, a plot"]
    rows = encode(tokenizer, BERT, texts, None, 32, located=True)
    reads = TASKS[TASK].places(frame_of(texts), rows)
    assert [reads.places[a:b].tolist() for a, b in zip(reads.offsets, reads.offsets[1:], strict=False)] == [
        [1, 2, 3],
        [1, 2, 3, 4],
    ]
    assert reads.items.of.tolist() == list(range(7))


def test_words_without_a_token_are_not_read():
    """A word of two pieces, one that the tokenizer drops, and one that truncation takes."""
    from kft.text import Tokens

    rows = Tokens(
        ids=np.zeros(5, np.int32),
        offsets=np.array([0, 5]),
        second_starts=np.array([5], np.int32),
        full_lengths=np.array([6], np.int32),
        characters=np.int32([[0, 0], [0, 2], [2, 4], [7, 9], [0, 0]]),
    )
    spans = np.int32([[0, 4], [5, 6], [7, 9], [10, 12]])
    reads = first_tokens(rows, spans, np.array([0, 4]))
    assert (reads.places.tolist(), reads.items.of.tolist()) == ([1, 3], [0, 2])


def test_each_word_is_read_once_in_the_window_that_shows_most_around_it(tiny_preset):
    preset = presets.locate(str(tiny_preset))
    texts = [" ".join(OTHER[i % 5] for i in range(n)) for n in (23, 3, 8)]
    whole = encode(preset.tokenizer, BERT, texts, None, 99, located=True)
    inputs = Inputs(False, (), False, 10, located=True, stride=3)
    rows = encode_frame(preset.tokenizer, BERT, frame_of(texts), inputs)
    assert np.diff(rows.offsets).max() == 10 and rows.examples.tolist() == [0, 0, 0, 0, 1, 2]
    for row, (a, b) in enumerate(zip(rows.offsets, rows.offsets[1:], strict=False)):
        own = whole.ids[whole.offsets[rows.examples[row]] : whole.offsets[rows.examples[row] + 1]].tolist()
        assert rows.ids[a] == own[0] and rows.ids[b - 1] == own[-1]
        inner = rows.ids[a + 1 : b - 1].tolist()
        assert any(own[i : i + len(inner)] == inner for i in range(len(own)))
    reads = TASKS[TASK].places(frame_of(texts), rows)
    assert sorted(reads.items.of) == list(range(34))
    # Windows of 8 words begin at 0, 5, 10 and 15: the middle of what two share parts them.
    first = [reads.items.of[a:b].tolist() for a, b in zip(reads.offsets, reads.offsets[1:5], strict=False)]
    assert first == [list(range(7)), list(range(7, 12)), list(range(12, 17)), list(range(17, 23))]


def test_a_stride_that_leaves_no_step_is_refused(tiny_preset):
    preset = presets.locate(str(tiny_preset))
    with pytest.raises(KftError, match=r"`model.stride` is 8, and a row has room for 8 tokens"):
        encode_frame(preset.tokenizer, BERT, frame_of(["a"]), Inputs(False, (), False, 10, True, 8))


# A run.


@pytest.fixture(scope="module")
def run(tiny_preset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagged")
    (folder / "films.conll").write_text(conll(sentences(240)))
    settings = {
        "task": TASK,
        "data": {"train": str(folder / "films.conll")},
        "model": {"preset": str(tiny_preset), "max_length": 24, "dropout": 0.0},
        "train": {"epochs": 5, "batch_size": 16, "learning_rate": 0.03},
    }
    train.train(config.parse(settings), folder / "run")
    return folder / "run"


def test_a_run_learns_and_its_scores_are_seqevals(run):
    scores = json.loads((run / "metrics.json").read_text())["test"]
    assert scores["entity_f1"] > 0.9
    table = pl.read_parquet(run / "predictions.test.parquet")
    gold, found = [words.tags_in(label) for label in table["target"]], table["tags"].to_list()
    assert scores["entity_f1"] == pytest.approx(seqeval.f1_score(gold, found))
    details = json.loads((run / "details.json").read_text())["test"]
    low, high = details["intervals"]["entity_f1"]
    assert low is None or low <= scores["entity_f1"] <= high
    assert details["words"] == {"count": sum(map(len, gold)), "lost": 0}
    report = seqeval.classification_report(gold, found, output_dict=True)
    assert {kind: part["f1"] for kind, part in details["per_class"].items()} == pytest.approx(
        {kind: report[kind]["f1-score"] for kind in ("BAD", "GOOD")}
    )


def test_wrong_tags_are_found_by_the_word(run, tmp_path):
    """As cleanlab finds them among all words of all rows."""
    from cleanlab.filter import find_label_issues

    rows = sentences(30, seed=8)
    rows[3] = (["the", "good", "plot"], ["O", "O", "O"])
    (tmp_path / "x.conll").write_text(conll(rows))
    answers = evaluate.answer_file(run, tmp_path / "x.conll")
    labels, doubts = answers.learned.labels, answers.task.issues
    table = answers.rows.with_columns(answers.task.columns(answers.predictions, answers.learned))
    found = doubts(table, answers.learned)
    assert {"text": "good", "label": "O", "word": 1, "start": 4, "end": 8} in [
        d.more for d in found if d.row == 3
    ]
    places = [(row, word) for row, (tokens, _) in enumerate(rows) for word in range(len(tokens))]
    given = [labels.index(rows[row][1][word]) for row, word in places]
    expected = find_label_issues(np.array(given), np.concatenate(list(answers.predictions)), n_jobs=1)
    wanted = {place for place, wrong in zip(places, expected, strict=True) if wrong}
    assert {(doubt.row, doubt.more["word"]) for doubt in found} == wanted
    result = CliRunner().invoke(main, ["data", str(run / "config.toml"), "--run", str(run)])
    assert result.exit_code == 0 and "label errors: " in result.output


def test_texts_are_answered_with_entities_in_characters(run):
    texts = ["😀 the good great film, bad", "", "plot"]
    answers = list(evaluate.predict(run, texts))
    assert [[(e["text"], e["label"]) for e in answer["entities"]] for answer in answers] == [
        [("good", "GOOD"), ("great", "GOOD"), ("bad", "BAD")],
        [],
        [],
    ]
    for entity in answers[0]["entities"]:
        assert texts[0][entity["start"] : entity["end"]] == entity["text"]
        assert 0.3 < entity["score"] <= 1


def test_words_are_answered_in_words_and_as_conll(run, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text(
        '{"tokens": ["good", "plot", "poor"], "tags": ["B-GOOD", "O", "O"]}\n{"tokens": ["bad"]}\n'
    )
    result = CliRunner().invoke(main, ["predict", str(run), str(file)])
    first, second = map(json.loads, result.stdout.splitlines())
    assert [(e["text"], e["words"]) for e in first["entities"]] == [("good", [0, 1]), ("poor", [2, 3])]
    assert [(e["start"], e["end"]) for e in first["entities"]] == [(0, 4), (10, 14)]
    assert second["entities"][0]["text"] == "bad"
    file.write_text('{"tokens": ["good", "plot", "poor"], "tags": ["B-GOOD", "O", "O"]}\n')
    result = CliRunner().invoke(main, ["predict", str(run), str(file), "--format", "conll"])
    assert result.stdout == "good B-GOOD B-GOOD\nplot O O\npoor O B-BAD\n\n"


def test_other_forms_of_data_are_read_by_the_same_run(run, tmp_path):
    spans, texts = tmp_path / "s.jsonl", tmp_path / "t.csv"
    spans.write_text('{"text": "a good plot", "marks": [[2, 6, "GOOD"]]}\n')
    texts.write_text("text\na good plot\n")
    scored = evaluate.evaluate(run, data=spans, settings=["data.entities=marks"])
    assert scored["metrics"]["entity_f1"] == 1
    result = CliRunner().invoke(main, ["predict", str(run), str(texts)])
    assert json.loads(result.stdout)["entities"][0]["text"] == "good"


def test_rows_without_tags_or_with_strange_types_are_not_scored(run, tmp_path):
    file = tmp_path / "x.conll"
    for text, message in (
        ("good\nplot\n", "x.conll, row 1: the label is missing"),
        ("good B-GOD\nplot O\n", "an entity must be of BAD, GOOD, got: GOD, did you mean `GOOD`?"),
    ):
        file.write_text(text)
        with pytest.raises(KftError) as raised:
            evaluate.evaluate(run, data=file)
        assert message in raised.value.message


def test_truncated_words_are_scored_as_outside(run, tmp_path):
    tokens = ["plot"] * 30 + ["good"]
    (tmp_path / "x.conll").write_text(conll([(tokens, ["O"] * 30 + ["B-GOOD"])]))
    scored = evaluate.evaluate(run, data=tmp_path / "x.conll")
    assert scored["details"]["words"] == {"count": 31, "lost": 31 - 22}
    assert scored["metrics"]["entity_recall"] == 0
    loaded = evaluate.load_run(run)
    windowed = replace(loaded, inputs=replace(loaded.inputs, stride=8))
    scored = evaluate.evaluate(windowed, data=tmp_path / "x.conll")
    assert scored["details"]["words"]["lost"] == 0
    assert scored["metrics"]["entity_recall"] == 1


@pytest.fixture(scope="module")
def windowed_run(tiny_preset, tmp_path_factory):
    """Trained on long texts in windows."""
    folder = tmp_path_factory.mktemp("windowed")
    rows = sentences(240)
    joined = [[sum((row[k] for row in rows[i : i + 6]), []) for k in (0, 1)] for i in range(0, 240, 6)]
    (folder / "long.conll").write_text(conll(joined))
    settings = {
        "task": TASK,
        "data": {"train": str(folder / "long.conll")},
        "model": {"preset": str(tiny_preset), "max_length": 24, "stride": 8, "dropout": 0.0},
        "train": {"epochs": 16, "batch_size": 16, "learning_rate": 0.03},
    }
    train.train(config.parse(settings), folder / "windows")
    return folder / "windows"


def test_a_long_text_is_answered_in_windows(windowed_run):
    """Each word counts once."""
    assert json.loads((windowed_run / "metrics.json").read_text())["test"]["entity_f1"] > 0.9
    account = json.loads((windowed_run / "data.json").read_text())["splits"]["train"]
    assert account["tokens"]["windows"] > 2 * account["examples"]
    assert account["tokens"]["truncated_fraction"] == 0
    text = " ".join(["plot"] * 100 + ["good"] + ["plot"] * 100 + ["bad"])
    (answer,) = evaluate.predict(windowed_run, [text])
    assert [(e["text"], e["start"]) for e in answer["entities"]] == [("good", 500), ("bad", 1005)]


def test_an_ensemble_answers_with_the_mean_of_its_runs(run, tmp_path):
    """Probabilities of each word are averaged; the page and the comparison are there."""
    arguments = ["--seeds", "1,2", "--run", str(tmp_path / "both"), "--set", "train.epochs=2", "--json"]
    result = CliRunner().invoke(main, ["train", str(run / "config.toml"), *arguments])
    assert result.exit_code == 0, result.output
    file = tmp_path / "x.conll"
    file.write_text(conll(sentences(20, seed=6)))
    both, *alone = (
        evaluate.answer_file(tmp_path / "both" / name, file).predictions for name in ("", "seed-1", "seed-2")
    )
    for mean, *parts in zip(both, *alone, strict=True):
        np.testing.assert_allclose(mean, np.mean(parts, axis=0), atol=1e-6)
    assert "entity F1" in (tmp_path / "both" / "ensemble.html").read_text("utf-8")


# Artefacts.


def test_transformers_pipeline_finds_the_same_entities(run, tmp_path):
    transformers = pytest.importorskip("transformers")
    result = CliRunner().invoke(main, ["export", str(run), "--to", "hf", "--output", str(tmp_path / "hf")])
    assert result.exit_code == 0, result.output
    settings = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert settings["architectures"] == ["BertForTokenClassification"]
    assert sorted(settings["id2label"].values()) == ["B-BAD", "B-GOOD", "O"]
    pipeline = transformers.pipeline(
        "token-classification", model=str(tmp_path / "hf"), aggregation_strategy="first"
    )
    texts = ["😀 the good film, bad great", "plot", "a poor actor (dull) the fine"]
    for text, answer in zip(texts, evaluate.predict(run, texts), strict=True):
        theirs = [(e["start"], e["end"], e["entity_group"], e["score"]) for e in pipeline(text)]
        ours = [(e["start"], e["end"], e["label"], e["score"]) for e in answer["entities"]]
        assert [e[:3] for e in ours] == [e[:3] for e in theirs]
        np.testing.assert_allclose([e[3] for e in ours], [e[3] for e in theirs], atol=1e-5)


def test_an_onnx_graph_answers_every_token(run, tmp_path):
    pytest.importorskip("onnxruntime")
    result = CliRunner().invoke(
        main, ["export", str(run), "--to", "onnx", "--output", str(tmp_path / "onnx")]
    )
    assert result.exit_code == 0, result.output
    proof = json.loads((tmp_path / "onnx" / "export.json").read_text())
    assert proof["comparison"]["labels_that_differ"] == 0
    assert proof["int8"]["validation_metrics"]["float32"]["entity_f1"] > 0.9


def test_formats_that_cannot_hold_it_are_told(run, tmp_path):
    result = CliRunner().invoke(main, ["export", str(run), "--to", "keras", "--output", str(tmp_path / "x")])
    assert result.exit_code == 1 and "hint: " in result.output


def test_a_server_answers_with_the_entities_that_kft_predict_finds(run, windowed_run, tmp_path):
    """In rows and in columns; long texts in windows; every number as `kft predict` has it."""
    from starlette.testclient import TestClient

    from kft import export
    from kft.serve import model as models
    from kft.serve.app import build
    from kft.serve.settings import Settings
    from kft.serve.versions import Versions

    texts = ["😀 the good great film, bad", "", "שלום good", "plot " * 90 + "good", "\ufffd bad\t\n plot"]
    for one in (run, windowed_run):
        content = export.export(one, "savedmodel", tmp_path / one.name)
        assert content["comparison"]["labels_that_differ"] == 0
        assert set(content["signatures"]) == {"tokens"} and content["notes"]
        versions = Versions(tmp_path, "tags", models.load)
        versions.current = models.load(tmp_path / one.name / "1")
        app, _ = build(Settings(), versions)
        with TestClient(app) as http:
            path = "/v1/models/tags:predict"
            rows = http.post(path, json={"instances": texts}).json()["predictions"]
            columns = http.post(path, json={"inputs": {"text": texts}}).json()["outputs"]
            paths = http.get("/openapi.json").json()["paths"]
            # The page names its fields after the inputs, so no part of it may have such a name.
            assert 'id="marked"' in http.get("/").text and 'id="text"' not in http.get("/").text
        answers = paths[path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        entity = answers["properties"]["predictions"]["items"]["properties"]["entities"]["items"]
        for got, also, answer in zip(rows, columns["entities"], evaluate.predict(one, texts), strict=True):
            assert got["entities"] == also and len(also) == len(answer["entities"])
            for mine, theirs in zip(also, answer["entities"], strict=True):
                assert set(mine) == set(entity["properties"])
                assert mine.pop("score") == pytest.approx(theirs.pop("score"), abs=1e-4)
                assert mine == theirs
        seen = {entity["end"] for entity in rows[3]["entities"]}
        assert (len(texts[3]) in seen) == (one == windowed_run)  # the other run truncates


def test_runs_are_compared_by_sentence_and_the_page_shows_mistakes(run, tmp_path):
    file = tmp_path / "x.conll"
    file.write_text(conll([*sentences(20, seed=5), (["good", "bad"], ["B-BAD", "B-GOOD"])]))
    other = shutil.copytree(run, tmp_path / "other")
    result = CliRunner().invoke(main, ["compare", str(run), str(other), "--data", str(file), "--json"])
    assert result.exit_code == 0, result.output
    (pair,) = json.loads(result.stdout)["pairs"]
    assert pair["difference"] == 0 and pair["p_value"] == 1
    assert TASKS[TASK].said(words.written_tags(["B-PER", "I-PER", "O", None])) == "PER 1-2"
    page = (run / "report.html").read_text("utf-8")
    assert "entity F1" in page and "GOOD" in page
