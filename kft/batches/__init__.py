"""Tokens → packed steps of one shape; their order is a pure function of (seed, epoch).

Letters: N examples, B examples in a step, S steps in an epoch, R packed rows in a step, T tokens in
one, M places of one that the head reads. Several examples share a packed row, and attention never
crosses from one to another:

    token_ids   [[CLS good film SEP CLS bad SEP 0]      example_ids [[1 1 1 1 2 2 2 0]
                 [CLS what a long dull film SEP 0]]                  [1 1 1 1 1 1 1 0]]
    positions   [[0 1 2 3 0 1 2 0] [0 1 2 3 4 5 6 0]]   reads [[0 4] [0 0]]   weights [[1 1] [1 0]]

The examples of a packed row are numbered from 1 in `example_ids`; 0 is padding. Reads stand in
the order of the examples; where one has fewer than M, the others read place 0 without weight.

Where several examples are the choices of one question, a step holds B questions, each with all its
examples, in any packed rows: so B means what it means to a recipe for one question, whatever the
number of choices. E is the number of examples that a step has room for: B, or those of the B
largest questions. The same goes for texts that are read in several windows: a step holds B texts,
each with all its windows, which have one answer together.
"""

from kft.batches.fill import INPUT_NAMES
from kft.batches.plan import Placement, Plan, placement, plan, step_weights
from kft.batches.steps import (
    PredictionShape,
    dataset,
    predicted,
    prediction_batches,
    prediction_shape,
    prediction_steps,
)
from kft.batches.windows import merged, spread

__all__ = [
    "INPUT_NAMES",
    "Placement",
    "Plan",
    "PredictionShape",
    "dataset",
    "merged",
    "placement",
    "plan",
    "predicted",
    "prediction_batches",
    "prediction_shape",
    "prediction_steps",
    "spread",
    "step_weights",
]
