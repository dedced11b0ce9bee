"""The plain table, curves.png and report.html of run directories, whole and half ones."""

import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib import image

from kft import report, runs
from kft.errors import KftError
from kft.runs import RunDir
from kft.tasks import scoring

BBC = ["business", "entertainment", "politics", "sports", "tech"]
CONFIG = """\
task = "{task}"
backend = "jax"
[data]
train = "/home/ada/articles/train.csv"
text = "text"
[model]
max_length = 256
[train]
epochs = 3
learning_rate = 5e-5
batch_size = 32
"""


def make_run(
    folder, labels=BBC, count=220, epochs=3, splits=("validation", "test"), text="Shares rose again", seed=0
):
    """A finished run on made-up predictions; without labels, of a regression."""
    run, random = RunDir(Path(folder)), np.random.default_rng(seed)
    run.path.mkdir(parents=True, exist_ok=True)
    kind = "classification" if labels else "regression"
    run.config.write_text(CONFIG.format(task=kind), "utf-8")
    runs.write_json(
        run.environment,
        {"backend": "jax", "devices": ["cpu: x86"], "versions": {"kft": "0.1.0", "keras": "3.15.1"}},
    )
    runs.write_json(run.labels, {"labels": list(labels)})
    scores, details, account = {}, {}, {"train": _account("train", labels, count * 8, random)}
    for split in splits:
        targets, predictions = _predict(labels, count, random)
        scores[split] = scoring.scores(kind, targets, predictions, list(labels))
        details[split] = scoring.details(kind, targets, predictions, list(labels), resamples=200)
        account[split] = _account(split, labels, count, random)
        texts = [f"{text} ({i})" for i in range(count)]
        _frame(labels, targets, predictions, texts).write_parquet(run.predictions(split))
    runs.write_json(run.metrics, scores)
    runs.write_json(run.details, details)
    leaks = {"validation": 2, "test": 0, "dropped_from_train": 0}
    runs.write_json(
        run.data,
        {
            "format": 1,
            "splits": account,
            "leaks": leaks,
            "cut": {"method": "stratified", "seed": 0, "validation_fraction": 0.1},
        },
    )
    _write_history(run, kind, scores.get("validation", {}), epochs, random)
    return run


def _predict(labels, count, random):
    if not labels:
        targets = random.uniform(0, 5, count).round(1)
        return targets, targets * 0.8 + 0.4 + random.normal(0, 0.5, count)
    targets = np.append(
        np.arange(len(labels)), random.integers(len(labels), size=max(count - len(labels), 0))
    )[:count]
    logits = random.normal(0, 1, (count, len(labels)))
    logits[np.arange(count), targets] += 3.5
    raised = np.exp(logits)
    return targets, raised / raised.sum(axis=1, keepdims=True)


def _frame(labels, targets, predictions, texts):
    columns = {"id": range(len(texts)), "text": texts}
    if not labels:
        return pl.DataFrame(columns | {"target": targets, "value": predictions})
    return pl.DataFrame(
        columns
        | {"target": [labels[i] for i in targets], "label": [labels[i] for i in predictions.argmax(axis=1)]}
        | {"score": predictions.max(axis=1), "probabilities": predictions.tolist()}
    )


def _account(split, labels, count, random):
    tokens = {
        "mean": 181.2,
        "p50": 170,
        "p90": 240,
        "p95": 251,
        "p99": 256,
        "max": 256,
        "truncated_fraction": 0.1234,
    }
    spread = random.multinomial(count, np.ones(len(labels)) / len(labels)).tolist() if labels else []
    values = (
        {"labels": dict(zip(labels, spread, strict=True))}
        if labels
        else {"values": {"min": 0.0, "mean": 2.5, "max": 5.0}}
    )
    return {
        "origins": [f"{split}.csv"],
        "read": count + 7,
        "dropped": {"empty_text": 4} if split == "train" else {"missing_label": 3},
        "moved": 0,
        "examples": count,
        **values,
        "duplicates": {"exact": 5, "normalized": 6, "conflicting_labels": 1},
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "tokens": tokens,
    }


