"""Answers in a context from files to a run: readers, reads, windows, candidates, lines."""

import json
import re
import shutil
import subprocess
from collections import Counter
from urllib.parse import quote

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from conftest import GOOD, OTHER
from pyarrow import parquet
from test_serve import Server

from kft import audit, config, evaluate, runs, train
from kft.data import sources, splits
from kft.errors import KftError
from kft.guess import init
from kft.models import presets
from kft.tasks import TASKS
from kft.tasks.golds import Gold, golds_in
from kft.tasks.record import Inputs, Items, Learned, Reads
from kft.text import BERT, encode_frame

TASK = "question_answering"


def read(path, **settings) -> pl.DataFrame:
    return sources.read(config.parse({"task": TASK, "data": {"train": str(path), **settings}}).data)["train"]


def golds(frame: pl.DataFrame) -> list[list[tuple[str, int | None]] | None]:
    rows = map(golds_in, frame["label"])
    return [None if row is None else [(gold.text, gold.start) for gold in row] for row in rows]


def document(*questions: dict, context: str = "Ann met Bo") -> str:
    return json.dumps(
        {"version": "x", "data": [{"title": "T", "paragraphs": [{"context": context, "qas": questions}]}]}
    )


def question(answers=None, key: str = "q1", **more) -> dict:
    return {"id": key, "question": "who", **({} if answers is None else {"answers": answers}), **more}


BO = {"text": "Bo", "answer_start": 8}


