"""Scores against scikit-learn, scipy and cases by hand; intervals by plain resampling."""

import json
import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from kft import metrics
from kft.errors import KftError
from kft.metrics import bootstrap
from kft.tasks import scoring

LABELS = ["business", "politics", "sports"]


def make_classes(count=200, classes=3, seed=0):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), count)
    targets = np.where(
        random.random(count) < 0.6, probabilities.argmax(axis=1), random.integers(classes, size=count)
    )
    return targets, probabilities, [f"class {i}" for i in range(classes)]


def make_values(count=200, seed=0):
    random = np.random.default_rng(seed)
    targets = random.normal(size=count).round(1)  # with ties
    return targets, targets + random.normal(size=count)


def test_scores_of_three_classes_equal_scikit_learn():
    targets, probabilities, labels = make_classes()
    predicted = probabilities.argmax(axis=1)
    expected = {"accuracy": sk.accuracy_score(targets, predicted)}
    for average in ("macro", "weighted"):
        expected[f"precision_{average}"] = sk.precision_score(targets, predicted, average=average)
        expected[f"recall_{average}"] = sk.recall_score(targets, predicted, average=average)
        expected[f"f1_{average}"] = sk.f1_score(targets, predicted, average=average)
    expected["matthews_correlation"] = sk.matthews_corrcoef(targets, predicted)
    expected["roc_auc"] = sk.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    expected["log_loss"] = sk.log_loss(targets, probabilities)
    scores = scoring.scores("classification", targets, probabilities, labels)
    assert list(scores)[:1] == ["accuracy"]
    assert scores.keys() - expected.keys() == {"expected_calibration_error"}
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


def test_scores_of_two_classes_take_the_second_as_positive():
    targets, probabilities, labels = make_classes(classes=2)
    predicted = probabilities.argmax(axis=1)
    scores = scoring.scores("classification", targets, probabilities, labels)
    assert scores["precision"] == pytest.approx(sk.precision_score(targets, predicted))
    assert scores["recall"] == pytest.approx(sk.recall_score(targets, predicted))
    assert scores["f1"] == pytest.approx(sk.f1_score(targets, predicted))
    assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(targets, probabilities[:, 1]))


def test_scores_of_values_equal_scikit_learn_and_scipy():
    targets, values = make_values()
    scores = scoring.scores("regression", targets, values)
    assert scores == pytest.approx(
        {
            "spearman": stats.spearmanr(targets, values).statistic,
            "pearson": stats.pearsonr(targets, values).statistic,
            "mean_squared_error": sk.mean_squared_error(targets, values),
            "root_mean_squared_error": sk.root_mean_squared_error(targets, values),
            "mean_absolute_error": sk.mean_absolute_error(targets, values),
            "r2": sk.r2_score(targets, values),
        }
    )
    assert next(iter(scores)) == scoring.main_metric("regression") == "spearman"


def test_calibration_error_by_hand():
    # Confidences 0.9 (right), 0.9 (wrong) and 0.65 (right): bins (13/15, 14/15] and (9/15, 10/15].
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65]])
    scores = scoring.scores("classification", np.array([0, 1, 1]), probabilities, ["no", "yes"])
    assert scores["expected_calibration_error"] == pytest.approx(2 / 3 * (0.9 - 0.5) + 1 / 3 * (1 - 0.65))


def test_calibration_bins_are_closed_above():
    filled = {}
    for confidence in (0.6, 0.6 + 1e-9, 1.0):
        bins = metrics.calibration(np.array([0]), np.array([[confidence, 1 - confidence]]))
        filled[confidence] = [i for i, b in enumerate(bins) if b["count"]]
    assert filled == {0.6: [8], 0.6 + 1e-9: [9], 1.0: [14]}
    assert metrics.calibration(np.array([0]), np.array([[1.0, 0.0]]))[14] == {
        "low": pytest.approx(14 / 15), "high": 1.0, "count": 1, "confidence": 1.0, "accuracy": 1.0
    }  # fmt: skip


@pytest.mark.parametrize("targets", [[0, 0, 0], [1, 1, 1], [0, 1, 1]])
def test_roc_auc_is_undefined_when_a_class_is_absent(targets):
    targets = np.array(targets)
    two = scoring.scores(
        "classification", targets, np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]), ["no", "yes"]
    )
    three = scoring.scores("classification", targets, np.full((3, 3), 1 / 3), LABELS)
    assert math.isnan(two["roc_auc"]) == (len(set(targets)) == 1)
    assert math.isnan(three["roc_auc"])
    assert all(math.isfinite(value) for name, value in (two | three).items() if name != "roc_auc")


