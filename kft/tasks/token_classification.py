"""Token classification: a tag for each word of a text, and the entities that the tags make.

A row's label is {"tags": [tag or null, …]}, as `kft.tasks.words` spells it: null where nobody can
say, which is neither trained on nor scored. Each word is answered at its first token. Predictions
[N] are probabilities [words, C] of each row, 0 for a word that no token is left of: it counts as O.
"""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
from scipy.special import softmax

from kft.errors import KftError, did_you_mean
from kft.metrics import bootstrap, entities
from kft.metrics.entities import Tagged
from kft.tasks import labels as checks
from kft.tasks import words
from kft.tasks.classification import check_weights, mistakes_note
from kft.tasks.record import (
    Export,
    Items,
    Labels,
    Learned,
    Loss,
    Mistakes,
    Reads,
    Scoring,
    Task,
)

SHOWN_ENTITIES = 6  # of a sentence, in a list of mistakes
CONFUSIONS = 1000  # pairs of types that are kept


# What is learned and checked.


def _rows(labels: pl.Series) -> list[words.Tags]:
    return [words.tags_in(label) or [] for label in labels]


def _check(frames: dict[str, pl.DataFrame], source: str) -> None:
    for frame in frames.values():
        _check_tagged(frame)
    train = frames["train"]
    tags = {tag for row in _rows(train["label"]) for tag in row if tag is not None}
    if len(tags) < 2:
        raise KftError(
            f"{source}: every word has the tag {next(iter(tags), None)}, so there is nothing to learn",
            "`data.tags` names the column of the tags, `data.entities` that of the entities",
        )
    for name, frame in frames.items():
        if name != "train":
            _check_types(frame, tags)


def _check_tagged(frame: pl.DataFrame) -> None:
    """Raises KftError: a row has a label that is no tags."""
    wrong = frame.filter(~pl.col("label").str.starts_with('{"tags": '))
    if wrong.height:
        raise KftError(
            f"{checks.where(frame, wrong)}: must hold words with tags, got the label {wrong['label'][0][:40]!r}",
            "`data.tokens` and `data.tags` name columns of lists, or `data.entities` one of entities; "
            '`data.format = "conll"` reads CoNLL files',
        )


def _check_types(frame: pl.DataFrame, known: set[str]) -> None:
    """Raises KftError: entities of a type that train does not have; all at once."""
    types = words.types(known)
    rows = [sorted(words.types(tag for tag in row if tag) - types) for row in _rows(frame["label"])]
    bad = frame.select("id", "origin").with_columns(pl.Series("_name", rows, pl.List(pl.String)))
    checks.refuse(
        frame,
        bad.filter(pl.col("_name").list.len() > 0).explode("_name"),
        lambda name: f"an entity must be of {', '.join(sorted(types)[:20])}, got: {name}",
        "no model learns a type that train does not have: mend the rows, or set `data.label_names`",
        lambda name: did_you_mean(name, sorted(types)),
    )


def _check_each(frame: pl.DataFrame, learned: Learned) -> None:
    missing = frame.filter(pl.col("label").is_null()).select("id", "origin", _name=pl.lit(None, pl.String))
    checks.refuse(frame, missing, str, "give a file with tags")
    _check_tagged(frame)
    _check_types(frame, set(learned.labels))


def _describe(frame: pl.DataFrame) -> dict[str, Any]:
    """Words, entities of each type as conlleval reads them, and misplaced tags."""
    rows = _rows(frame["label"])
    scheme = words.scheme_of(rows)
    plain = words.plain_prefix({tag for row in rows for tag in row})
    normal = [[words.normal(tag or words.OUTSIDE, plain) for tag in row] for row in rows]
    counts = Counter(kind for row in normal for kind, *_ in entities.lenient(row))
    return {
        "entities": dict(sorted(counts.items())),
        "words": {
            "count": sum(map(len, rows)),
            "scheme": scheme,
            "misplaced_tags": sum(1 for row in rows for _ in words.misplaced(row, scheme)),
            "without_tag": sum(tag is None for row in rows for tag in row),
        },
    }


def _lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    counts = ", ".join(f"{kind} {count:,}" for kind, count in described["entities"].items())
    n = described["words"]
    scheme = f"tags in {n['scheme']}" if n["scheme"] else "tags without prefixes"
    amiss = f"{n['misplaced_tags']:,} tags that cannot follow the one before, {n['without_tag']:,} words without a tag"
    return [("entities", counts or "none"), ("words", f"{n['count']:,}, {scheme}; {amiss}")]