@pytest.mark.parametrize("settings", [{"format": "squad"}, {}])
def test_squad_documents(tmp_path, settings):
    plausible = {"plausible_answers": [BO], "is_impossible": True}
    rows = [
        question([BO, {"text": "Ann", "answer_start": 0}]),
        question([], "q2", **plausible),
        question(key="q3"),
    ]
    (tmp_path / "x.json").write_text(document(*rows))
    frame = read(tmp_path / "x.json", **settings)
    assert golds(frame) == [[("Bo", 8), ("Ann", 0)], [], None]
    assert frame["key"].to_list() == ["q1", "q2", "q3"]
    assert frame.select("text", "text_pair").row(0) == ("who", "Ann met Bo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "x.json: is no SQuAD document"),
        ("{", "x.json: not valid JSON"),
        (document(question(), "q"), "x.json, article 1, paragraph 1, question 2: must be an object"),
        (document({"id": "q7"}), "paragraph 1, question q7: has no `question` that is a text"),
        (document(question("Bo")), "question q1: `answers` must be a list"),
        (
            document(question([BO], is_impossible=True)),
            "question q1: is marked `is_impossible`, and has answers",
        ),
        (
            document(question([{"text": 3}])),
            "x.json, question q1: an answer must be a text with its answer_start",
        ),
        (document(question(), context=None), "article 1, paragraph 1: has no `context` that is a text"),
    ],
)
def test_mistakes_in_squad_documents(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(KftError) as raised:
        read(tmp_path / "x.json", format="squad")
    assert message in raised.value.message
    assert "answer" in raised.value.hint


ROWS = [
    ([BO], [("Bo", 8)]), ({"text": ["Bo"], "answer_start": [8]}, [("Bo", 8)]), ({"text": [], "answer_start": []}, []),
    ("Bo", [("Bo", 8)]), (["Ann", "n"], [("Ann", 0), ("n", None)]), ([], []), ([{"text": "Bo", "start": 8}], [("Bo", 8)]),
    ([{"text": "Bo", "answer_start": 7}], [("Bo", None)]), ([{"text": "", "answer_start": -1}], []),
]  # fmt: skip


def test_flat_rows_of_every_spelling(tmp_path, capsys):
    rows = [{"question": "who", "context": "Ann met Bo", "answers": answers} for answers, _ in ROWS]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert golds(read(tmp_path / "x.jsonl")) == [expected for _, expected in ROWS]
    said = capsys.readouterr().err
    assert 'x.jsonl, row 5: the answer "n" stands 2 times in the context' in said
    assert "(2 such answers in x.jsonl); they are not trained on" in said
    table = pa.table({"id": ["a"], "q": ["who"], "context": ["Ann met Bo"], "answers": [ROWS[1][0]]})
    parquet.write_table(table, tmp_path / "x.parquet")
    frame = read(tmp_path / "x.parquet", question="q")
    assert (golds(frame), frame["key"][0]) == ([[("Bo", 8)]], "a")
    (tmp_path / "x.csv").write_text("question,context,answers\nwho,Ann met Bo,Bo\nwhen,in 1990,1990\n")
    assert golds(read(tmp_path / "x.csv")) == [[("Bo", 8)], [("1990", 3)]]


def test_answers_that_are_not_there_are_told_dropped_and_counted(tmp_path, capsys):
    wrong = question([{"text": "Bo", "answer_start": 9}], "bad")
    rows = [question([BO], f"q{i}") | {"question": f"who {i}"} for i in range(30)]
    (tmp_path / "x.json").write_text(document(*rows, wrong))
    settings = config.parse({"task": TASK, "data": {"train": str(tmp_path / "x.json")}})
    prepared = splits.prepare(sources.read(settings.data), settings.split, settings.clean, TASK)
    assert (
        'question bad: the answer "Bo" does not stand at character 9 of the context, "o" does'
        in capsys.readouterr().err
    )
    assert prepared.account["splits"]["train"]["dropped"] == {"answer_not_in_context": 1}


def read_windows(tiny_preset, context: str, answer: str | None, start: int = 0, **sizes):
    """(frame, tokens, reads) of one question, "who"."""
    label = "" if answer is None else json.dumps([answer, start], ensure_ascii=False)
    frame = pl.DataFrame({"text": ["who"], "text_pair": [context], "label": [f'{{"answers": [{label}]}}']})
    inputs = Inputs(True, (), False, sizes.get("max_length", 12), True, sizes.get("stride", 2))
    tokens = encode_frame(presets.locate(str(tiny_preset)).tokenizer, BERT, frame, inputs)
    return frame, tokens, TASKS[TASK].reads(frame, tokens, Learned())


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("good film", "good"), ("the good film", "film"), ("😀 the 👩‍👧 good film", "good"), ("טוב good סרט film", "good"),
        ("plot " * 40 + "good actor", "good actor"), ("good, the film.", "good"), ("x\u0301 é\u00a0good  film ", "film"),
    ],
)  # fmt: skip
def test_the_places_of_an_answer_give_its_characters_back(tiny_preset, context, answer):
    start = context.rindex(answer)
    frame, tokens, reads = read_windows(tiny_preset, context, answer, start)
    found = set()
    for a, b in zip(reads.offsets[:-1], reads.offsets[1:], strict=True):
        assert reads.targets[a:b].sum(axis=0).tolist() == [1, 1]
        first, last = a + reads.targets[a:b].argmax(axis=0)
        if (first, last) != (a, a):
            found.add((int(reads.items.characters[first, 0]), int(reads.items.characters[last, 1])))
        assert reads.weights[a:b].sum() == 1
    assert found == {(start, start + len(answer))}
    # Outputs that are as sure as the targets answer just this.
    outputs = np.where(reads.targets > 0, 9.0, 0.0)
    outputs[reads.offsets[:-1]] = 0
    best = TASKS[TASK].predictions(outputs, Learned(), reads)[0]
    assert (best.texts[0], best.spans[0]) == (answer, (start, start + len(answer)))


def test_contexts_of_ten_thousand_words_and_of_none(tiny_preset):
    context = "the film " * 5000 + "good"
    _, tokens, reads = read_windows(tiny_preset, context, "good", len(context) - 4)
    assert reads.targets[reads.offsets[-2] :].argmax(axis=0).min() > 0
    *_, empty = read_windows(tiny_preset, "", None)
    assert empty.targets.tolist() == [[1, 1]]
    answer = TASKS[TASK].predictions(np.zeros((1, 2)), Learned(none_above=0.0), empty)[0]
    assert (answer.texts, answer.none) == ((), 0.0)


def test_an_answer_wider_than_every_window_is_told(tiny_preset, capsys):
    context = "the film " * 20
    *_, reads = read_windows(tiny_preset, context, context.strip())
    assert reads.targets[reads.offsets[:-1]].sum() == 2 * (len(reads.offsets) - 1)
    assert "1 of 1 stand whole in no window" in capsys.readouterr().err