def test_undefined_scores_are_nan_and_nothing_is_warned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant = scoring.scores("regression", np.arange(4.0), np.full(4, 2.0))
        one = scoring.scores("regression", np.array([1.0]), np.array([2.0]))
        empty = scoring.scores("classification", np.array([], int), np.zeros((0, 3)), LABELS)
        never = scoring.scores(
            "classification", np.array([0, 1]), np.array([[0.9, 0.1], [0.9, 0.1]]), ["no", "yes"]
        )
        scoring.details("regression", np.arange(4.0), np.full(4, 2.0))
        scoring.details("classification", np.array([], int), np.zeros((0, 3)), LABELS)
    assert math.isnan(constant["spearman"]) and math.isnan(constant["pearson"])
    assert constant["mean_squared_error"] == pytest.approx((4 + 1 + 0 + 1) / 4)
    assert {name for name, value in one.items() if math.isnan(value)} == {"spearman", "pearson", "r2"}
    assert all(map(math.isnan, empty.values()))
    assert never["precision"] == never["f1"] == never["matthews_correlation"] == 0


def test_predictions_that_are_not_finite_are_a_mistake():
    with pytest.raises(
        KftError, match="1 of 3 predictions are not finite numbers \\(the first is number 2\\)"
    ):
        scoring.scores("regression", np.zeros(3), np.array([0.0, np.nan, 1.0]))
    with pytest.raises(KftError, match="2 of 2 predictions"):
        scoring.details("classification", np.zeros(2, int), np.full((2, 2), np.nan), ["no", "yes"])


def test_details_of_classes():
    targets, probabilities, labels = make_classes(count=500)
    predicted = probabilities.argmax(axis=1)
    details = scoring.details("classification", targets, probabilities, labels)
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert details["examples"] == 500 and details["labels"] == labels
    assert details["confusion_matrix"] == sk.confusion_matrix(targets, predicted).tolist()
    report = sk.classification_report(targets, predicted, target_names=labels, output_dict=True)
    for label in labels:
        expected = report[label]
        assert details["per_class"][label] == pytest.approx(
            {
                "precision": expected["precision"],
                "recall": expected["recall"],
                "f1": expected["f1-score"],
                "support": expected["support"],
            }
        )
    assert sum(b["count"] for b in details["calibration"]) == 500
    scores = scoring.scores("classification", targets, probabilities, labels)
    assert list(details["intervals"]) == ["accuracy", "f1_macro", "matthews_correlation"]
    for name, (low, high) in details["intervals"].items():
        assert low < scores[name] < high


def test_confusion_matrix_counts_targets_in_rows():
    probabilities = np.eye(3)[[1, 1, 2, 0]]
    assert metrics.confusion_matrix(np.array([0, 1, 2, 0]), probabilities).tolist() == [
        [1, 1, 0],
        [0, 1, 0],
        [0, 0, 1],
    ]


def test_intervals_come_from_the_seed():
    targets, probabilities, labels = make_classes(classes=2)
    first, again, other = (
        scoring.details("classification", targets, probabilities, labels, seed=seed)["intervals"]
        for seed in (0, 0, 1)
    )
    assert list(first) == ["accuracy", "f1", "f1_macro", "matthews_correlation"]
    assert first == again != other
    values = [scoring.details("regression", *make_values(), seed=seed)["intervals"] for seed in (0, 0, 1)]
    assert list(values[0]) == ["spearman", "pearson", "root_mean_squared_error"]
    assert values[0] == values[1] != values[2]


def test_class_intervals_agree_with_plain_resampling():
    targets, probabilities, labels = make_classes(count=300)
    predicted, random = probabilities.argmax(axis=1), np.random.default_rng(7)
    drawn = [random.integers(300, size=300) for _ in range(800)]
    intervals = scoring.details("classification", targets, probabilities, labels, resamples=4000)["intervals"]
    accuracy = np.percentile([sk.accuracy_score(targets[i], predicted[i]) for i in drawn], [2.5, 97.5])
    matthews = np.percentile([sk.matthews_corrcoef(targets[i], predicted[i]) for i in drawn], [2.5, 97.5])
    assert intervals["accuracy"] == pytest.approx(accuracy.tolist(), abs=0.01)
    assert intervals["matthews_correlation"] == pytest.approx(matthews.tolist(), abs=0.015)