def _write_history(run, kind, scores, epochs, random, steps=60):
    lines = []
    for step in range(5, steps * epochs + 1, 5):
        loss = 1.5 * np.exp(-step / 40) + 0.1 + random.normal(0, 0.03)
        rate = 5e-5 * min(step / 10, 1) * (1 - step / (steps * epochs))
        train = {
            "event": "train",
            "step": step,
            "epoch": step / steps,
            "loss": loss,
            "learning_rate": rate,
            "examples_per_second": 37.0,
        }
        lines.append(train)
        if step % steps == 0:
            epoch = step // steps
            lower = {name: value and value - 0.05 * (epochs - epoch) for name, value in scores.items()}
            lines.append(
                {"event": "evaluation", "epoch": epoch, "step": step, "train_loss": loss, "loss": loss + 0.1}
                | {"metrics": runs.finite(lower), "seconds": 4.2, "best": True}
            )
    run.history.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_data(self, data):
        self.texts.append(data)


def read_page(run):
    report.report(run)
    return Page(run.report.read_text("utf-8"))


@pytest.fixture(scope="module")
def bbc(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("bbc"))


def test_page_reports_the_run(bbc):
    page, scores = read_page(bbc), runs.read_json(bbc.metrics)
    assert "Classification of train.csv on JAX" in page.text and "all_minilm_l6_v2_en" in page.text
    for split in ("test", "validation"):
        assert f"{scores[split]['accuracy']:.4f} {split} accuracy 95 % interval" in page.text
    for part in (
        "Confusion matrix",
        "Reliability",
        "Worst mistakes",
        "Label balance",
        "Environment",
        "Learning rate",
    ):
        assert part in page.text
    assert page.text.index("Test 220 examples") < page.text.index("Validation 220 examples")
    assert (
        "dropped empty text 4 dropped missing label 3 3 moved" in page.text
        and "tokens truncated 12.3% 12.3% 12.3%" in page.text
    )
    assert (
        "leaks validation 2" in page.text
        and "cut validation 10.0%" in page.text
        and "versions keras 3.15.1" in page.text
    )
    assert page.tags.count("svg") == 3 + 2 * 2  # curves, and two for each split


def test_page_shows_the_settings_that_differ(bbc):
    changed = re.search(
        r"What differs from the defaults</h3>\s*<pre>(.*?)</pre>", bbc_html(bbc), re.DOTALL
    ).group(1)
    assert "learning_rate = 5e-05" in changed and "max_length = 256" in changed
    assert "epochs" not in changed and "batch_size" not in changed and "task" not in changed


def bbc_html(run):
    report.report(run)
    return run.report.read_text("utf-8")


def test_page_needs_no_network_and_no_script(bbc):
    page = read_page(bbc)
    assert not {"script", "link", "iframe", "img", "object", "embed", "base"} & set(page.tags)
    loading = [
        a
        for a in page.attributes
        if a[1] in ("src", "href", "srcset", "action", "data") or a[1].startswith("on")
    ]
    assert loading == []
    html = bbc_html(bbc)
    assert "url(" not in html and "@import" not in html and "http" not in re.sub("http-equiv", "", html)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_page_has_both_colour_schemes_and_fits_narrow_screens(bbc):
    html = bbc_html(bbc)
    assert "@media (prefers-color-scheme: dark)" in html
    assert ("meta", "content", "width=device-width, initial-scale=1") in read_page(bbc).attributes


def test_heat_map_holds_the_confusion_matrix(bbc):
    matrix = runs.read_json(bbc.details)["test"]["confusion_matrix"]
    titles = [value for tag, name, value in read_page(bbc).attributes if tag == "td" and name == "title"]
    assert titles[1].startswith(f"business → entertainment: {matrix[0][1]} (")
    assert len(titles) == 2 * 25


def test_worst_mistakes_are_the_surest_wrong_predictions(bbc):
    wrong = (
        pl.read_parquet(bbc.predictions("test"))
        .filter(pl.col("target") != pl.col("label"))
        .sort("score", descending=True)
    )
    worst = wrong.row(0, named=True)
    probability = worst["probabilities"][BBC.index(worst["target"])]
    listed = read_page(bbc).text.partition("Worst mistakes")[2]
    start = f"{worst['target']} {probability:.1%} taken for {worst['label']} {worst['score']:.1%} row {worst['id'] + 1} {worst['text']}"
    assert start in listed
    assert f"{len(wrong)} wrong prediction" in listed


