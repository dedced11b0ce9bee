"""Cuts that keep groups together, and cuts by time."""

import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft import config as configs
from kft.config import CleanConfig, DataConfig, SplitConfig
from kft.data import sources, splits
from kft.data.splits import blocks
from kft.errors import KftError

PARTS = ("train", "validation", "test")


def prepared(rows: list[tuple], task: str = "classification", clean: dict | None = None, **split):
    """The splits of (text, label, author, day) rows, and the author of each row by id."""
    frame = pl.DataFrame(
        [(i, *row, "all.csv") for i, row in enumerate(rows)],
        schema={
            "id": pl.Int64,
            **dict.fromkeys(("text", "label", "split_group", "split_time", "origin"), pl.String),
        },
        orient="row",
    )
    result = splits.prepare({"train": frame}, SplitConfig(**split), CleanConfig(**clean or {}), task)
    return result, {name: [rows[i] for i in getattr(result, name)["id"]] for name in PARTS}


def authors_of(rows: list[tuple]) -> set[str]:
    return {author for _, _, author, _ in rows}


def books(sizes: list[int], labels: str = "ab", seed: int = 0) -> list[tuple]:
    """Rows of one author after the other, of mixed labels."""
    draw = random.Random(seed)
    return [
        (f"text {author} {i}", draw.choice(labels), f"author {author}", str(draw.randrange(1000)))
        for author, size in enumerate(sizes)
        for i in range(size)
    ]


@pytest.mark.parametrize("method", ["stratified", "random", "hash"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_groups_never_part(method, task):
    if method == "stratified" and task == "regression":
        pytest.skip("scores have no classes")
    rows = books([5, 9, 1, 14, 3, 8, 20, 2] * 20, labels="01")
    result, parts = prepared(rows, task, group="author", method=method)
    sides = [authors_of(parts[name]) for name in PARTS]
    assert all(sides)
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(map(len, parts.values())) == len(rows)
    assert result.account["cut"]["group"] == "author"
    assert result.test.columns == ["id", "text", "label", "split_group", "origin"]


def test_groups_are_cut_near_their_shares_of_each_label():
    rows = books(list(range(1, 60)), labels="aaab")
    _, parts = prepared(rows, group="author")
    for name in ("validation", "test"):
        assert len(parts[name]) == pytest.approx(len(rows) * 0.1, rel=0.1)
        share = sum(label == "b" for _, label, *_ in parts[name]) / len(parts[name])
        assert share == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("sizes", [[20] * 10, [100, 100, 100], [190, *[1] * 9], [1, 1, 300], [7] * 4])
def test_a_large_group_leaves_no_split_empty(sizes):
    for seed in range(10):
        _, parts = prepared(books(sizes), group="author", seed=seed)
        assert all(parts.values())
        assert len(parts["train"]) == max(len(part) for part in parts.values())


def test_ten_authors_give_one_to_validation_and_one_to_test():
    drawn = set()
    for seed in range(12):
        _, parts = prepared(books([20] * 10), group="author", seed=seed)
        assert (len(authors_of(parts["validation"])), len(authors_of(parts["test"]))) == (1, 1)
        drawn |= authors_of(parts["test"])
    assert len(drawn) > 3


def test_too_few_groups():
    with pytest.raises(KftError, match="leaves (validation|test) empty") as caught:
        prepared(books([30, 30]), group="author")
    assert "`author` (`split.group`)" in caught.value.hint


def test_a_text_of_two_groups_joins_them():
    rows = books([10] * 12)
    rows.append(("Text 0  0", "a", "author 11", "0"))
    for seed in range(20):
        _, parts = prepared(rows, group="author", seed=seed)
        holders = [name for name in PARTS if authors_of(parts[name]) & {"author 0", "author 11"}]
        assert len(holders) == 1


def test_rows_without_a_group_stand_alone():
    rows = [(f"text {i}", "ab"[i % 2], None, None) for i in range(100)]
    _, parts = prepared(rows, group="author")
    assert [len(parts[name]) for name in PARTS] == [80, 10, 10]


def test_one_row_of_a_group_is_dropped_alone_and_duplicates_count():
    rows = [*books([20] * 10), ("", "a", "author 1", "0"), ("text 2 3", "a", "author 2", "0")]
    result, _ = prepared(rows, group="author")
    assert result.account["splits"]["train"]["dropped"] == {"empty_text": 1}
    assert sum(part["duplicates"]["exact"] for part in result.account["splits"].values()) == 1
    result, _ = prepared(rows, clean={"duplicates": "exact"}, group="author")
    assert sum(result.account["splits"]["train"]["dropped"].values()) == 2


def test_folds_keep_groups_together_and_hold_each_row_once():
    rows, seen = books([3, 8, 1, 12] * 6), []
    for fold in range(1, 5):
        _, parts = prepared(rows, group="author", folds=4, fold=fold, test_fraction=0.1)
        assert not authors_of(parts["validation"]) & authors_of(parts["train"])
        seen += parts["validation"]
        assert len(parts["validation"]) == pytest.approx(len(rows) * 0.9 / 4, rel=0.5)
        test = parts["test"]
    assert sorted(seen + test) == sorted(rows)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.one_of(st.none(), st.sampled_from("ABCDE"))), min_size=1, max_size=30
    )
)
def test_blocks_are_what_texts_and_groups_connect(rows):
    frame = pl.DataFrame(
        {"_together": [str(text) for text, _ in rows], "split_group": [group for _, group in rows]},
        schema={"_together": pl.String, "split_group": pl.String},
    )
    got = blocks.block_of(frame).to_list()
    block = list(range(len(rows)))
    for _ in rows:  # the smallest number that each row's neighbours have, until nothing changes
        block = [
            min(block[j] for j, other in enumerate(rows) if _linked(row, other) or i == j)
            for i, row in enumerate(rows)
        ]
    pairs = {(a, b) for a, b in zip(got, block, strict=True)}
    assert len(pairs) == len(set(got)) == len(set(block))