def test_value_intervals_agree_with_scipy_bootstrap():
    targets, values = make_values()
    intervals = scoring.details("regression", targets, values, resamples=3000)["intervals"]
    expected = stats.bootstrap(
        (targets, values),
        lambda x, y: stats.spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert intervals["spearman"] == pytest.approx(list(expected), abs=0.015)


matrices = st.integers(2, 5).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 6), min_size=classes, max_size=classes), min_size=classes, max_size=classes
    )
)


@settings(max_examples=80, deadline=None)
@given(matrices)
def test_scores_from_a_confusion_matrix_equal_scikit_learn(matrix):
    matrix = np.array(matrix, float)
    if not matrix.sum():
        return
    classes = len(matrix)
    targets, predicted = (
        side.ravel().repeat(matrix.ravel().astype(int)) for side in np.indices(matrix.shape)
    )
    scores = bootstrap.class_scores(np.diag(matrix)[None], matrix.sum(axis=1)[None], matrix.sum(axis=0)[None])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["accuracy"][0] == pytest.approx(sk.accuracy_score(targets, predicted))
        assert scores["f1_macro"][0] == pytest.approx(
            sk.f1_score(targets, predicted, average="macro", zero_division=0)
        )
        assert scores["matthews_correlation"][0] == pytest.approx(
            sk.matthews_corrcoef(targets, predicted), abs=1e-12
        )
        expected = sk.f1_score(targets, predicted, labels=[1], average="macro", zero_division=0)
    assert ("f1" in scores) == (classes == 2)
    if classes == 2:
        assert scores["f1"][0] == pytest.approx(expected)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=12)
)
def test_scores_of_a_resample_equal_scipy_on_the_repeated_examples(rows):
    targets, values, counts = np.array(rows, float).T
    if not counts.sum():
        return
    scores = bootstrap.value_scores(targets, values, counts[None])
    x, y = targets.repeat(counts.astype(int)), values.repeat(counts.astype(int))
    assert scores["root_mean_squared_error"][0] == pytest.approx(sk.root_mean_squared_error(x, y))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(scores["spearman"][0]) and np.isnan(scores["pearson"][0])
    else:
        assert scores["spearman"][0] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
        assert scores["pearson"][0] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 1000))
def test_invariants_of_class_scores(count, classes, seed):
    targets, probabilities, labels = make_classes(count, classes, seed)
    scores = scoring.scores("classification", targets, probabilities, labels)
    order = np.random.default_rng(seed).permutation(count)
    assert scoring.scores("classification", targets[order], probabilities[order], labels) == pytest.approx(
        scores, nan_ok=True
    )
    assert all(-1 <= value <= 1 for name, value in scores.items() if name not in ("log_loss", "roc_auc"))
    assert scores["recall_weighted"] == pytest.approx(scores["accuracy"])
    details = scoring.details("classification", targets, probabilities, labels, resamples=20)
    assert np.trace(details["confusion_matrix"]) == pytest.approx(scores["accuracy"] * count)
    assert (
        np.sum(details["confusion_matrix"])
        == sum(c["support"] for c in details["per_class"].values())
        == count
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 60), st.integers(0, 1000))
def test_a_rising_map_of_the_values_leaves_spearman_alone(count, seed):
    targets, values = make_values(count, seed)
    scores = scoring.scores("regression", targets, values)["spearman"]
    assert scoring.scores("regression", targets, np.exp(values))["spearman"] == pytest.approx(
        scores, nan_ok=True
    )
    assert scoring.scores("regression", targets, -values)["spearman"] == pytest.approx(-scores, nan_ok=True)


def test_better_knows_the_direction_and_that_undefined_is_worst():
    assert metrics.better("accuracy", 0.9, 0.8) and not metrics.better("accuracy", 0.8, 0.8)
    assert metrics.better("log_loss", 0.1, 0.2) and not metrics.better("log_loss", 0.2, 0.1)
    for name in ("accuracy", "log_loss"):
        for undefined in (math.nan, None):
            assert metrics.better(name, 0.5, undefined)
            assert not metrics.better(name, undefined, 0.5)
            assert not metrics.better(name, undefined, math.nan)


