"""GLUE and SuperGLUE: archives' readers, the benchmarks' metrics, submissions, suites."""

import json
import math
import zipfile
from collections import Counter
from dataclasses import replace

import benchmark_scorer
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from conftest import SHARED_DATA, sentences

from kft import config as configs
from kft import models, runs, train
from kft.cli import main
from kft.config import DataConfig
from kft.data import sources
from kft.data.sources import benchmark_splits, benchmarks, read_benchmark
from kft.data.sources.benchmark_rows import word_span
from kft.errors import KftError
from kft.models import presets
from kft.runs import RunDir
from kft.studies.suites import SUITES, check, published, running, scoring, submission, summary

TASKS = [(suite, task) for suite, tasks in SUITES.items() for task in tasks]
needs_data = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="../shared/data is not there")


def files(root, **contents: str) -> DataConfig:
    """Writes files (`CoLA__train.tsv`), and the settings that read them but for the source."""
    for name, content in contents.items():
        path = root / name.replace("__", "/").replace("_tsv", ".tsv").replace("_jsonl", ".jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return DataConfig(source="x", data_dir=str(root))


def table_of(data: DataConfig, source: str, split: str, **columns) -> pl.DataFrame:
    return read_benchmark(data.model_copy(update={"source": source} | columns), split)[1]


class TestReaders:
    def test_cola_without_header_and_its_test_file_with_one(self, tmp_path):
        data = files(
            tmp_path,
            CoLA__train_tsv='gj04\t1\t\tHe said "no.\ngj04\t0\t*\tHim said.\n',
            CoLA__test_tsv="index\tsentence\n0\tBill slept.\n",
        )
        table = table_of(data, "glue/cola", "train", text="sentence")
        assert table["sentence"].to_list() == ['He said "no.', "Him said."]
        assert table["label"].to_list() == ["acceptable", "unacceptable"]
        assert table_of(data, "glue/cola", "test", text="sentence")["label"].to_list() == [None]

    def test_mnli_labels_travel_by_name(self, tmp_path):
        # TFDS numbers them entailment, neutral, contradiction; others number them in other orders.
        head = "index\tpromptID\tsentence1\tsentence2\tlabel1\tgold_label\n"
        data = files(
            tmp_path,
            MNLI__dev_matched_tsv=head + "0\t7\ta\tb\tneutral\tcontradiction\n1\t8\tc\td\tneutral\t-\n",
            MNLI__dev_mismatched_tsv=head + "0\t7\te\tf\tneutral\tentailment\n",
        )
        columns = {"text": "premise", "text_pair": "hypothesis"}
        assert table_of(data, "glue/mnli", "validation_matched", **columns)["label"].to_list() == [
            "contradiction",
            None,
        ]
        assert table_of(data, "glue/mnli", "validation_mismatched", **columns)["label"].to_list() == [
            "entailment"
        ]

    def test_qqp_leaves_out_broken_rows_as_tfds_does(self, tmp_path):
        head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        data = files(tmp_path, QQP__train_tsv=head + "5\t1\t2\tWhy?\tHow?\t1\n6\t1\t2\tWhy\n")
        table = table_of(data, "glue/qqp", "train", text="question1", text_pair="question2")
        assert table["label"].to_list() == ["duplicate"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailed\n",
                "got: entailed, did you mean `entailment`?",
            ),
            ("index\tsentence1\tsentence2\tlabel\n0\ta\tb\n", "line 2: expected 4 columns, got 3"),
            ("index\tsentence1\tlabel\n0\ta\tentailment\n", "no column `sentence2`"),
        ],
    )
    def test_mistakes(self, tmp_path, content, message):
        data = files(tmp_path, RTE__train_tsv=content)
        with pytest.raises(KftError) as error:
            table_of(data, "glue/rte", "train", text="sentence1", text_pair="sentence2")
        assert message in str(error.value)

    def test_superglue_lines_become_rows(self, tmp_path):
        copa = {
            "premise": "It rained.",
            "choice1": "Wet.",
            "choice2": "Dry.",
            "question": "effect",
            "label": 1,
            "idx": 4,
        }
        passage = {
            "text": "Ann met Bo, and Ann left.",
            "entities": [{"start": 0, "end": 2}, {"start": 8, "end": 9}, {"start": 16, "end": 18}],
        }
        query = {"query": "@placeholder left.", "idx": 7, "answers": [{"text": "Ann"}]}
        answer = {"text": "Ann", "idx": 1, "label": 1}
        question = {"question": "Who left?", "idx": 3, "answers": [answer]}
        wsc = {"text": "Jo told her , so she knew.", "idx": 2, "label": True}
        wsc["target"] = {"span1_text": "Jo", "span1_index": 0, "span2_text": "she", "span2_index": 5}
        data = files(
            tmp_path,
            COPA__val_jsonl=json.dumps(copa),
            ReCoRD__val_jsonl=json.dumps({"idx": 5, "passage": passage, "qas": [query]}),
            MultiRC__val_jsonl=json.dumps({"idx": 6, "passage": {"text": "P.", "questions": [question]}}),
            WSC__val_jsonl=json.dumps(wsc),
            BoolQ__val_jsonl=json.dumps({"question": "q", "passage": "p", "idx": 0, "label": True}),
        )
        pair = {"text": "text", "text_pair": "text_pair"}
        rows = table_of(data, "super_glue/copa", "validation", **pair).rows(named=True)
        assert [(r["text_pair"], r["label"], r["group"]) for r in rows] == [
            ("Wet.", "0", "4"),
            ("Dry.", "1", "4"),
        ]
        rows = table_of(data, "super_glue/record", "validation", **pair).rows(named=True)
        assert [(r["text_pair"], r["label"]) for r in rows] == [("Ann left.", "1"), ("Bo left.", "0")]
        (row,) = table_of(data, "super_glue/multirc", "validation", **pair).rows(named=True)
        assert (row["text_pair"], row["label"], row["question"]) == ("Who left? Ann", "True", "6-3")
        (row,) = table_of(data, "super_glue/wsc.fixed", "validation").rows(named=True)
        spans = [row["text"][row[f"start{n}"] : row[f"end{n}"]] for n in (1, 2)]
        assert spans == ["Jo", "she"]
        boolq = table_of(data, "super_glue/boolq", "validation", text="passage", text_pair="question")
        assert boolq["label"].to_list() == ["True"]

    @pytest.mark.parametrize(
        ("text", "span", "index", "expected"),
        [
            ("Mark told Pete lies.", "Pete", 2, "Pete"),
            ("Mark told Pete lies.", "pete", 1, "Pete"),  # index and capitals off
            ("the cup, the cup fell", "the cup", 2, "the cup"),
            ("she saw her. Her cat", "her", 3, "Her"),
            ("a b c", "not there", 1, "b c"),
        ],
    )
    def test_spans_of_words(self, text, span, index, expected):
        start, end = word_span(text, span, index)
        assert text[start:end] == expected

    @needs_data
    @pytest.mark.parametrize(
        ("source", "columns", "split", "labels"),
        [
            ("glue/cola", ("sentence", None), "validation", {"acceptable": 719, "unacceptable": 324}),
            ("glue/mrpc", ("sentence1", "sentence2"), "train", {"equivalent": 2407, "not_equivalent": 1169}),
            (
                "glue/rte",
                ("sentence1", "sentence2"),
                "validation",
                {"entailment": 146, "not_entailment": 131},
            ),
            ("glue/wnli", ("sentence1", "sentence2"), "test", {None: 146}),
            (
                "glue/ax",
                ("premise", "hypothesis"),
                "test",
                {"entailment": 460, "neutral": 386, "contradiction": 258},
            ),
            (
                "super_glue/cb",
                ("premise", "hypothesis"),
                "train",
                {"entailment": 115, "contradiction": 119, "neutral": 16},
            ),
            ("super_glue/copa", ("text", "text_pair"), "validation", {"0": 100, "1": 100}),
            ("super_glue/multirc", ("text", "text_pair"), "validation", {"False": 2773, "True": 2075}),
            ("super_glue/wic", ("text", "text_pair"), "validation", {"False": 319, "True": 319}),
            ("super_glue/wsc.fixed", ("text", None), "validation", {"False": 66, "True": 38}),
        ],
    )
    def test_real_files(self, source, columns, split, labels):
        data = DataConfig(source=source, data_dir=str(SHARED_DATA), text=columns[0], text_pair=columns[1])
        assert split in benchmark_splits(data)
        frame, table = read_benchmark(data, split)
        assert dict(Counter(frame["label"])) == labels
        assert frame.height == table.height

    @needs_data
    def test_marked_words_of_wsc_are_the_stated_ones(self):
        data = DataConfig(source="super_glue/wsc.fixed", data_dir=str(SHARED_DATA))
        table = table_of(data, "super_glue/wsc.fixed", "train")
        lines = [
            json.loads(line) for line in (SHARED_DATA / "wsc/train.jsonl").read_text("utf-8").splitlines()
        ]
        for row, line in zip(table.iter_rows(named=True), lines, strict=True):
            for n in (1, 2):
                got, stated = (
                    row["text"][row[f"start{n}"] : row[f"end{n}"]],
                    line["target"][f"span{n}_text"],
                )
                assert got.split()[0].lower().strip(".,") == stated.split()[0].lower().strip(".,"), (
                    got,
                    stated,
                )


