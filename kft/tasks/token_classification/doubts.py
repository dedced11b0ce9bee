"""Words whose tag is probably wrong, by cleanlab."""

import numpy as np
import polars as pl

from kft.tasks import words
from kft.tasks.record import Doubt, Learned
from kft.tasks.token_classification import predictions, tags


def issues(table: pl.DataFrame, learned: Learned) -> list[Doubt]:
    """The doubtful words of all rows, of those that were read and have a tag."""
    from cleanlab.token_classification.filter import find_label_issues

    ids = {tag: i for i, tag in enumerate(learned.labels)}
    given, known, probabilities = [], [], predictions.read(table, learned)
    for own, read in zip(tags.rows_of(table["target"]), probabilities, strict=True):
        numbers = np.array([ids.get(tag, -1) for tag in own], np.int64)
        known.append(np.flatnonzero((numbers >= 0) & read.any(axis=1)))
        given.append(numbers[known[-1]].tolist())
    if not any(given):
        return []
    seen = [read[places] for read, places in zip(probabilities, known, strict=True)]
    doubtful = find_label_issues(given, seen, n_jobs=1)
    return [_doubt(table, learned, row, int(known[row][i]), given[row][i]) for row, i in doubtful]


def _doubt(table: pl.DataFrame, learned: Learned, row: int, word: int, tag: int) -> Doubt:
    content = table.row(row, named=True)
    start, end = words.spans_of(content["text"], content.get("words"))[word]
    part = {"text": content["text"][start:end], "label": learned.labels[tag]}
    probability = content["probabilities"][word][tag]
    where = {"word": word, "start": start, "end": end}
    return Doubt(row, content["tags"][word], probability, part | where)
