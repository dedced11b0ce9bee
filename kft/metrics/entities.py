"""Scores of tagged words by seqeval: as conlleval reads tags, and as their scheme demands.

N is the number of sentences, K of types of entity, S of resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kft.later import Later

schemes, labeling = Later("seqeval.scheme"), Later("seqeval.metrics.sequence_labeling")
Found = tuple[str, int, int]  # type, first word, last word
METRICS = (
    "entity_f1",
    "entity_precision",
    "entity_recall",
    "entity_f1_macro",
    "entity_f1_weighted",
    "entity_precision_strict",
    "entity_recall_strict",
    "entity_f1_strict",
    "token_accuracy",
    "token_log_loss",
)
STRICT = ("IOB1", "IOB2", "IOBES")  # seqeval's names of schemes


@dataclass(frozen=True)
class Tagged:
    """The tags of N sentences: those that are right, and those that are predicted.

    Attributes:
        gold, tags: such as B-PER and O, the prefixes those of IOBES.
        losses: float64 [N], sum over the words that the model read of -log p of the right tag.
        read: int [N], number of these words.
        lost: int [N], words that the model did not read, which count as O.
        scheme: of the right tags, one of STRICT.
    """

    gold: list[list[str]]
    tags: list[list[str]]
    losses: np.ndarray
    read: np.ndarray
    lost: np.ndarray
    scheme: str

    def __len__(self) -> int:
        return len(self.gold)

    def __getitem__(self, rows: np.ndarray) -> "Tagged":
        """The sentences of these numbers; all of them in order are this very object.

        So its counts are computed once.
        """
        if np.array_equal(rows, np.arange(len(self))):
            return self
        gold, tags = ([part[i] for i in rows] for part in (self.gold, self.tags))
        sums = (self.losses[rows], self.read[rows], self.lost[rows])
        return Tagged(gold, tags, *sums, self.scheme)

    @cached_property
    def kinds(self) -> list[str]:
        """The K types, sorted."""
        return sorted({kind for row in (*self.gold, *self.tags) for kind, *_ in lenient(row)})

    @cached_property
    def counts(self) -> np.ndarray:
        """Right, predicted and true entities of each sentence and type, float64 [N, 3, K]."""
        return _counts(map(lenient, self.gold), map(lenient, self.tags), self.kinds, len(self))

    @cached_property
    def strict_counts(self) -> np.ndarray:
        """The same by the strict reading."""
        parts = (strict(rows, self.scheme) for rows in (self.gold, self.tags))
        return _counts(*parts, self.kinds, len(self))

    @cached_property
    def words(self) -> np.ndarray:
        """Words whose tag is right, and words, of each sentence, float64 [N, 2]."""
        right = [sum(map(str.__eq__, *pair)) for pair in zip(self.gold, self.tags, strict=True)]
        return np.array([right, list(map(len, self.gold))], np.float64).T.reshape(-1, 2)


def lenient(tags: Sequence[str]) -> list[Found]:
    """The entities of a sentence as conlleval reads tags: an I may begin one."""
    return labeling.get_entities(list(tags))


def strict(rows: list[list[str]], scheme: str) -> Iterator[list[Found]]:
    """The entities of sentences whose every tag stands where its scheme allows."""
    for predicted in schemes.Entities(rows, getattr(schemes, scheme), False).entities:
        yield [(entity.tag, entity.start, entity.end - 1) for entity in predicted]


def _counts(gold, predicted, kinds: list[str], rows: int) -> np.ndarray:
    place = {kind: k for k, kind in enumerate(kinds)}
    counts = np.zeros((rows, 3, len(kinds)))
    for n, (true, answered) in enumerate(zip(gold, predicted, strict=True)):
        true, answered = set(true), set(answered)
        for i, entities in enumerate((true & answered, answered, true)):
            for kind, *_ in entities:
                counts[n, i, place[kind]] += 1
    return counts


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def micro(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 over all types, of sums [..., 3, K]; 0 of nothing, as in seqeval."""
    right, predicted, true = np.moveaxis(counts.sum(axis=-1), -1, 0)
    return _ratio(right, predicted), _ratio(right, true), _ratio(2 * right, predicted + true)


def by_type(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of each type, each [..., K]."""
    right, predicted, true = np.moveaxis(counts, -2, 0)
    return _ratio(right, predicted), _ratio(right, true), _ratio(2 * right, predicted + true)


def macro(counts: np.ndarray) -> np.ndarray:
    """Mean F1 of the types that occur, of sums [..., 3, K]."""
    occurs = counts[..., 1:, :].sum(axis=-2) > 0
    return _ratio(by_type(counts)[2].sum(axis=-1), occurs.sum(axis=-1).astype(np.float64))


def weighted(counts: np.ndarray) -> np.ndarray:
    """Mean F1 of the types, each as heavy as it has true entities, of sums [..., 3, K]."""
    true = counts[..., 2, :]
    return _ratio((by_type(counts)[2] * true).sum(axis=-1), true.sum(axis=-1))


def scores(tagged: Tagged, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [S] of resamples that hold each sentence so often, counts [S, N]."""
    sums = np.einsum("sn,nik->sik", counts, tagged.counts)
    strict_sums = np.einsum("sn,nik->sik", counts, tagged.strict_counts)
    right, words = (counts @ tagged.words).T
    return _scores(sums, strict_sums) | {"token_accuracy": _ratio(right, words)}


def _scores(sums: np.ndarray, strict_sums: np.ndarray) -> dict[str, np.ndarray]:
    names = ("entity_precision", "entity_recall", "entity_f1")
    return {
        **dict(zip(names, micro(sums), strict=True)),
        "entity_f1_macro": macro(sums),
        "entity_f1_weighted": weighted(sums),
        **dict(zip((f"{name}_strict" for name in names), micro(strict_sums), strict=True)),
    }


def total(name: str, targets: np.ndarray, tagged: Tagged) -> float:
    """A score of all sentences, by its name in `METRICS`."""
    if name == "token_log_loss":
        read = tagged.read.sum()
        return float(tagged.losses.sum() / read) if read else float("nan")
    if name == "token_accuracy":
        return float(_ratio(*tagged.words.sum(axis=0)[:, None])[0])
    return float(_scores(tagged.counts.sum(axis=0), tagged.strict_counts.sum(axis=0))[name])