def test_check_name_takes_every_metric_of_the_task():
    for name in scoring.names("classification", 2):
        assert scoring.check_name("classification", name, 2) == name
    assert scoring.check_name("classification", "f1") == "f1"  # the number of classes is not known yet
    assert scoring.check_name("regression", "r2") == "r2"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("classification", "acuracy", 3),
            "`train.best_metric`: there is no metric 'acuracy', did you mean `accuracy`?",
        ),
        (("classification", "f1", 3), "'f1' needs two classes, the data has 3, did you mean `f1_macro`?"),
        (
            ("classification", "spearman"),
            "'spearman' is a metric of regression, and `task` is classification",
        ),
        (
            ("regression", "accuracy"),
            "'accuracy' is a metric of classification and choice, and `task` is regression",
        ),
        (("regression", "xyz"), "there is no metric 'xyz'"),
    ],
)
def test_check_name_says_what_is_wrong(arguments, expected):
    with pytest.raises(KftError) as raised:
        scoring.check_name(*arguments)
    assert expected in raised.value.message
    assert scoring.main_metric(arguments[0]) in raised.value.hint


def test_main_metrics_come_first():
    assert scoring.names("classification")[0] == scoring.main_metric("classification") == "accuracy"
    assert "f1" not in scoring.names("classification", 3) and "f1" in scoring.names("classification", 2)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_thousand_resamples_of_ten_thousand_examples_are_quick(kind):
    started = time.perf_counter()
    if kind == "classification":
        targets, probabilities, labels = make_classes(10_000, 20)
        scoring.details(kind, targets, probabilities, labels)
    else:
        scoring.details(kind, *make_values(10_000))
    assert time.perf_counter() - started < 8  # 0.1 and 1.2 s on an idle machine


# What resamples cannot tell


def one_hot(classes: list[int], count: int) -> np.ndarray:
    return np.eye(count)[classes]


def test_all_right_is_no_certainty():
    targets = np.arange(40) % 2
    intervals = scoring.details("classification", targets, one_hot(targets, 2), ["a", "b"])["intervals"]
    exact = stats.binomtest(40, 40).proportion_ci(method="exact")
    assert intervals["accuracy"] == [pytest.approx(exact.low), 1.0]
    assert intervals["accuracy"][0] == pytest.approx(0.025 ** (1 / 40))
    assert intervals["f1"] == intervals["f1_macro"] == intervals["matthews_correlation"] == [None, None]


def test_all_wrong_is_no_certainty():
    targets = np.arange(30) % 3
    intervals = scoring.details("classification", targets, one_hot((targets + 1) % 3, 3), list("abc"))[
        "intervals"
    ]
    assert intervals["accuracy"] == [0.0, pytest.approx(1 - 0.025 ** (1 / 30))]
    assert intervals["f1_macro"] == [None, None]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_few_examples_say_little(count):
    targets = np.arange(count) % 2
    predicted = targets.copy()
    predicted[0] = 1
    intervals = scoring.details("classification", targets, one_hot(predicted, 2), ["a", "b"])["intervals"]
    exact = stats.binomtest(count - 1, count).proportion_ci(method="exact")
    assert intervals["accuracy"] == [pytest.approx(exact.low), pytest.approx(exact.high)]
    assert intervals["f1"] == [None, None]
    values = scoring.details("regression", np.arange(count, dtype=float), np.arange(count) ** 2.0)[
        "intervals"
    ]
    assert set(map(tuple, values.values())) == {(None, None)}


def test_questions_that_are_all_right():
    targets, probabilities = np.zeros(12, int), np.tile([0.9, 0.1], (12, 1))
    intervals = scoring.details("choice", targets, probabilities)["intervals"]["accuracy"]
    assert intervals == [pytest.approx(0.025 ** (1 / 12)), 1.0]


def test_output_does_not_grow_with_the_square_of_the_classes():
    rng, classes = np.random.default_rng(0), 1000
    targets = rng.integers(0, classes, 3000)
    predicted = np.where(rng.random(3000) < 0.5, targets, (targets + 1) % classes)
    targets[:30], predicted[:30] = 7, 3
    labels = [f"label {i}" for i in range(classes)]
    details = scoring.details("classification", targets, one_hot(predicted, classes), labels, resamples=20)
    assert "confusion_matrix" not in details
    assert len(json.dumps(details)) < 300_000
    first = details["confusions"][0]
    assert (first["target"], first["label"], first["count"]) == ("label 7", "label 3", 30)
    assert len(details["confusions"]) <= 1000
    wrong = int((predicted != targets).sum())
    assert sum(c["count"] for c in details["confusions"]) == wrong or len(details["confusions"]) == 1000


def test_a_hundred_classes_have_their_matrix():
    targets = np.arange(100)
    details = scoring.details("classification", targets, np.eye(100), list(map(str, range(100))), resamples=5)
    assert np.trace(details["confusion_matrix"]) == 100