def test_regression_page(tmp_path):
    run = make_run(tmp_path, labels=[], count=2000)
    page = read_page(run)
    frame = pl.read_parquet(run.predictions("test")).with_columns(error=pl.col("value") - pl.col("target"))
    worst = frame.sort(pl.col("error").abs(), descending=True).row(0, named=True)
    assert (
        f"target {worst['target']:.4f} predicted {worst['value']:.4f} error {worst['error']:+.4g}"
        in page.text
    )
    assert "Predictions against targets (1,500 of 2,000 examples)" in page.text
    assert "Confusion matrix" not in page.text and "values mean 2.5 2.5 2.5" in page.text
    assert sum(a == ("circle", "class", "cloud") for a in page.attributes) == 2 * 1500


def test_malicious_text_and_names_are_only_text(tmp_path):
    attack = '<script>alert("x")</script><img src=x onerror=alert(1)>"\'{{ 7 * 7 }}'
    labels = [attack, "</style><script>y()</script>", 'a" onmouseover="z()']
    run = make_run(tmp_path, labels=labels, text=attack)
    run.config.write_text(CONFIG.format(task="classification").replace("train.csv", "<script>.csv"), "utf-8")
    page = read_page(run)
    assert not {"script", "img"} & set(page.tags)
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert attack in page.text and labels[1] in page.text


@pytest.mark.parametrize(
    "labels",
    [["$x^2$", "a_b$"], ["正面", "负面", "中性的评论"], ["x" * 300, "y " * 200], ["a\nb\tc", "\x1b[31mred"]],
)
def test_odd_labels(tmp_path, labels):
    run = make_run(tmp_path, labels=labels, count=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = read_page(run)
        report.curves(run)
    assert " ".join(labels[0].split()) in page.text
    text = report.summary(runs.read_json(run.metrics), runs.read_json(run.details))
    assert labels[0][:5].replace("\n", " ").replace("\t", " ") in text
    assert "\x1b" not in text and "\t" not in text and max(map(len, text.splitlines())) < 90


def test_many_classes(tmp_path):
    run = make_run(tmp_path, labels=[f"class {i}" for i in range(60)], count=600)
    page = read_page(run)
    assert "The 30 of 60 classes with the lowest F1." in page.text
    assert "20 more labels stand in data.json" in page.text
    assert ("table", "class", "heat tiny") in page.attributes
    assert run.report.stat().st_size < 2e6
    huge = make_run(tmp_path / "huge", labels=[f"class {i}" for i in range(150)], count=600)
    assert "Confusion matrix" not in read_page(huge).text


def test_one_epoch_and_no_test_split(tmp_path):
    run = make_run(tmp_path, epochs=1, splits=("validation",))
    page = read_page(run)
    assert "validation accuracy" in page.text and "test accuracy" not in page.text
    assert ("details", "open", "") in page.attributes
    report.curves(run)


def test_perfect_predictions(tmp_path):
    run = make_run(tmp_path, splits=("test",), count=50)
    frame = pl.read_parquet(run.predictions("test"))
    frame.with_columns(label=pl.col("target")).write_parquet(run.predictions("test"))
    assert "Every prediction is right." in read_page(run).text


def test_text_pairs_and_missing_texts(tmp_path):
    run = make_run(tmp_path, splits=("test",))
    frame = pl.read_parquet(run.predictions("test"))
    pairs = pl.lit("the second text").alias("text_pair")
    frame.with_columns(pl.lit(None, pl.String).alias("text"), pairs).write_parquet(run.predictions("test"))
    assert "the second text" in read_page(run).text


def test_undefined_scores_are_dashes(tmp_path):
    run = make_run(tmp_path, labels=[], count=30)
    scores = runs.read_json(run.metrics)
    details = runs.read_json(run.details)
    scores["test"]["spearman"], details["test"]["intervals"]["spearman"] = None, [None, None]
    runs.write_json(run.metrics, scores)
    runs.write_json(run.details, details)
    assert "- test spearman" in read_page(run).text
    assert re.search(r"spearman +-\n", report.summary(scores, details))


@pytest.mark.parametrize(
    "missing", ["config", "environment", "data", "labels", "history", "metrics", "details", "predictions"]
)
def test_any_file_may_be_missing(tmp_path, missing):
    run = make_run(tmp_path, count=40)
    files = [run.predictions("test")] if missing == "predictions" else [getattr(run, missing)]
    for file in files:
        file.unlink()
    page = read_page(run)
    report.curves(run)
    assert "all_minilm_l6_v2_en" in page.text
    assert ("No split has been scored yet." in page.text) == (missing == "metrics")


def test_empty_run_folder(tmp_path):
    assert "No split has been scored yet." in read_page(RunDir(tmp_path)).text
    assert report.curves(RunDir(tmp_path)).exists()


def test_damaged_files_are_reported(tmp_path):
    run = make_run(tmp_path, count=40)
    whole = run.predictions("test").read_bytes()
    run.predictions("test").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KftError, match=r"predictions.test.parquet: is damaged"):
        report.report(run)
    pl.DataFrame({"id": [0], "text": ["a"]}).write_parquet(run.predictions("test"))
    with pytest.raises(KftError, match=r"predictions.test.parquet: lacks a column"):
        report.report(run)
    run.history.write_text("{half\n{}\n", "utf-8")
    with pytest.raises(KftError, match=r"history.jsonl, line 1: is damaged"):
        report.curves(run)
    run.config.write_text("task = ", "utf-8")
    with pytest.raises(KftError, match=r"config.toml: is damaged"):
        report.report(run)