def _learn(train: pl.DataFrame, known: list[str] | None = None, settings: Any = None) -> Learned:
    tags = {tag for row in _rows(train["label"]) for tag in row if tag is not None}
    names = checks.ordered(pl.Series(sorted(tags), dtype=pl.String))
    return Learned(labels=tuple(known if known is not None and set(known) == tags else names))


def _truths(labels: pl.Series, learned: Learned) -> np.ndarray:
    """Tags of each row, [N] tuples."""
    return _listed([tuple(row) for row in _rows(labels)])


def _listed(rows: list) -> np.ndarray:
    """[N] of objects, whatever their lengths."""
    result = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        result[i] = row
    return result


# What is read.


def _places(frame: pl.DataFrame, rows: Any) -> Reads:
    """The first token of each word, in the row of tokens that has most around it."""
    columns = (frame[name] if name in frame.columns else [None] * len(frame) for name in ("text", "words"))
    spans = [words.spans_of(*row) for row in zip(*columns, strict=True)]
    counts = np.array([len(row) for row in spans], np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.array([span for row in spans for span in row], np.int32).reshape(-1, 2)
    return first_tokens(rows, flat, offsets)


def first_tokens(rows: Any, spans: np.ndarray, offsets: np.ndarray) -> Reads:
    """The reads of words.

    Args:
        rows: located tokens; `rows.examples` tells of which example each row is.
        spans: int32 [W, 2], the characters of all words of N examples.
        offsets: int64 [N + 1], where the words of each begin.
    """
    lengths = np.diff(rows.offsets)
    example = np.arange(len(lengths)) if rows.examples is None else rows.examples
    # Of each row, all words of its example: the row, the word.
    counts = np.diff(offsets)[example]
    row = np.repeat(np.arange(len(lengths)), counts)
    word = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + offsets[example][row]
    # Tokens end in order of their characters, but for special ones at the end of a row.
    begins, ends = rows.characters.T.astype(np.int64)
    within = np.arange(len(ends)) - np.repeat(rows.offsets[:-1], lengths)
    size = np.int64(max(int(ends.max(initial=0)), int(spans.max(initial=0))) + 2)
    ends = np.where((ends == 0) & (within > 0), size - 1, ends)
    keys = np.repeat(np.arange(len(lengths)), lengths) * size + ends
    token = np.searchsorted(keys, row * size + spans[word, 0], side="right")
    known = token < rows.offsets[row + 1]
    row, word, token = row[known], word[known], token[known]
    known = (begins[token] < spans[word, 1]) & (rows.characters[token, 1] > spans[word, 0])
    row, word, token = row[known], word[known], token[known]
    place = token - rows.offsets[row]
    around = np.minimum(place, lengths[row] - 1 - place)
    best = np.lexsort((row, -around, word))  # of each word the row that shows most first
    best = best[np.r_[True, np.diff(word[best]) > 0]] if len(best) else best
    best = best[np.lexsort((word[best], row[best]))]
    row, word, place = row[best], word[best], place[best]
    read = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(lengths)))]).astype(np.int64)
    return Reads(read, place.astype(np.int32), items=Items(offsets, word))


def _reads(
    frame: pl.DataFrame, rows: Any, learned: Learned, class_weight: str | dict[str, float] | None = None
) -> Reads:
    reads = _places(frame, rows)
    ids = {tag: i for i, tag in enumerate(learned.labels)}
    tags = [ids.get(tag, -1) for row in _rows(frame["label"]) for tag in row]
    targets = np.array(tags, np.int32)[reads.items.of]
    weights = (targets >= 0).astype(np.float32)
    targets = np.maximum(targets, 0)
    return reads.with_targets(targets, weights * _class_weights(targets, learned, class_weight))


def _class_weights(
    targets: np.ndarray, learned: Learned, class_weight: str | dict[str, float] | None
) -> np.ndarray | float:
    """The weight of each word, by its tag; as for classes."""
    if class_weight is None:
        return 1.0
    if class_weight == "balanced":
        counts = np.bincount(targets, minlength=len(learned.labels))
        by_tag = len(targets) / (len(learned.labels) * np.maximum(counts, 1))
    else:
        check_weights(class_weight, list(learned.labels))
        by_tag = np.array([class_weight.get(tag, 1.0) for tag in learned.labels])
    return by_tag[targets].astype(np.float32)