def test_candidates_are_those_of_the_official_search(tiny_preset):
    """All spans of all windows, by brute force."""
    context = "the good film the bad plot a fine actor the good plot"
    _, tokens, reads = read_windows(tiny_preset, context, None)
    outputs = np.random.default_rng(0).normal(size=(len(reads.places), 2))
    learned = Learned(none_above=0.0, longest=3)
    best = TASKS[TASK].predictions(outputs, learned, reads)[0]
    scores, none = {}, np.inf
    for a, b in zip(reads.offsets[:-1], reads.offsets[1:], strict=True):
        none = min(none, outputs[a].sum())
        for i in range(a + 1, b):
            for j in range(i, min(b, i + 3)):
                text = context[reads.items.characters[i, 0] : reads.items.characters[j, 1]]
                scores[text] = max(scores.get(text, -np.inf), outputs[i, 0] + outputs[j, 1])
    order = sorted(scores, key=lambda text: -scores[text])
    assert list(best.texts) == order[: len(best.texts)]
    assert len(best.texts) == 20
    assert best.doubt == pytest.approx(none - scores[order[0]])
    assert np.exp([*best.scores, best.none]).sum() == pytest.approx(1)
    assert all(context[slice(*span)] == text for text, span in zip(best.texts, best.spans, strict=True))


@pytest.fixture(scope="module")
def answers_file(tmp_path_factory):
    """Questions for the praise in a context; a quarter has none."""
    rng, rows = np.random.default_rng(0), []
    for i in range(200):
        words = rng.choice(OTHER, rng.integers(5, 25)).tolist()
        place = int(rng.integers(len(words)))
        if i % 4:
            words[place] = str(rng.choice(GOOD))
        start = len(" ".join(["", *words[:place]]))
        answers = [{"text": words[place], "answer_start": start}] if i % 4 else []
        rows.append({"id": f"q{i}", "question": "the good", "context": " ".join(words), "answers": answers})
    path = tmp_path_factory.mktemp("answers") / "films.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def run(answers_file, tiny_preset, tmp_path_factory):
    settings = {
        "task": TASK,
        "data": {"train": str(answers_file)},
        "model": {"preset": str(tiny_preset), "max_length": 24},
        "train": {"epochs": 5, "batch_size": 16, "learning_rate": 0.01},
    }
    folder = tmp_path_factory.mktemp("runs") / "answers"
    train.train(config.parse(settings), folder)
    return folder


def official(pairs: list[tuple[str, str]]) -> tuple[float, float]:
    """Exact match and F1 of (right answer, answer) by the rules of the official script."""

    def words(text: str) -> list[str]:
        plain = re.sub(r"[!-/:-@\[-`{-~]", "", text.lower())
        return [word for word in re.sub(r"\b(a|an|the)\b", " ", plain).split() if word]

    exact, f1 = [], []
    for gold, answer in ((words(a), words(b)) for a, b in pairs):
        shared = sum((Counter(gold) & Counter(answer)).values())
        exact.append(gold == answer)
        f1.append(2 * shared / (len(gold) + len(answer)) if gold and answer else gold == answer)
    return float(np.mean(exact)), float(np.mean(f1))


def test_a_run_learns_and_answers(run, answers_file, tmp_path):
    metrics = json.loads((run / "metrics.json").read_text())["validation"]
    assert metrics["f1"] > 0.8
    loaded = evaluate.load_run(run)
    assert loaded.config.model.stride == 8
    assert loaded.learned.none_above is not None
    scored = evaluate.evaluate(loaded, data=answers_file)
    count = evaluate.predict_file(loaded, str(answers_file), tmp_path / "out.jsonl")
    lines = list(map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines()))
    assert count == len(lines) == scored["examples"] == 200
    assert list(lines[0])[:7] == ["id", "question", "context", "answer", "start", "end", "score"]
    assert [line["id"] for line in lines] == [f"q{i}" for i in range(200)]
    for line in lines:
        if line["answer"]:
            assert line["context"][line["start"] : line["end"]] == line["answer"]
        else:
            assert line["start"] is line["end"] is None
    rows = list(map(json.loads, answers_file.read_text().splitlines()))
    pairs = [
        ("".join(a["text"] for a in row["answers"]), line["answer"])
        for line, row in zip(lines, rows, strict=True)
    ]
    assert official(pairs) == pytest.approx((scored["metrics"]["exact_match"], scored["metrics"]["f1"]))
    for format, kind in (("squad", str), ("squad-none", float)):
        evaluate.predict_file(loaded, str(answers_file), tmp_path / "out.json", format=format)
        written = json.loads((tmp_path / "out.json").read_text())
        assert list(written) == [line["id"] for line in lines]
        assert {type(value) for value in written.values()} == {kind}
    doubtful = {key for key, value in written.items() if value > loaded.learned.none_above}
    assert doubtful == {line["id"] for line in lines if not line["answer"]}
    twice = tmp_path / "twice.jsonl"
    twice.write_text(2 * (answers_file.read_text().splitlines()[0] + "\n"))
    with pytest.raises(KftError, match="two rows have the id q0"):
        evaluate.predict_file(loaded, str(twice), tmp_path / "out.json", format="squad")
    texts = list(evaluate.predict(loaded, [("the good", "😀 the good film")]))
    named = pl.DataFrame({"question": ["the good"], "context": ["😀 the good film"]})
    assert list(evaluate.predict(loaded, named)) == texts
    assert texts[0]["context"][texts[0]["best"][0]["start"] :].startswith(texts[0]["best"][0]["answer"])


