"""What stands behind the scores: intervals, types, confusions, the worst mistakes."""

from collections import Counter
from functools import partial
from typing import Any

import polars as pl

from kft.metrics import bootstrap, entities
from kft.metrics.entities import Tagged
from kft.tasks import words
from kft.tasks.classification import mistakes_note
from kft.tasks.record import Mistakes
from kft.tasks.token_classification.answers import entities_of

SHOWN_ENTITIES = 6  # of a sentence, in a list of mistakes
CONFUSIONS = 1000  # pairs of types that are kept


def details(targets, tagged: Tagged, labels, generator, resamples: int) -> dict[str, Any]:
    total, score = len(tagged), partial(entities.scores, tagged)
    drawn = bootstrap.resampled(score, total, total + 6 * len(tagged.kinds), generator, resamples)
    sums = tagged.counts.sum(axis=0)
    columns = zip(tagged.kinds, *entities.by_type(sums), sums[2], strict=True)
    return {
        "examples": total,
        "words": {"count": int(tagged.words[:, 1].sum()), "lost": int(tagged.lost.sum())},
        "intervals": bootstrap.intervals(drawn, total),
        "labels": list(labels),
        "scheme": tagged.scheme,
        "per_class": {
            kind: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for kind, p, r, f, n in columns
        },
        "confusions": _confusions(tagged),
    }


def _confusions(tagged: Tagged) -> list[dict[str, Any]]:
    """The commonest pairs of a true type and another that is predicted for the same words."""
    pairs: Counter = Counter()
    for gold, tags in zip(tagged.gold, tagged.tags, strict=True):
        true = {(first, last): kind for kind, first, last in entities.lenient(gold)}
        for kind, first, last in entities.lenient(tags):
            if true.get((first, last), kind) != kind:
                pairs[true[first, last], kind] += 1
    commonest = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:CONFUSIONS]
    return [{"target": a, "label": b, "count": count} for (a, b), count in commonest]


def worst(table: pl.DataFrame, labels: list[str], most: int) -> Mistakes:
    """Rows with an entity too many or too few, those with the surest wrong words first."""
    wrong = []
    for row in table.iter_rows(named=True):
        gold = words.tags_in(row["target"]) or []
        pairs = list(zip(gold, row["tags"], row["scores"], strict=True))
        true = _named(row, [tag or words.OUTSIDE for tag in gold], labels)
        predicted = _named(row, [tag if right else words.OUTSIDE for right, tag, _ in pairs], labels)
        if true == predicted:
            continue
        error = max((score for right, tag, score in pairs if right and right != tag), default=0.0)
        lacking, strange = (
            [entity for entity in a if entity not in b] for a, b in ((true, predicted), (predicted, true))
        )
        verdict = [
            *_chips("chip target", lacking),
            ("muted", "predicted for", None),
            *_chips("chip wrong", strange),
        ]
        wrong.append((error, row | {"verdict": verdict}))
    worst = sorted(wrong, key=lambda pair: -pair[0])[:most]
    return Mistakes("Worst mistakes", mistakes_note(len(wrong), len(worst)), [row for _, row in worst])


def _named(row: dict[str, Any], tags: list[str], labels: list[str]) -> list[tuple[Any, ...]]:
    """(text, type, start) of the entities of a row of a table."""
    result = entities_of(row["text"] or "", row.get("words"), tags, [1.0] * len(tags), labels)
    return [(entity["text"], entity["label"], entity["start"]) for entity in result]


def _chips(style: str, result: list[tuple[Any, ...]]) -> list[tuple[str, str, str | None]]:
    if not result:
        return [(style, "no entity", None)]
    chips = [(style, text, kind) for text, kind, _ in result[:SHOWN_ENTITIES]]
    return chips + (
        [("muted", f"and {len(result) - SHOWN_ENTITIES} more", None)] if len(result) > SHOWN_ENTITIES else []
    )