def test_history_forgives_a_cut_last_line_and_repeated_steps(tmp_path):
    run = make_run(tmp_path, count=40)
    lines = run.history.read_text("utf-8").splitlines()
    before = read_page(run).text
    run.history.write_text("\n".join([*lines, *lines[-3:], lines[-1][:20]]), "utf-8")
    assert read_page(run).text == before


def test_curves_are_a_picture_of_what_was_recorded(bbc, tmp_path):
    assert report.curves(bbc) == bbc.curves
    drawn = image.imread(bbc.curves)
    blank = image.imread(report.curves(RunDir(tmp_path)))
    assert drawn.shape == blank.shape == (432, 1800, 4)
    coloured = [int((np.ptp(picture[..., :3], axis=2) > 0.3).sum()) for picture in (drawn, blank)]
    assert coloured[0] > 3000 and coloured[1] == 0
    assert not list(bbc.path.glob(".*")), "nothing temporary stays"


def test_two_followed_metrics_share_a_chart(tmp_path):
    run = make_run(tmp_path, count=60)
    run.config.write_text(CONFIG.format(task="classification") + 'best_metric = "f1_macro"\n', "utf-8")
    assert "Validation accuracy and F1 macro accuracy F1 macro best epoch" in read_page(run).text


def test_summary_is_an_aligned_table():
    scores = {"test": {"accuracy": 0.75, "log_loss": 0.5}}
    matrix = {"confusion_matrix": [[2, 1], [0, 1]], "labels": ["正面", "no"]}
    per_class = {
        "正面": {"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3},
        "no": {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1},
    }
    details = {
        "test": {"examples": 4, "intervals": {"accuracy": [0.25, 1.0]}, "per_class": per_class} | matrix
    }
    assert report.summary(scores, details) == (
        "test: 4 examples\n"
        "  metric     score     95 % interval\n"
        "  accuracy  0.7500  0.2500 to 1.0000\n"
        "  log_loss  0.5000\n"
        "\n"
        "  class  precision  recall      f1  examples\n"
        "  正面      1.0000  0.6667  0.8000         3\n"
        "  no        0.5000  1.0000  0.6667         1\n"
        "\n"
        "  confusion matrix: a row for each target, a column for each prediction\n"
        "          0  1\n"
        "  0 正面  2  1\n"
        "  1 no    0  1"
    )


def test_summary_without_details_and_of_many_classes():
    assert (
        report.summary({"data": {"r2": None}}, {}) == "data\n  metric  score  95 % interval\n  r2          -"
    )
    labels = [f"class {i}" for i in range(60)]
    targets, predictions = _predict(labels, 300, np.random.default_rng(0))
    details = scoring.details("classification", targets, predictions, labels, resamples=10)
    text = report.summary({"test": {"accuracy": 0.5}}, {"test": details})
    assert "the 30 of 60 classes with the lowest F1" in text and "confusion matrix" not in text
    assert max(map(len, text.splitlines())) < 80