def test_settings_of_the_task():
    parsed = config.parse({"task": TASK, "data": {"train": "x.json"}})
    assert (parsed.model.max_length, parsed.model.stride) == (384, 128)
    assert (
        config.parse({"task": TASK, "data": {"train": "x"}, "model": {"max_length": 30}}).model.stride == 10
    )
    assert (parsed.data.question, parsed.data.context, parsed.data.answers) == (
        "question",
        "context",
        "answers",
    )
    with pytest.raises(KftError, match="`data.text_pair` needs a task of other columns"):
        config.parse({"task": TASK, "data": {"train": "x", "text_pair": "b"}})
    with pytest.raises(KftError, match="`data.answers` needs a task of answers in a context"):
        config.parse({"data": {"train": "x", "answers": "b"}})


def test_the_mean_of_models_is_that_of_their_probabilities():
    task = TASKS[TASK]
    from kft.tasks.question_answering.candidates import Candidates

    one = Candidates(("a", "b"), ((0, 1), (2, 3)), np.log([0.6, 0.1]), float(np.log(0.3)), True)
    two = Candidates(("b",), ((2, 3),), np.log([0.2]), float(np.log(0.8)), False)
    both = np.empty((2, 1), object)
    both[0, 0], both[1, 0] = one, two
    mean = task.mean(list(both), Learned(none_above=0.0))[0]
    assert (mean.texts, mean.answered) == (("a", "b"), False)
    assert np.exp([*mean.scores, mean.none]) == pytest.approx([0.3, 0.15, 0.55])
    assert Gold("x", 3).end == 4


def test_the_layout_of_tfds(tmp_path):
    import tensorflow_datasets as tfds

    features = {
        "id": tfds.features.Text(),
        "title": tfds.features.Text(),
        "context": tfds.features.Text(),
        "question": tfds.features.Text(),
        "answers": tfds.features.Sequence({"text": tfds.features.Text(), "answer_start": np.int32}),
    }
    rows = [
        {"id": f"q{i}", "title": "T", "context": "Ann mét Bo", "question": f"who {i}", "answers": answers}
        for i, answers in enumerate([[BO], [], [BO, {"text": "mét", "answer_start": 4}]])
    ]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="my_squad", version="1.0.0", data_dir=tmp_path, features=tfds.features.FeaturesDict(features),
        split_datasets={"train": [(row["id"], row) for row in rows]},
    )  # fmt: skip
    settings = {"task": TASK, "data": {"source": "my_squad", "data_dir": str(tmp_path)}}
    frame = sources.read(config.parse(settings).data)["train"].sort("key")
    assert golds(frame) == [[("Bo", 8)], [], [("Bo", 8), ("mét", 4)]]
    assert frame["key"].to_list() == ["q0", "q1", "q2"]


def test_init_knows_squad_documents_and_rows(tmp_path, answers_file):
    rows = [question([BO], f"q{i}") | {"question": f"who {i}"} for i in range(40)]
    articles = [
        json.loads(document(*rows, context=f"Ann met Bo {i}"))["data"][0] | {"title": f"T{i}"}
        for i in range(9)
    ]
    (tmp_path / "all.json").write_text(json.dumps({"version": "1", "data": articles}))
    for file, group in ((tmp_path / "all.json", "title"), (answers_file, "context")):
        result = init(str(file), output=str(tmp_path / f"{group}.toml"))
        assert not result["warnings"]
        parsed = config.load(tmp_path / f"{group}.toml")
        assert (parsed.task, parsed.split.group) == (TASK, group)
        assert splits.prepare(
            sources.read(parsed.data, parsed.split), parsed.split, parsed.clean, TASK
        ).account["cut"]


