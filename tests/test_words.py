"""Tagged words: how texts are parted, which tags follow, entities, seqeval's scores."""

import numpy as np
import pytest
from seqeval import metrics as seqeval
from seqeval import scheme as schemes
from tokenizers.pre_tokenizers import BertPreTokenizer

from kft.metrics import entities
from kft.metrics.entities import Tagged
from kft.tasks import words


@pytest.mark.parametrize(
    "text",
    [
        "Ann-Lee met Bo, didn't she?",
        "  two  spaces\tand\nlines ",
        "नमस्ते दुनिया। שָׁלוֹם עוֹלָם",
        "a😀b 👩‍👩‍👧 e\u0301 $5.00 «x» _y_",
        "",
        " ",
    ],
)
def test_texts_are_parted_as_bert_parts_them(text):
    expected = [span for _, span in BertPreTokenizer().pre_tokenize_str(text)]
    assert words.split(text) == expected


def test_ideographs_are_words_and_places_are_characters():
    text = "😀张三 in 東京"
    assert [text[a:b] for a, b in words.split(text)] == ["😀", "张", "三", "in", "東", "京"]
    assert words.split(text)[1] == (1, 2)


@pytest.mark.parametrize(
    ("rows", "scheme", "misplaced"),
    [
        (["B-X I-X O B-Y", "O"], "IOB2", []),
        (["O I-X B-X", "B-X I-Y I-Y"], "IOB2", [(0, 1), (1, 1)]),
        (["I-X I-X O I-Y B-Y", "O I-X"], "IOB1", []),
        (["B-X E-X S-Y O", "B-X I-X E-X"], "IOBES", []),
        (["B-X O S-Y", "I-X E-X", "B-X E-Y", "B-X"], "IOBES", [(0, 1), (1, 0), (2, 1), (3, 1)]),
        (["B-X L-X U-Y O", "L-X"], "BILOU", [(1, 0)]),
        (["X X O Y"], None, []),
    ],
)
def test_schemes_are_recognised_and_checked(rows, scheme, misplaced):
    rows = [row.split() for row in rows]
    assert words.scheme_of(rows) == scheme
    assert [(i, place) for i, row in enumerate(rows) for place in words.misplaced(row, scheme)] == misplaced


def test_entities_of_characters_become_tags():
    text = "😀 Ann Lee met Bo"
    tags, problems = words.tags_of_entities(
        words.split(text), words.entities_in([{"start": 2, "end": 9, "label": "PER"}, [14, 16, "PER"]])
    )
    assert (tags, problems) == (["O", "B-PER", "I-PER", "O", "B-PER"], [])


@pytest.mark.parametrize(
    ("given", "tags", "problems"),
    [
        ([[0, 7, "P"], [4, 11, "Q"]], [None, None, None], ["overlaps another"] * 2),
        ([[0, 2, "P"], [8, 11, "Q"]], [None, "O", "B-Q"], ["cuts a word"]),
        ([[3, 4, "P"]], ["O", "O", "O"], ["holds no word"]),
        ({"start": [0], "end": [7], "label": ["P"]}, ["B-P", "I-P", "O"], []),
        (None, ["O", "O", "O"], []),
    ],
)
def test_words_of_unclear_entities_have_no_tag(given, tags, problems):
    found, told = words.tags_of_entities(words.split("Ann Lee met"), words.entities_in(given))
    assert (found, [what for what, _ in told]) == (tags, problems)


@pytest.mark.parametrize(
    "given", ["x", [[1, 2]], [[1, "2", "P"]], [{"start": 1}], [[0, 1, ""]], {"start": 1}]
)
def test_what_is_no_list_of_entities_is_refused(given):
    with pytest.raises(ValueError, match="no "):
        words.entities_in(given)


def drawn(tags: list[str], seed: int, rows: int = 60) -> list[list[str]]:
    lengths = np.random.default_rng(9).integers(1, 9, rows)
    rng = np.random.default_rng(seed)
    return [rng.choice(tags, length).tolist() for length in lengths]


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB2", ["O", "O", "B-P", "I-P", "B-Q.X", "I-Q.X"]),
        ("IOB1", ["O", "O", "B-P", "I-P", "I-Q"]),
        ("IOBES", ["O", "B-P", "I-P", "E-P", "S-P", "S-Q", "B-Q"]),
    ],
)
def test_scores_are_seqevals(scheme, tags):
    gold, predicted = drawn(tags, 0), drawn(tags, 1)
    n = len(gold)
    tagged = Tagged(gold, predicted, np.ones(n), np.ones(n, int), np.zeros(n, int), scheme)
    strict = {"mode": "strict", "scheme": getattr(schemes, scheme), "zero_division": 0}
    expected = {
        "entity_precision": seqeval.precision_score(gold, predicted, zero_division=0),
        "entity_recall": seqeval.recall_score(gold, predicted, zero_division=0),
        "entity_f1": seqeval.f1_score(gold, predicted, zero_division=0),
        "entity_f1_macro": seqeval.f1_score(gold, predicted, average="macro", zero_division=0),
        "entity_f1_weighted": seqeval.f1_score(gold, predicted, average="weighted", zero_division=0),
        "entity_precision_strict": seqeval.precision_score(gold, predicted, **strict),
        "entity_recall_strict": seqeval.recall_score(gold, predicted, **strict),
        "entity_f1_strict": seqeval.f1_score(gold, predicted, **strict),
        "token_accuracy": seqeval.accuracy_score(gold, predicted),
    }
    assert {name: entities.total(name, None, tagged) for name in expected} == pytest.approx(expected)
    report = seqeval.classification_report(gold, predicted, output_dict=True, zero_division=0)
    for kind, *values in zip(tagged.kinds, *entities.by_type(tagged.counts.sum(axis=0)), strict=True):
        names = ("precision", "recall", "f1-score")
        assert values == pytest.approx([report[kind][name] for name in names])


def test_resamples_are_scored_as_their_sentences_are():
    tags = ["O", "O", "B-P", "I-P", "B-Q"]
    gold, predicted = drawn(tags, 0, 20), drawn(tags, 1, 20)
    tagged = Tagged(gold, predicted, np.ones(20), np.ones(20, int), np.zeros(20, int), "IOB2")
    rng = np.random.default_rng(2)
    counts = rng.multinomial(20, np.full(20, 0.05), size=5)
    made = entities.scores(tagged, counts.astype(np.float64))
    for s, count in enumerate(counts):
        rows = np.repeat(np.arange(20), count)
        again = tagged[rows]
        for name, values in made.items():
            assert values[s] == pytest.approx(entities.total(name, None, again)), name


def test_nothing_there_is_nothing_right():
    empty = Tagged([["O"]], [["O"]], np.zeros(1), np.zeros(1, int), np.zeros(1, int), "IOB2")
    assert entities.total("entity_f1", None, empty) == 0
    assert np.isnan(entities.total("token_log_loss", None, empty))