# What is predicted.


def _predictions(outputs: np.ndarray, learned: Learned, reads: Reads) -> np.ndarray:
    items = reads.items
    flat = np.zeros((int(items.offsets[-1]), len(learned.labels)))
    flat[items.of] = softmax(outputs.astype(np.float64), axis=1)
    return _listed(
        [flat[begin:end] for begin, end in zip(items.offsets[:-1], items.offsets[1:], strict=True)]
    )


def _chosen(probabilities: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    """The tag of each word; O for one that was not read."""
    read = probabilities.any(axis=1)
    best = probabilities.argmax(axis=1).tolist()
    return [labels[i] if seen else words.OUTSIDE for i, seen in zip(best, read, strict=True)]


def _scored(truths: np.ndarray, predictions: np.ndarray, learned: Learned, questions=None):
    labels, plain = learned.labels, words.plain_prefix(learned.labels)
    ids = {tag: i for i, tag in enumerate(labels)}
    gold, tags, losses = [], [], np.zeros(len(truths))
    read, lost = np.zeros((2, len(truths)), np.int64)
    for n, (right, probabilities) in enumerate(zip(truths, predictions, strict=True)):
        chosen = _chosen(probabilities, labels)
        gold.append([words.normal(tag or words.OUTSIDE, plain) for tag in right])
        tags.append(
            [
                words.normal(tag, plain) if true else words.OUTSIDE
                for tag, true in zip(chosen, right, strict=True)
            ]
        )
        own = np.array([ids.get(tag, -1) for tag in right], np.int64)
        seen = probabilities.any(axis=1)
        known = (own >= 0) & seen
        likelihood = probabilities[known, own[known]]
        losses[n] = -np.log(np.maximum(likelihood, 1e-15)).sum()
        read[n], lost[n] = known.sum(), (~seen).sum()
    prefixes = {words.parts(tag)[0] for row in (*gold, *tags) for tag in row}
    scheme = "IOBES" if prefixes & {"E", "S"} else words.scheme_of(gold) or "IOB2"
    return truths, Tagged(gold, tags, losses, read, lost, scheme)


def _columns(predictions: np.ndarray, learned: Learned) -> list[pl.Series]:
    return [
        pl.Series("tags", [_chosen(row, learned.labels) for row in predictions], pl.List(pl.String)),
        pl.Series(
            "scores", [row.max(axis=1, initial=0).tolist() for row in predictions], pl.List(pl.Float64)
        ),
        pl.Series("probabilities", [row.tolist() for row in predictions], pl.List(pl.List(pl.Float64))),
    ]


def _read(table: pl.DataFrame, learned: Learned) -> np.ndarray:
    rows = table["probabilities"].to_list()
    return _listed([np.array(row, np.float64).reshape(-1, len(learned.labels)) for row in rows])


def _mean(predictions: list[np.ndarray], learned: Learned, questions=None) -> np.ndarray:
    return _listed([np.mean(rows, axis=0) for rows in zip(*predictions, strict=True)])


def entities_of(
    text: str, given: str | None, tags: list[str], scores: list[float], labels: Any
) -> list[dict[str, Any]]:
    """The entities of a text, in its order, as conlleval reads the tags.

    Args:
        text: of the row.
        given: the column "words" of the row, None where the file does not part the words.
        tags, scores: of each word.
        labels: all tags that there are.

    Returns:
        [{"start", "end", "label", "text", "score"}], the score being the mean of the words'; with
        given words also "words", the first one's number from 0 and the one after the last.
    """
    spans, plain = words.spans_of(text, given), words.plain_prefix(labels)
    result = []
    for kind, first, last in entities.lenient([words.normal(tag, plain) for tag in tags]):
        start, end = spans[first][0], spans[last][1]
        entity = {
            "start": start,
            "end": end,
            "label": kind,
            "text": text[start:end],
            "score": float(np.mean(scores[first : last + 1])),
        }
        result.append(entity | ({} if given is None else {"words": [first, last + 1]}))
    return result


def _answer(row: dict[str, Any], learned: Learned) -> dict[str, Any]:
    columns = (row["text"] or "", row.get("words"), row["tags"], row["scores"])
    return {"entities": entities_of(*columns, learned.labels)}


def _conll(row: dict[str, Any], learned: Learned) -> str:
    """A line for each word, as conlleval wants it, parted by spaces.

    It has the word, its right tag where the row has one, and the predicted tag.
    """
    text = row["text"] or ""
    gold = words.tags_in(row.get("label") or "")
    columns = [[text[a:b] for a, b in words.spans_of(text, row.get("words"))]]
    columns += [[tag or words.OUTSIDE for tag in gold]] if gold is not None else []
    lines = zip(*columns, row["tags"], strict=True)
    return "".join(" ".join(map(_column, line)) + "\n" for line in lines) + "\n"


def _column(value: str) -> str:
    """A value without the spaces that part columns."""
    return "\u00a0".join(value.split()) or "_"


def _words(answer: dict[str, Any]) -> str:
    return ", ".join(answer["entities"]) or "no entity"


def _compared(row: np.ndarray, learned: Learned) -> dict[str, Any]:
    tags, plain = _chosen(row, learned.labels), words.plain_prefix(learned.labels)
    spans = entities.lenient([words.normal(tag, plain) for tag in tags])
    return {"entities": [f"{kind} {first + 1}-{last + 1}" for kind, first, last in spans]}


def _differ(predictions: np.ndarray, learned: Learned) -> tuple[np.ndarray, np.ndarray]:
    chosen = [[tuple(_chosen(row, learned.labels)) for row in model] for model in predictions]
    differ = np.array([len(set(tags)) > 1 for tags in zip(*chosen, strict=True)], bool)
    sure = [min(map(_sureness, rows)) for rows in zip(*predictions, strict=True)]
    return differ, -np.array(sure)


def _sureness(probabilities: np.ndarray) -> float:
    """The mean over the words of a row of the highest probability."""
    return float(probabilities.max(axis=1, initial=0).sum() / max(len(probabilities), 1))


# Details and report.


def _checked(targets: Any, tagged: Tagged, classes: int) -> tuple[np.ndarray, Tagged]:
    if len(targets) != len(tagged):
        raise ValueError(f"predictions must be of {len(targets)} rows, got: {len(tagged)}")
    return targets, tagged


def _details(targets, tagged: Tagged, labels, generator, resamples: int) -> dict[str, Any]:
    total, parts = len(tagged), []
    for size in bootstrap.chunks(resamples, total + 6 * len(tagged.kinds)) if total else ():
        counts = generator.multinomial(total, np.full(total, 1 / total), size=size).astype(np.float64)
        parts.append(entities.scores(tagged, counts))
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
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


def _worst(table: pl.DataFrame, labels: list[str], most: int) -> Mistakes:
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


def _together(predictions: np.ndarray) -> np.ndarray:
    """Probabilities of all items in one, [W, C]."""
    return np.concatenate(list(predictions))


def _ties(predictions: np.ndarray, learned: Learned, tolerance: float) -> np.ndarray:
    top = -np.sort(-_together(predictions), axis=1)[:, :2]
    return top[:, 0] - top[:, -1] <= 2 * tolerance


TASK = Task(
    labels=Labels(_check, _describe, "random", lines=_lines),
    learn=_learn,
    outputs=lambda learned: len(learned.labels),
    check=_check_each,
    truths=_truths,
    reads=_reads,
    places=_places,
    located=True,
    loss=lambda train, reads, learned: Loss("cross_entropy", {"label_smoothing": train.label_smoothing}),
    divergence="classes",
    predictions=_predictions,
    scored=_scored,
    columns=_columns,
    read=_read,
    mean=_mean,
    answer=_answer,
    answered="entities",
    written={"conll": _conll},
    compared=_compared,
    words=_words,
    differ=_differ,
    counted="sentence",
    worst=_worst,
    scoring=Scoring(
        metrics=entities.METRICS,
        loss="token_log_loss",
        checked=_checked,
        numbers=lambda tagged: tagged.losses,
        details=_details,
        resampled=lambda targets, tagged, counts: entities.scores(tagged, counts),
        right=lambda targets, tagged: np.array(
            [gold == tags for gold, tags in zip(tagged.gold, tagged.tags, strict=True)], bool
        ),
        unit="sentence",
    ),
    export=Export(
        formats=("hf", "onnx"),
        signature=None,
        in_graph=lambda *_: {},
        numbers="probabilities",
        compared=_together,
        decided="tags",
        decisions=lambda predictions, learned: _together(predictions).argmax(axis=1),
        ties=_ties,
        every_token=True,
    ),
)
