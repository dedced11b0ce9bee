"""What Python programs give as texts: every kind of list is taken, and what is none is refused."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from kft.errors import KftError
from kft.evaluate.texts import check_columns, frames

WORDS = ["good film", "", "bad plot"]


def texts_of(texts, paired: bool = False, size: int = 2) -> list[tuple]:
    return [row for frame in frames(texts, paired, size) for row in frame.rows()]


@pytest.mark.parametrize(
    "texts",
    [
        WORDS,
        tuple(WORDS),
        iter(WORDS),
        (word for word in WORDS),
        np.array(WORDS),
        np.array(WORDS, object),
        pl.Series(WORDS),
        pa.array(WORDS),
        pa.chunked_array([WORDS]),
        [np.str_(word) for word in WORDS],
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_lists_of_texts(texts):
    assert texts_of(texts) == [(word,) for word in WORDS]


def test_a_column_of_pandas():
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(WORDS, index=[7, 5, 3])
    assert texts_of(series) == [(word,) for word in WORDS]
    with pytest.raises(KftError, match="got a DataFrame"):
        texts_of(series.to_frame("text"))


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", "b"), ("c", "d")],
        [["a", "b"], ["c", "d"]],
        zip("ac", "bd", strict=True),
        np.array([["a", "b"], ["c", "d"]]),
    ],
)
def test_lists_of_pairs(pairs):
    assert texts_of(pairs, paired=True) == [("a", "b"), ("c", "d")]


def test_no_text_at_all():
    assert texts_of([]) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("good film", "must be a list, got one text: 'good film'"),
        (b"good film", "must be a list, got bytes"),
        ({"a": 1}, "got a mapping"),
        ({"good"}, "got a set, which has no order"),
        (None, "got None"),
        (3, "got a int: 3"),
        (pl.DataFrame({"text": ["a"]}).lazy(), "got a LazyFrame"),
        (["a", "b", None], "text 3 is None"),
        (["a", float("nan")], "text 2 is a float: 'nan'"),
        (["a", b"b"], "text 2 is a bytes"),
        ([["a"]], "text 1 is a list"),
        ([("a", "b")], "text 1 is a tuple"),
        ([{"text": "a"}], "text 1 is a dict"),
    ],
)
def test_what_is_no_list_of_texts(texts, message):
    with pytest.raises(KftError, match=message):
        texts_of(texts)


@pytest.mark.parametrize(
    "pair", ["ab", ("a",), ("a", "b", "c"), ("a", None), {"a": 1, "b": 2}, 3, None, {"a", "b"}]
)
def test_what_is_no_pair(pair):
    with pytest.raises(KftError, match="pair 2 is"):
        texts_of([("a", "b"), pair], paired=True)


def test_half_a_character_and_an_array_without_a_dimension():
    with pytest.raises(KftError, match="text 2 holds half a character"):
        texts_of(["good", "caf\ud83d"])
    with pytest.raises(KftError, match="pair 1 holds half a character"):
        texts_of([("good", "\ud83d")], paired=True)
    with pytest.raises(KftError, match="the texts must be a list, got a ndarray"):
        texts_of(np.array("good film"))


@pytest.mark.parametrize("values", [[["good"], ["bad"]], [b"good"], [{"a": "good"}]])
def test_a_frame_without_texts(values):
    with pytest.raises(KftError, match="the frame's column `text` holds .*, not texts"):
        check_columns(pl.DataFrame({"text": values}), ["text"])
    check_columns(pl.DataFrame({"text": pl.Series(["a"], dtype=pl.Categorical)}), ["text"])
