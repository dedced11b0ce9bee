"""Question answering: the part of a context that answers a question, or none.

A row's label is {"answers": [[text, start or null], …]}, as `kft.tasks.golds` spells it: none where
the question has no answer. Each token of the context is scored as the first and as the last of the
answer, and the first token of all for no answer. Predictions [N] are the likeliest answers of each
question, with their characters, over all windows of its context.
"""

from scipy.special import expit

from kft.metrics import answers
from kft.tasks import objects
from kft.tasks.question_answering import candidates, details, doubts, golds, lines, reads
from kft.tasks.record import Export, Labels, Loss, Scoring, Task

TASK = Task(
    labels=Labels(
        golds.check, golds.describe, "random", lines=golds.lines, unusable={golds.LEFT_OUT: golds.lost}
    ),
    learn=golds.learn,
    outputs=lambda learned: 2,
    check=golds.check_each,
    truths=golds.truths,
    reads=reads.reads,
    places=reads.places,
    located=True,
    loss=lambda train, reads, learned: Loss("cross_entropy_of_spans"),
    divergence="spans",
    predictions=candidates.predictions,
    tune=candidates.tune,
    scored=candidates.scored,
    columns=candidates.columns,
    read=candidates.read,
    mean=candidates.mean,
    answer=lines.answer,
    answered="answer",
    written={"squad": lines.SQUAD, "squad-none": lines.SQUAD_NONE},
    texts={"text": "question", "text_pair": "context"},
    compared=candidates.compared,
    said=golds.said,
    words=lines.in_words,
    differ=candidates.differ,
    counted="question",
    worst=details.worst,
    issues=doubts.issues,
    scoring=Scoring(
        metrics=answers.METRICS,
        loss="answer_log_loss",
        checked=objects.checked,
        numbers=lambda given: given.losses,
        details=details.details,
        resampled=details.resampled,
        right=lambda targets, given: given.exact > 0,
        unit="question",
    ),
    export=Export(
        formats=("savedmodel", "hf", "onnx"),
        signature=None,
        in_graph=lambda *_: {},
        numbers="score",
        every_token=True,
        tried=lambda outputs, learned, reads: expit(outputs),
        pipeline="question-answering",
        served=lines.SCHEMA,
    ),
)