def _linked(one: tuple, other: tuple) -> bool:
    return one[0] == other[0] or (one[1] is not None and one[1] == other[1])


# By time


def days(count: int, write=lambda day: f"2024-{1 + day // 28:02}-{1 + day % 28:02}") -> list[tuple]:
    rows = [(f"text {day}", "ab"[day % 2], None, write(day)) for day in range(count)]
    random.Random(0).shuffle(rows)
    return rows


@pytest.mark.parametrize(
    "write",
    [
        lambda day: f"2024-{1 + day // 28:02}-{1 + day % 28:02}",
        lambda day: f"2024-01-01T{day // 60:02}:{day % 60:02}:00Z",
        lambda day: f"2024-01-01 {day // 60:02}:{day % 60:02}:00+02:00",
        str,
        lambda day: f"{day - 50}.5",
        lambda day: str(1_700_000_000_000_000_000 + day),
    ],
)
def test_the_latest_rows_are_test(write):
    rows = days(100, write)
    result, parts = prepared(rows, time="day")
    number = {name: sorted(int(text.split()[1]) for text, *_ in parts[name]) for name in PARTS}
    assert number == {
        "train": list(range(80)),
        "validation": list(range(80, 90)),
        "test": list(range(90, 100)),
    }
    assert result.account["cut"]["method"] == "time"
    assert result.account["cut"]["beginnings"]["test"] == {"from": write(90), "rows_of_that_time": 1}


def test_rows_of_one_time_stay_together():
    rows = days(100, lambda day: str(day // 15))
    result, parts = prepared(rows, time="day")
    times = [{time for *_, time in parts[name]} for name in PARTS]
    assert times == [{"0", "1", "2", "3", "4"}, {"5"}, {"6"}]
    assert result.account["cut"]["beginnings"]["validation"] == {"from": "5", "rows_of_that_time": 15}


def test_a_repeated_text_goes_with_its_latest_row():
    rows = [*days(100), ("text 99", "b", None, "2024-01-01")]
    _, parts = prepared(rows, time="day")
    assert sum(text == "text 99" for text, *_ in parts["test"]) == 2


def test_times_that_are_none_are_reported():
    rows = [
        (f"t{i}", "ab"[i % 2], None, day) for i, day in enumerate(["2024-01-01", "soon", "", None, "3"] * 3)
    ]
    with pytest.raises(KftError) as caught:
        prepared(rows, time="day")
    assert "all.csv, row 2: no time in `day`: 'soon'" in str(caught.value)
    assert "and 7 more such rows" in str(caught.value)


def test_a_label_that_only_comes_later_is_a_mistake():
    rows = [(f"t{i}", "c" if i == 99 else "ab"[i % 2], None, str(i)) for i in range(100)]
    with pytest.raises(KftError, match="no row of label c in train") as caught:
        prepared(rows, time="day")
    assert "`split.time`" in caught.value.hint


# Settings and files


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["data.group=author"], "`split.group` keeps the rows of an author or a document together"),
        (["split.group=text"], "`split.group` is the same column as a text"),
        (["split.time=3"], "`split.time` must be a column's name"),
        (["data.header=false", "split.group=author"], "`split.group` must be a column number"),
        (["split.time=day", "split.method=random"], "leave `split.method` out"),
        (["split.time=day", "split.folds=3"], "leave `split.folds` out"),
        (["split.time=day", "split.group=author"], "leave `split.group` out"),
    ],
)
def test_settings_that_contradict(changed, message):
    with pytest.raises(KftError, match=message):
        configs.parse({"data": {"train": "a.csv"}}, changed)


def test_the_column_is_read_for_train_alone(tmp_path: Path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("who,text,label\nA,a,x\nB,b,y\n")
    test.write_text("text,label\nc,x\n")
    data = DataConfig(train=str(train), test=str(test))
    frames = sources.read(data, SplitConfig(group="who"))
    assert frames["train"]["split_group"].to_list() == ["A", "B"]
    assert "split_group" not in frames["test"].columns  # its file has no such column
    with pytest.raises(KftError, match=r"train.csv: no column `wo` \(`split.group`\), did you mean `who`"):
        sources.read(data, SplitConfig(group="wo"))


def test_a_class_folder_has_no_groups(tmp_path: Path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("a")
    with pytest.raises(KftError, match="has no columns for `split.group`"):
        sources.read(DataConfig(train=str(tmp_path)), SplitConfig(group="who"))