# What is made of a run.


CONTEXTS = ["😀 the good film", "", "שלום good", "plot " * 90 + "good", "\ufffd bad\t\n plot", "plot plot"]


def test_a_server_answers_as_kft_predict_does(run, tmp_path):
    """In rows and in columns; long contexts in windows; with the threshold of no answer."""
    from starlette.testclient import TestClient

    from kft import export
    from kft.export import card, hubs
    from kft.serve import model as models
    from kft.serve.app import build
    from kft.serve.settings import Settings
    from kft.serve.versions import Versions

    content = export.export(run, "savedmodel", tmp_path)
    assert content["inputs"] == ["question", "context"]
    assert set(content["signatures"]) == {"tokens"} and "kft serve" in content["notes"][0]
    assert content["comparison"]["max_difference"] <= content["comparison"]["tolerance"]
    assert content["comparison"]["examples"] < 200  # texts, not their tokens
    assert content["comparison"]["tokens_max_logit_difference"] < 1e-4
    card.write(runs.open_run(run), tmp_path / "1", hubs.parse("hf://ann/films"))
    text = (tmp_path / "1" / "README.md").read_text()
    assert "It reads `question` and `context`, in windows that share 8 tokens, of 24 tokens." in text
    assert 'model.signatures["tokens"]\n' in text
    learned = json.loads((run / "model.json").read_text())["learned"]
    assert content["learned"] == learned and learned["none_above"] is not None
    assert all(f"learned.{name}" in runs.FIELDS["model.json"] for name in set(learned) - {"thresholds"})
    versions = Versions(tmp_path, "films", models.load)
    versions.current = models.load(tmp_path / "1")
    app, _ = build(Settings(), versions)
    instances = [{"question": "the good", "context": context} for context in CONTEXTS]
    columns = {name: [row[name] for row in instances] for name in ("question", "context")}
    with TestClient(app) as http:
        path = "/v1/models/films:predict"
        rows = http.post(path, json={"instances": instances}).json()["predictions"]
        same = http.post(path, json={"inputs": columns}).json()["outputs"]
        described = http.get("/openapi.json").json()["paths"][path]["post"]
        wide = [{"question": "plot " * 40, "context": "good"}]
        refused = http.post(path, json={"instances": wide})
        nameless = http.post(path, json={"instances": ["the good"]})
    assert refused.status_code == 400 and "leaves room for 0 tokens" in refused.json()["error"]
    assert nameless.status_code == 400 and "'question'" in nameless.json()["error"]
    body = described["requestBody"]["content"]["application/json"]["schema"]["properties"]["instances"]
    assert list(body["items"]["properties"]) == ["question", "context"]
    answers = described["responses"]["200"]["content"]["application/json"]["schema"]
    fields = answers["properties"]["predictions"]["items"]["properties"]
    assert list(fields) == ["answer", "start", "end", "score", "none_score", "best"]
    pairs = [(row["question"], row["context"]) for row in instances]
    found = 0
    for i, (mine, theirs) in enumerate(zip(rows, evaluate.predict(run, pairs), strict=True)):
        assert mine == {name: same[name][i] for name in fields}
        assert set(mine) == set(fields)
        for name in ("answer", "start", "end"):
            assert mine[name] == theirs[name]
        for name in ("score", "none_score"):
            assert mine[name] == pytest.approx(theirs[name], abs=1e-4)
        scores = [[one.pop("score") for one in best] for best in (mine["best"], theirs["best"])]
        np.testing.assert_allclose(*scores, atol=1e-4)
        assert mine["best"][:1] == theirs["best"][:1]
        assert sorted(map(str, mine["best"])) == sorted(map(str, theirs["best"]))
        if mine["answer"]:
            assert CONTEXTS[i][mine["start"] : mine["end"]] == mine["answer"]
            found += 1
    assert rows[3]["end"] == len(CONTEXTS[3])  # the last window of many
    assert rows[1]["answer"] == "" and rows[1]["start"] is None and rows[1]["best"] == []
    assert 0 < found < len(CONTEXTS)


