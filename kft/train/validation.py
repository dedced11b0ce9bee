"""What the scores of an epoch need, and what the answers to validation teach the task."""

from dataclasses import dataclass

import numpy as np

from kft import batches, evaluate
from kft.config import TrainConfig
from kft.tasks import TASKS, scoring
from kft.tasks.record import Learned
from kft.text import Tokens
from kft.train.preparing import Prepared


@dataclass(frozen=True)
class Validation:
    """Tokens and targets of the validation split, and how it is scored.

    Attributes:
        tokens: of its rows.
        expected: what they should be answered with.
        shape: of its batches, and of those of the other splits that are scored.
        metric: that decides which epoch is best.
        task: a key of `TASKS`.
        learned: what the task took from train.
        settings: the section `train`.
    """

    tokens: Tokens
    expected: evaluate.Expected
    shape: batches.PredictionShape
    metric: str
    task: str
    learned: Learned
    settings: TrainConfig

    def tuned(self, logits: np.ndarray) -> Learned:
        """What the task learned, with what these answers to the rows add to it.

        Every epoch is scored with it: epochs are compared by what would be reported of them.
        """
        task, expected = TASKS[self.task], self.expected
        predictions = task.predictions(logits, self.learned, expected.reads)
        return task.tune(self.learned, self.settings, expected.truths, predictions)


def validation_of(prepared: Prepared) -> Validation:
    config, data, model = prepared.config, prepared.data, prepared.model
    tokens, others = data.tokens["validation"], [data.tokens[name] for name in data.tokens if name != "train"]
    return Validation(
        tokens=tokens,
        expected=evaluate.expected(data.splits.validation, config.task, data.learned, tokens),
        shape=evaluate.choose_shape(model, *others, counts=data.reads.counts),
        metric=config.train.best_metric or scoring.main_metric(config.task),
        task=config.task,
        learned=data.learned,
        settings=config.train,
    )
