"""Token classification: a tag for each word of a text, and the entities that the tags make.

A row's label is {"tags": [tag or null, …]}, as `kft.tasks.words` spells it: null where nobody can
say, which is neither trained on nor scored. Each word is answered at its first token. Predictions
[N] are probabilities [words, C] of each row, 0 for a word that no token is left of: it counts as O.
"""

import numpy as np

from kft.metrics import entities
from kft.tasks import objects
from kft.tasks.record import Export, Labels, Loss, Scoring, Task, Written
from kft.tasks.token_classification import answers, details, doubts, predictions, reads, tags

TASK = Task(
    labels=Labels(tags.check, tags.describe, "random", lines=tags.lines),
    learn=tags.learn,
    outputs=lambda learned: len(learned.labels),
    check=tags.check_each,
    truths=tags.truths,
    reads=reads.reads,
    places=reads.places,
    located=True,
    loss=lambda train, reads, learned: Loss("cross_entropy", {"label_smoothing": train.label_smoothing}),
    divergence="classes",
    predictions=predictions.predictions,
    scored=predictions.scored,
    columns=predictions.columns,
    read=predictions.read,
    mean=predictions.mean,
    answer=answers.answer,
    answered="entities",
    written={"conll": Written(answers.conll)},
    compared=predictions.compared,
    words=answers.in_words,
    said=predictions.said,
    differ=predictions.differ,
    counted="sentence",
    worst=details.worst,
    issues=doubts.issues,
    scoring=Scoring(
        metrics=entities.METRICS,
        loss="token_log_loss",
        checked=objects.checked,
        numbers=lambda tagged: tagged.losses,
        details=details.details,
        resampled=lambda targets, tagged, counts: entities.scores(tagged, counts),
        right=lambda targets, tagged: np.array(
            [gold == tags for gold, tags in zip(tagged.gold, tagged.tags, strict=True)], bool
        ),
        unit="sentence",
    ),
    export=Export(
        formats=("savedmodel", "hf", "onnx"),
        signature=None,
        in_graph=lambda *_: {},
        numbers="probabilities",
        compared=predictions.together,
        decided="tags",
        decisions=lambda rows, learned: predictions.together(rows).argmax(axis=1),
        ties=predictions.ties,
        every_token=True,
        pipeline="token-classification",
        served=answers.SCHEMA,
    ),
)