def predictions(seed: int, labels: tuple[str, ...], rows: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    target = rng.choice(labels, rows)
    return pl.DataFrame(
        {"target": target, "answer": np.where(rng.random(rows) < 0.6, target, rng.choice(labels, rows))}
    )


def by_hand(table: pl.DataFrame, label: str) -> float:
    """F1 of one label from its counts."""
    pairs = list(zip(table["target"], table["answer"], strict=True))
    right = sum(t == a == label for t, a in pairs)
    return 2 * right / (sum(t == label for t, _ in pairs) + sum(a == label for _, a in pairs))


class TestMetrics:
    """Against formulas written out here, to 1e-9."""

    @pytest.mark.parametrize("labels", [("not_equivalent", "equivalent"), ("b", "a")])
    def test_f1_is_that_of_the_benchmarks_positive_class(self, labels):
        table = predictions(0, labels)
        assert scoring.classes("f1")(table, labels)["f1"] == pytest.approx(
            by_hand(table, labels[1]), abs=1e-9
        )

    def test_accuracy_and_macro_f1(self):
        labels = ("entailment", "contradiction", "neutral")
        table = predictions(1, labels)
        scores = scoring.classes("f1_macro", "accuracy")(table, labels)
        assert scores["f1_macro"] == pytest.approx(sum(by_hand(table, x) for x in labels) / 3, abs=1e-9)
        right = sum(t == a for t, a in table.rows())
        assert scores["accuracy"] == pytest.approx(right / 300, abs=1e-9)

    def test_matthews(self):
        labels = ("unacceptable", "acceptable")
        table = predictions(2, labels)
        n = Counter(table.rows())
        tp, tn = n[labels[1], labels[1]], n[labels[0], labels[0]]
        fp, fn = n[labels[0], labels[1]], n[labels[1], labels[0]]
        expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        assert scoring.classes("matthews_correlation")(table, labels)[
            "matthews_correlation"
        ] == pytest.approx(expected, abs=1e-9)

    def test_correlations(self):
        rng = np.random.default_rng(3)
        x = np.round(rng.uniform(0, 5, 200), 1)
        y = x + rng.normal(0, 1, 200)
        scores = scoring.correlations(pl.DataFrame({"target": x.astype(str), "answer": y}), ())

        def pearson(a, b):
            a, b = a - a.mean(), b - b.mean()
            return (a @ b) / math.sqrt((a @ a) * (b @ b))

        def ranks(a):  # the mean rank of equal values
            return np.array([(a < v).sum() + ((a == v).sum() + 1) / 2 for v in a])

        assert scores["pearson"] == pytest.approx(pearson(x, y), abs=1e-9)
        assert scores["spearman"] == pytest.approx(pearson(ranks(x), ranks(y)), abs=1e-9)

    def test_multirc(self):
        labels = ("False", "True")
        table = predictions(4, labels).with_columns(question=pl.Series([f"{i // 4}" for i in range(300)]))
        wrong = {q for t, a, q in table.rows() if t != a}
        scores = scoring.multirc(table, labels)
        assert scores["f1a"] == pytest.approx(by_hand(table, "True"), abs=1e-9)
        assert scores["exact_match"] == pytest.approx(1 - len(wrong) / 75, abs=1e-9)

    def test_record(self):
        table = pl.DataFrame(
            {
                "passage_idx": [0, 0, 1, 1, 2],
                "query_idx": [0, 0, 1, 1, 2],
                "entity": ["The U.S. Army", "Bo", "New York City", "Bo", "Paris"],
                "answers": [["us army"]] * 2 + [["New York", "York"]] * 2 + [["Rome"]],
                "answer": [2.0, 1.0, 2.0, 1.0, 0.0],
                "target": ["1", "0", "0", "0", "0"],
            }
        )
        # exactly right but for article, case and points; two of three words (precision 2/3, recall
        # 1); nothing
        expected = {"f1": (1 + 2 * (2 / 3) / (2 / 3 + 1) + 0) / 3, "exact_match": 1 / 3}
        assert scoring.record(table, ()) == pytest.approx(expected, abs=1e-9)

    def test_gender_parity(self):
        table = pl.DataFrame(
            {
                "target": ["entailment"] * 4,
                "answer": ["entailment", "entailment", "entailment", "not_entailment"],
            }
        )
        scores = scoring.gender_parity(table, ("entailment", "not_entailment"))
        assert scores == {"accuracy": 0.75, "gender_parity": 0.5}


def answered(task, rows: int) -> pl.DataFrame:
    """Any answers to as many rows, with the columns that the task's file needs."""
    if task.name == "stsb":
        return pl.DataFrame({"answer": np.linspace(-1, 6, rows)})
    if task.name == "multirc":
        index = np.arange(rows)
        return pl.DataFrame(
            {
                "paragraph_idx": index // 50,
                "question_idx": index // 5,
                "answer_idx": index,
                "answer": ["True", "False", "True"] * (rows // 3),
            }
        )
    if task.name in ("copa", "record"):
        index = np.repeat(np.arange(rows), 2)
        frame = {
            "idx": index,
            "passage_idx": index,
            "query_idx": index,
            "option": [0, 1] * rows,
            "answer": np.sin(np.arange(2 * rows)),
        }
        return pl.DataFrame(frame | {"entity": ["Ann", "Bo"] * rows})
    return pl.DataFrame(
        {"idx": range(rows), "answer": [task.labels[i % len(task.labels)] for i in range(rows)]}
    )


def guessed(task, rows: int, seed: int) -> tuple[pl.DataFrame, list | dict]:
    """`answered` with random targets and answers, and right answers as the server spells them."""
    rng = np.random.default_rng(seed)
    if task.name == "stsb":  # with ties, and rounded as the file is
        target, answer = np.round(rng.uniform(0, 5, rows), 1), np.round(rng.uniform(0, 5, rows), 3)
        return pl.DataFrame({"target": target.astype(str), "answer": answer}), target.tolist()
    if task.name in ("copa", "record"):
        names = ["The U.S. Army", "us army", "New York City", "New York", "York.", "an Army", "Paris"]
        table = answered(task, rows).with_columns(
            pl.Series("answer", rng.normal(size=2 * rows)),
            pl.Series("entity", rng.choice(names, 2 * rows)),
        )
        right = rng.integers(0, 2, rows)
        answers = [rng.choice(names, rng.integers(1, 3)).tolist() for _ in range(rows)]
        table = table.with_columns(
            pl.Series("target", [str(int(i % 2 == right[i // 2])) for i in range(2 * rows)]),
            pl.Series("answers", [answers[i // 2] for i in range(2 * rows)]),
        )
        return table, right.tolist() if task.name == "copa" else answers
    target = rng.choice(task.labels, rows)
    answer = np.where(rng.random(rows) < 0.6, target, rng.choice(task.labels, rows))
    table = answered(task, rows).with_columns(pl.Series("target", target), pl.Series("answer", answer))
    if task.name == "multirc":
        table = table.with_columns(pl.format("{}-{}", "paragraph_idx", "question_idx").alias("question"))
        index = table.select("paragraph_idx", "question_idx", "answer_idx").rows()
        return table, dict(zip(index, (int(t == "True") for t in target), strict=True))
    form = task.submissions[0].form
    spell = {"tsv_ids": lambda t: str(task.labels.index(t)), "json_lower": str.lower}.get(form, str)
    return table, [spell(t) for t in target]


@pytest.mark.parametrize(("suite", "task"), TASKS, ids=[f"{s}-{t.name}" for s, t in TASKS])
def test_a_server_written_by_hand_computes_the_same_scores_from_the_file(suite, task):
    for seed in range(3):
        table, gold = guessed(task, 300, seed)
        lines = submission.FORMS[task.submissions[0].form].lines(table, task.labels)
        by_server = benchmark_scorer.score(task.name, lines, gold)
        assert task.score(table, task.labels) == pytest.approx(by_server, abs=1e-9, rel=0)
        assert len(set(by_server.values()) & {0.0, 1.0}) == 0


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    """A whole submission for each suite."""
    folder = tmp_path_factory.mktemp("zips")
    return {
        suite: submission.write(
            folder / f"{suite}.zip",
            [(s, t.labels, answered(t, s.rows)) for t in tasks for s in t.submissions],
        )
        for suite, tasks in SUITES.items()
    }


class TestSubmission:
    @pytest.mark.parametrize("suite", list(SUITES))
    def test_what_kft_writes_is_right(self, zips, suite):
        assert len(check(suite, zips[suite])) == {"glue": 11, "superglue": 10}[suite]

    @pytest.mark.parametrize(
        ("suite", "file", "first"),
        [
            ("glue", "CoLA.tsv", ["index\tprediction", "0\t0", "1\t1"]),
            ("glue", "MNLI-mm.tsv", ["index\tprediction", "0\tentailment", "1\tneutral"]),
            ("glue", "STS-B.tsv", ["index\tprediction", "0\t0.000"]),
            ("superglue", "BoolQ.jsonl", ['{"idx": 0, "label": "false"}', '{"idx": 1, "label": "true"}']),
            ("superglue", "WSC.jsonl", ['{"idx": 0, "label": "False"}']),
            ("superglue", "COPA.jsonl", ['{"idx": 0, "label": 1}']),
            ("superglue", "ReCoRD.jsonl", ['{"idx": 0, "label": "Bo"}']),
        ],
    )
    def test_first_lines(self, zips, suite, file, first):
        with zipfile.ZipFile(zips[suite]) as archive:
            lines = archive.read(file).decode().split("\n")
        assert lines[: len(first)] == first

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("Cola.tsv", lambda t: t, "takes no file of that name, did you mean `CoLA.tsv`?"),
            ("RTE.tsv", lambda t: t.rsplit("\n", 2)[0], "must have 3,000 rows, got 2,999"),
            (
                "RTE.tsv",
                lambda t: t.replace("0\tent", "0\tEnt", 1),
                "must be one of entailment, not_entailment, got: 'Ent",
            ),
            ("RTE.tsv", lambda t: t.replace("1\tnot_", "7\tnot_", 1), "must be 1, tab, prediction"),
            ("RTE.tsv", lambda t: t.replace("index\t", "idx\t"), "line 1: must be index, tab, prediction"),
            ("CoLA.tsv", lambda t: t.replace("0\t0", "0\tacceptable", 1), "must be 0 or 1"),
            (
                "STS-B.tsv",
                lambda t: t.replace("\t5.000", "\t5.1", 1),
                "must be a number from 0 to 5, got: '5.1'",
            ),
            (
                "BoolQ.jsonl",
                lambda t: t.replace('"true"', "true", 1),
                'label must be "true" or "false", got: True',
            ),
            ("COPA.jsonl", lambda t: t.replace('"idx": 0', '"idx": 9', 1), 'must be {"idx": 0, "label"'),
            (
                "MultiRC.jsonl",
                lambda t: t.replace('"label": 1', '"label": 2', 1),
                "label must be 0 or 1, got: 2",
            ),
            ("MultiRC.jsonl", lambda t: t.split("\n", 1)[1], "answers, got"),
            (
                "MultiRC.jsonl",
                lambda t: t.replace('{"idx": 1, "answers"', '{"answers"', 1),
                "questions[] with idx",
            ),
            (
                "MultiRC.jsonl",
                lambda t: t.replace('{"idx": 1, "answers"', '{"idx": 0, "answers"', 1),
                "line 1: question 0 occurs twice",
            ),
            (
                "MultiRC.jsonl",
                lambda t: t.replace('{"idx": 1, "label"', '{"idx": 0, "label"', 1),
                "line 1: an answer occurs twice",
            ),
        ],
    )
    def test_the_checker_refuses(self, zips, tmp_path, name, change, message):
        suite = "glue" if name.endswith("tsv") else "superglue"
        source = {"Cola.tsv": "CoLA.tsv"}.get(name, name)
        with zipfile.ZipFile(zips[suite]) as archive:
            (tmp_path / name).write_text(change(archive.read(source).decode()))
        result = CliRunner().invoke(main, ["suite", suite, "--check", str(tmp_path / name)])
        assert result.exit_code == 1
        assert message in result.stderr

    def test_a_zip_lacks_a_file(self, zips, tmp_path):
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.writestr("README", "x")
        with pytest.raises(KftError, match="AX.tsv: is missing|README: the server takes no file"):
            check("glue", tmp_path / "s.zip")


class TestRecords:
    @pytest.mark.parametrize(("suite", "task"), TASKS, ids=[f"{s}-{t.name}" for s, t in TASKS])
    def test_labels_are_those_of_the_reader(self, suite, task):
        source = task.source or configs.load(task.config).data.source
        if task.labels and source in benchmarks.BENCHMARKS:
            assert benchmarks.BENCHMARKS[source].labels == task.labels

    def test_scores_are_those_of_labelled_rows_and_say_their_split(self):
        task = next(task for task in SUITES["glue"] if task.name == "mnli")
        targets = ["entailment", "neutral", None]
        table = pl.DataFrame({"target": targets, "answer": ["entailment", "contradiction", "neutral"]})
        assert task.scored(table, "validation_matched") == {"accuracy_matched": 0.5}
        assert task.scored(table.tail(1), "validation_matched") == {}

    def test_published_figures_name_tasks_and_metrics_that_there_are(self):
        for suite, known in published.PUBLISHED.items():
            for record in known:
                assert set(record.scores) <= {task.name for task in SUITES[suite]}
        assert published.figures("glue", "all_minilm_l6_v2_en") == []

    # BERT-Large on the two leaderboards, scores and the average beside them.
    GLUE = {
        "cola": [60.5], "sst2": [94.9], "mrpc": [89.3, 85.4], "stsb": [87.6, 86.5], "qqp": [72.1, 89.3],
        "mnli": [86.7, 85.9], "qnli": [92.7], "rte": [70.1], "wnli": [65.1], "ax": [39.6],
    }  # fmt: skip
    SUPERGLUE = {
        "boolq": [77.4], "cb": [75.7, 83.6], "copa": [70.6], "multirc": [70.0, 24.1], "record": [72.0, 71.3],
        "rte": [71.7], "wic": [69.6], "wsc": [64.4], "axb": [23.0], "axg": [97.8, 51.7],
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("suite", "scores", "average"), [("glue", GLUE, 80.5), ("superglue", SUPERGLUE, 69.0)]
    )
    def test_the_average_is_the_leaderboards(self, suite, scores, average):
        done = {
            task: {1: {"metrics": dict(zip("ab", values, strict=False)), "train_seconds": 1.0}}
            for task, values in scores.items()
        }
        tasks = tuple(task for task in SUITES[suite] if task.name in scores)
        result = summary.summarize(suite, "x", (1,), tasks, done, [], False)["average"]
        assert round(result["score"], 1) == average
        assert result["score"] == pytest.approx(benchmark_scorer.average(scores), abs=1e-9)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Tiny RTE, MNLI, CoLA and AX in the layout of GLUE's archive."""
    root = tmp_path_factory.mktemp("glue_data")
    rows = sentences(48, seed=5)
    names = {"positive": "entailment", "negative": "not_entailment"}

    def table(label, rows=rows):
        lines = [f"{i}\t{text}\tthe film\t{label(i, kind)}" for i, (text, kind) in enumerate(rows)]
        return "\n".join(["index\tsentence1\tsentence2\tlabel", *lines]) + "\n"

    nli = ("entailment", "neutral", "contradiction")
    content = {
        "RTE/train.tsv": table(lambda i, kind: names[kind]),
        "RTE/dev.tsv": table(lambda i, kind: names[kind], rows[:17]),
        "RTE/test.tsv": "index\tsentence1\tsentence2\n0\tgood film\ta plot\n1\tbad film\ta plot\n",
        "MNLI/train.tsv": table(lambda i, kind: nli[i % 3]).replace("\tlabel", "\tgold_label"),
        "MNLI/dev_matched.tsv": table(lambda i, kind: nli[i % 3], rows[:9]).replace(
            "\tlabel", "\tgold_label"
        ),
        "MNLI/dev_mismatched.tsv": table(lambda i, kind: nli[i % 3], rows[9:21]).replace(
            "\tlabel", "\tgold_label"
        ),
        "diagnostic/diagnostic.tsv": "index\tsentence1\tsentence2\n0\tgood film\ta plot\n",
    }
    for name, text in content.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(scope="module")
def suite_run(archive, tiny_preset, tmp_path_factory):
    """A suite over three tasks and two seeds; CoLA fails, since its files are not there."""
    folder = tmp_path_factory.mktemp("suite") / "glue"
    return running.run("glue", folder=folder, **arguments(archive, tiny_preset)), folder


def arguments(archive, tiny_preset) -> dict:
    overrides = ("train.epochs=1", "train.batch_size=16", "model.max_length=16", "train.learning_rate=0.01")
    return {
        "tasks": ["rte", "mnli", "ax", "wnli"],
        "seeds": (1, 2),
        "overrides": (*running.shared(str(tiny_preset), str(archive)), *overrides),
        "from_mnli": True,
    }


class TestSuite:
    def test_scores_and_average(self, suite_run):
        content, folder = suite_run
        tasks = {task["task"]: task for task in content["tasks"]}
        assert set(tasks["mnli"]["metrics"]) == {"accuracy_matched", "accuracy_mismatched"}
        rte = tasks["rte"]["metrics"]["accuracy"]
        values = list(rte["values"].values())
        assert rte["mean"] == pytest.approx(sum(values) / 2)
        assert rte["sd"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
        mnli = sum(m["mean"] for m in tasks["mnli"]["metrics"].values()) / 2
        assert content["average"]["score"] == pytest.approx((rte["mean"] + mnli) / 2)
        assert {"suite.json", "suite.md", "suite.html", "submission.zip"} <= {
            f.name for f in folder.iterdir()
        }

    def test_a_failing_task_does_not_stop_the_others(self, suite_run):
        content, _ = suite_run
        assert {(f["task"], f["seed"]) for f in content["failed"]} == {("wnli", 1), ("wnli", 2)}
        assert "failed: wnli, seeds 1, 2: " in summary.text(content)

    def test_the_score_is_that_of_the_run(self, suite_run):
        content, folder = suite_run
        score = next(t for t in content["tasks"] if t["task"] == "rte")["metrics"]["accuracy"]["values"]["1"]
        assert score == pytest.approx(
            runs.read_json(folder / "runs/rte-from-mnli-seed1/metrics.json")["validation"]["accuracy"]
        )

    def test_finished_pairs_are_not_trained_again(self, suite_run, archive, tiny_preset, monkeypatch):
        content, folder = suite_run
        monkeypatch.setattr(train, "_train", lambda *_, **__: pytest.fail("trains again"))
        wanted = arguments(archive, tiny_preset) | {"tasks": ["rte", "mnli", "ax"]}
        again = running.run("glue", folder=folder, **wanted)
        assert again["average"] == content["average"]
        other = wanted | {"overrides": (*wanted["overrides"], "train.weight_decay=0.5")}
        failed = running.run("glue", folder=folder, **other)["failed"]
        assert any("was trained with another train.weight_decay" in f["error"] for f in failed)

    def test_what_was_stopped_goes_on(self, archive, tiny_preset, tmp_path, monkeypatch):
        wanted = arguments(archive, tiny_preset) | {"tasks": ["rte"], "seeds": (1,), "from_mnli": False}
        wanted["overrides"] = (*wanted["overrides"], "train.epochs=3")
        finish = train._finish_epoch

        def stop(model, validation, epoch, course):
            finish(model, validation, epoch, course)
            raise train.Stopped(course.run)

        with monkeypatch.context() as patch:
            patch.setattr(train, "_finish_epoch", stop)
            with pytest.raises(train.Stopped):
                running.run("glue", folder=tmp_path / "a", **wanted)
        assert not (tmp_path / "a/scores").exists()
        content = running.run("glue", folder=tmp_path / "a", **wanted)
        assert content["failed"] == []
        whole = running.run("glue", folder=tmp_path / "b", **wanted)
        assert content["tasks"][0]["metrics"] == whole["tasks"][0]["metrics"]

    def test_starts_from_mnli(self, suite_run):
        _, folder = suite_run
        start = runs.read_json(folder / "runs/rte-from-mnli-seed1/model.json")["from_run"]
        assert start["path"] == str(folder / "runs/mnli-seed1")
        assert start["weights_sha256"] == runs.file_sha256(folder / "runs/mnli-seed1/model.weights.h5")
        assert start["head_kept"] is False  # two labels, not three

    def test_answers(self, suite_run):
        content, folder = suite_run
        assert content["submission"]["seeds"].keys() == {"RTE.tsv", "AX.tsv"}
        assert content["submission"]["refused"] == [
            "RTE.tsv: must have 3,000 rows, got 2",
            "AX.tsv: must have 1,104 rows, got 1",
        ]
        with zipfile.ZipFile(folder / "submission.zip") as zipped:
            lines = zipped.read("RTE.tsv").decode().splitlines()
        assert lines[0] == "index\tprediction"
        assert [line.split("\t")[0] for line in lines[1:]] == ["0", "1"]
        assert {line.split("\t")[1] for line in lines[1:]} <= {"entailment", "not_entailment"}

    def test_every_field_is_documented(self, suite_run):
        from test_runs import is_documented, names

        content, folder = suite_run
        fields = names(json.loads((folder / "suite.json").read_text()))
        assert not [name for name in fields if not is_documented(name, summary.FIELDS)]

    def test_mistakes(self):
        result = CliRunner().invoke(main, ["suite", "glue", "--tasks", "colla,ax"])
        assert result.exit_code == 1
        assert "glue has no task `colla`, did you mean `cola`?" in result.stderr
        assert CliRunner().invoke(main, ["suite", "glue", "--seeds", "a"]).exit_code == 2


class TestFromRun:
    def test_weights_and_head_are_those_of_the_run(self, tiny_run, tiny_settings, tmp_path):
        settings = tiny_settings | {
            "model": tiny_settings["model"] | {"from_run": str(tiny_run)},
            "train": tiny_settings["train"] | {"epochs": 1, "learning_rate": 1e-9},
        }
        result = train.train(configs.parse(settings), tmp_path / "next")
        start, end = (models.load(RunDir(path)) for path in (tiny_run, tmp_path / "next"))
        for a, b in zip(start.get_weights(), end.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert runs.read_json(tmp_path / "next" / "model.json")["from_run"]["head_kept"] is True
        assert result["metrics"]["validation"] == pytest.approx(
            runs.read_json(tiny_run / "metrics.json")["validation"], abs=1e-3
        )

    def test_a_head_that_reads_marked_words_is_new(self, tiny_run):
        preset, architecture = presets.locate("x", str(tiny_run)), models.read_architecture(RunDir(tiny_run))
        labels = runs.read_labels(RunDir(tiny_run))
        assert models.keeps_head(preset, labels[::-1], architecture)
        assert not models.keeps_head(preset, labels, replace(architecture, spans=1))
        assert not models.keeps_head(preset, ["other", "names"], architecture)

    def test_no_such_run(self, tiny_settings, tmp_path):
        settings = tiny_settings | {"model": {"from_run": str(tmp_path / "none")}}
        with pytest.raises(KftError, match="no such run folder"):
            train.train(configs.parse(settings), tmp_path / "next")


def prepare_offline(source: str, folder, root: str, **lines: str) -> DataConfig:
    """Puts an archive where TFDS keeps its downloads, so that it needs no network.

    `train_tsv` is the file train.tsv.
    """
    tfds = pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core.download import resource

    builder = tfds.builder(source, data_dir=folder)
    url = builder.builder_config.data_url
    place = folder / "downloads" / builder.name / resource.get_dl_fname(url, builder.url_infos[url].checksum)
    place.parent.mkdir(parents=True)
    with zipfile.ZipFile(place, "w") as zipped:
        for name, content in lines.items():
            zipped.writestr(f"{root}/{'.'.join(name.rsplit('_', 1))}", content)
    # What TFDS writes beside a download; without it the archive does not count as downloaded.
    place.with_name(place.name + ".INFO").write_text(json.dumps({"urls": [url], "original_fname": "a.zip"}))
    return DataConfig(source=source, data_dir=str(folder))


def test_tfds_prepares_a_glue_task_from_a_local_archive(tmp_path):
    rows = "\n".join(f"gj04\t{i % 2}\t\tSentence {i}." for i in range(6)) + "\n"
    test = "index\tsentence\n0\tOne.\n1\tTwo.\n"
    data = prepare_offline("glue/cola", tmp_path, "CoLA", train_tsv=rows, dev_tsv=rows, test_tsv=test)
    data = data.model_copy(update={"text": "sentence"})
    frame, _ = read_benchmark(data, "validation")
    assert frame["text"].to_list() == [f"Sentence {i}." for i in range(6)]  # TFDS shuffles them
    assert frame["label"].to_list() == ["unacceptable", "acceptable"] * 3
    assert read_benchmark(data, "test")[0]["label"].to_list() == [None, None]


def test_tfds_prepares_a_superglue_task_from_a_local_archive(tmp_path):
    row = {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry.", "question": "cause"}
    train = "\n".join(json.dumps(row | {"idx": i, "label": i % 2}) for i in range(4))
    test = json.dumps(row | {"idx": 0})
    data = prepare_offline(
        "super_glue/copa", tmp_path, "COPA", train_jsonl=train, val_jsonl=train, test_jsonl=test
    )
    data = data.model_copy(update={"text_pair": "text_pair", "group": "group"})
    frames = sources.read(data)
    assert frames["train"]["label"].to_list() == ["1", "0", "0", "1"] * 2
    assert frames["train"]["group"].to_list() == [str(i // 2) for i in range(8)]
    assert frames["test"]["label"].to_list() == [None, None]


def test_a_suite_over_what_tfds_prepared(tmp_path, tiny_preset):
    nli = ("contradiction", "entailment", "neutral")  # not TFDS's order

    def table(count, seed, labelled=True):
        rows = [f"{i}\t{text}\tthe film" for i, (text, _) in enumerate(sentences(count, seed))]
        head = "index\tsentence1\tsentence2" + "\tgold_label" * labelled
        return (
            "\n".join([head, *(f"{r}\t{nli[i % 3]}" if labelled else r for i, r in enumerate(rows))]) + "\n"
        )

    data = prepare_offline(
        "glue/mnli", tmp_path / "tfds", "MNLI",
        train_tsv=table(48, 1), dev_matched_tsv=table(12, 2), dev_mismatched_tsv=table(9, 3),
        test_matched_tsv=table(5, 4, labelled=False), test_mismatched_tsv=table(4, 5, labelled=False),
    )  # fmt: skip
    data = data.model_copy(update={"text": "premise", "text_pair": "hypothesis"})
    assert read_benchmark(data, "validation_mismatched")[0]["label"].to_list() == list(nli) * 3
    assert read_benchmark(data, "test_matched")[0]["label"].to_list() == [None] * 5
    overrides = ("train.epochs=1", "train.batch_size=16", "model.max_length=16")
    shared = running.shared(str(tiny_preset), str(tmp_path / "tfds"))
    content = running.run("glue", ["mnli"], (1,), (*shared, *overrides), tmp_path / "run")
    assert content["failed"] == []
    assert set(content["tasks"][0]["metrics"]) == {"accuracy_matched", "accuracy_mismatched"}
    with zipfile.ZipFile(tmp_path / "run" / "submission.zip") as zipped:
        lines = [zipped.read(f"MNLI-{kind}.tsv").decode().splitlines() for kind in ("m", "mm")]
    assert [len(part) for part in lines] == [1 + 5, 1 + 4]
    assert {line.split("\t")[1] for part in lines for line in part[1:]} <= set(nli)