def test_a_text_counts_once_however_many_of_its_tokens_differ():
    from kft.export.proof import Reference

    offsets, frame = np.array([0, 2, 3, 5]), pl.DataFrame({"text": ["a", "b", "c"]})
    reads = Reads(offsets, np.zeros(5, np.int32), items=Items(offsets, np.arange(5)))
    reference = Reference(frame, None, reads, np.zeros((5, 2)), np.zeros((5, 2)))
    assert reference.texts_with(np.array([1, 1, 0, 0, 1], bool)) == 2
    assert reference.texts_with(np.zeros(5, bool)) == 0


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_the_page_marks_the_answer_in_its_context(run, tmp_path):
    """`kft serve` in a process of its own; characters beyond 16 bits before the answer."""
    from kft import export

    export.export(run, "savedmodel", tmp_path / "films", verify=False)
    server = Server(tmp_path / "films", tmp_path / "log")
    try:
        address = (
            f"http://127.0.0.1:{server.port}/#question=the%20good&context={quote('😀 the <b> good film')}"
        )
        page = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
             f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", address],
            capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip
    finally:
        server.process.kill()
        server.process.wait()
    (answer,) = evaluate.predict(run, [("the good", "😀 the <b> good film")])
    assert answer["answer"] == "good"
    assert f'<mark title="{100 * answer["score"]:.1f} %">good</mark> film</p>' in page
    assert "😀 the &lt;b&gt; <mark" in page
    assert re.findall("<label[^>]*>([^<]*)</label>", page)[:2] == ["Question", "Context"]
    assert f"<span>no answer</span><span>{100 * answer['none_score']:.1f} %</span>" in page


def test_a_version_answers_null_where_its_run_always_answers(run, tmp_path):
    """Of a run without questions that have no answer; nothing of it but its files is asked."""
    from kft import export
    from kft.serve.answers import Answers

    content = export.export(run, "savedmodel", tmp_path, verify=False)
    content["learned"]["none_above"] = None
    answers = Answers(tmp_path / "1", content)
    columns = {"question": np.array([b"the good"] * 2), "context": np.array([b"plot plot", b"\xff good"])}
    outputs = answers.answer(columns, lambda ids: np.zeros((*ids["token_ids"].shape, 2), np.float32))
    assert outputs["none_score"].tolist() == [None, None]
    assert all(outputs["answer"])
    for answer, start, end, text in zip(
        *(outputs[name] for name in ("answer", "start", "end")), ("plot plot", "\ufffd good"), strict=True
    ):
        assert text[start:end] == answer


def test_wrong_answers_are_found(run, monkeypatch):
    """In a table of predictions two right answers were exchanged for others."""
    table = pl.read_parquet(run / "predictions.validation.parquet").with_row_index("row")
    right = table.filter(
        pl.col("answer") != "", pl.col("target").str.contains('"' + pl.col("answer") + '"', literal=True)
    )
    first = pl.col("candidates").list.first().struct.field("log_probability")
    none, other = right.sort(first, descending=True)["row"].to_list()[:2]
    assert audit.label_errors(run) == []
    word, targets = table["text_pair"][other].split()[0], table["target"].to_list()
    targets[none], targets[other] = '{"answers": []}', json.dumps({"answers": [[word, 0]]})
    table = table.with_columns(target=pl.Series(targets))
    doubts = TASKS[TASK].issues(table, runs.read_learned(runs.open_run(run)))
    assert {doubt.row for doubt in doubts} == {none, other}
    assert [doubt.probability for doubt in doubts] == sorted(doubt.probability for doubt in doubts)
    for doubt in doubts:
        assert doubt.suggested == table["answer"][doubt.row]
        start, end = doubt.more["start"], doubt.more["end"]
        assert table["text_pair"][doubt.row][start:end] == doubt.suggested
        assert doubt.more["label"] == {none: "no answer", other: word}[doubt.row]
    # A model that is mostly wrong knows nothing of wrong answers.
    hopeless = table.with_columns(
        target=pl.Series(['{"answers": [["plum", 0]]}'] * (len(targets) - 2) + table["target"][-2:].to_list())
    )
    learned = runs.read_learned(runs.open_run(run))
    assert TASKS[TASK].issues(hopeless, learned) == []
    monkeypatch.setattr("kft.tasks.question_answering.doubts.LEAST_AGREED", 0.0)
    assert TASKS[TASK].issues(hopeless, learned)
