"""Answers to questions: SQuAD's scores, windows of pairs, the loss of spans."""

import keras
import numpy as np
import pytest
import torch

from kft.errors import KftError
from kft.metrics import answers
from kft.models.losses import LOSSES
from kft.text.rows import Tokens, offsets_of
from kft.text.templates import Frame
from kft.text.windows import windows

# Answer, right answers, exact match and F1 by hand from the rules of the official script.
CASES = [
    ("the Cat", ["cat"], 1, 1), ("A theatre", ["theatre"], 1, 1), ("", [], 1, 1), ("", ["x"], 0, 0), ("x", [], 0, 0),
    ("the", ["a"], 1, 1), ("", ["The"], 1, 1), ("x", ["the", "x"], 1, 1), ("U.S. Army", ["us", "US army"], 1, 1),
    ("an an b b", ["b"], 0, 2 / 3), ("b c", ["b b c"], 0, 4 / 5), ("b c d", ["c", "d e f g"], 0, 1 / 2),
    ("中国 北京", ["北京"], 0, 2 / 3), ("北京市", ["北京"], 0, 0), ("café", ["Café!"], 1, 1), ("a-b", ["ab"], 1, 1),
    ("1,000", ["1000"], 1, 1), ("“x”", ["x"], 0, 0), ("x\u00a0y", ["x y"], 1, 1), ("😀 ok", ["ok"], 0, 2 / 3),
    ("don't", ["dont"], 1, 1), ("x  an  y", ["x y"], 1, 1),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "golds", "exact", "f1"), CASES)
def test_scores_are_those_of_the_official_rules(answer, golds, exact, f1):
    assert answers.exact_match(answer, golds) == exact
    assert answers.f1(answer, golds) == pytest.approx(f1, abs=1e-12)


def test_questions_with_and_without_an_answer_are_scored_apart():
    given = answers.answered(["cat", "", "dog"], [["a cat"], [], []])
    scores = {name: float(values[0]) for name, values in answers.scores(given).items()}
    assert scores["f1"] == pytest.approx(2 / 3)
    assert (scores["has_answer_f1"], scores["no_answer_exact_match"]) == (1.0, 0.5)
    assert np.isnan(answers.total("no_answer_f1", None, answers.answered(["cat"], [["cat"]])))


def test_the_threshold_is_the_best_of_all():
    generator = np.random.default_rng(0)
    golds = [["x"] if has else [] for has in generator.random(200) < 0.5]
    own = [float(generator.random()) if gold else 0.0 for gold in golds]
    nulls = generator.normal(size=200).round(1) + [0.0 if gold else 0.5 for gold in golds]
    threshold, best = answers.best_threshold(own, golds, nulls)

    def score(cut):
        values = [a if n <= cut else float(not g) for a, g, n in zip(own, golds, nulls, strict=True)]
        return float(np.mean(values))

    assert score(threshold) == pytest.approx(best)
    assert best == pytest.approx(max(score(cut) for cut in [-np.inf, *nulls]))


def _pairs(*examples: list[int], starts: list[int]) -> Tokens:
    lengths = np.array([len(ids) for ids in examples])
    ids = np.concatenate(examples).astype(np.int32)
    return Tokens(ids, offsets_of(lengths), np.array(starts, np.int32), lengths.astype(np.int32))


def test_windows_of_pairs_keep_the_first_text():
    rows = _pairs([1, 7, 2, 10, 11, 12, 13, 14, 2], [1, 7, 8, 2, 20, 2], starts=[3, 4])
    result = windows(rows, Frame((1,), (2,), (2,)), 7, 1)
    cut = [result.ids[a:b].tolist() for a, b in zip(result.offsets[:-1], result.offsets[1:], strict=True)]
    assert cut == [[1, 7, 2, 10, 11, 12, 2], [1, 7, 2, 12, 13, 14, 2], [1, 7, 8, 2, 20, 2]]
    assert result.second_starts.tolist() == [3, 3, 4]
    assert result.examples.tolist() == [0, 0, 1]


def test_a_first_text_without_room_for_the_second_is_told():
    rows = _pairs([1, 7, 2, 10, 2], [1, 7, 8, 9, 2, 20, 2], starts=[3, 5])
    with pytest.raises(KftError, match="row 2: its first text leaves room for 1 tokens"):
        windows(rows, Frame((1,), (2,), (2,)), 7, 1)


def test_the_loss_of_spans_is_the_mean_over_windows_of_start_and_end():
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(1, 8, 2)).astype(np.float32)
    number = np.array([1, 1, 1, 1, 2, 2, 2, 0])  # two windows and an empty place
    targets, weights = np.zeros((1, 8, 3), np.int32), np.zeros((1, 8), np.float32)
    targets[0, :, 2] = number
    for start, end in ((1, 3), (4, 4)):
        targets[0, start, 0], targets[0, end, 1] = 1, 1
    weights[0] = targets[0, :, :2].sum(axis=1) / 2
    loss = LOSSES["cross_entropy_of_spans"]()(targets, outputs, sample_weight=weights)
    given, expected = torch.tensor(outputs[0]), []
    for rows, ends in (((0, 4), (1, 3)), ((4, 7), (0, 0))):
        own = given[slice(*rows)]
        parts = [torch.nn.functional.cross_entropy(own[:, i], torch.tensor(ends[i])) for i in (0, 1)]
        expected.append(sum(parts) / 2)
    assert float(keras.ops.convert_to_numpy(loss)) == pytest.approx(float(sum(expected) / 2), abs=1e-5)
