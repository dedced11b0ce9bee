"""A finished run as the exporters see it: weights as plain arrays, tokenizer, labels."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kft import evaluate, models, runs
from kft.text import Tokenizer


@dataclass(frozen=True)
class Source:
    """What an exporter needs of a run.

    Attributes:
        loaded: the run, its model computing in float32 whatever it was trained in.
        weights: float32 arrays by the checkpoint's names, as `Weights.arrays` gives them; of a
            regression the head gives values, not logits.
        max_length: tokens that a text is cut to, or that a window of it has.
        paired: whether an example is a pair of texts.
    """

    loaded: evaluate.LoadedRun
    weights: dict[str, np.ndarray]
    max_length: int
    paired: bool

    @property
    def architecture(self) -> models.Architecture:
        return self.loaded.model.architecture

    @property
    def tokenizer(self) -> Tokenizer:
        return self.loaded.tokenizer

    @property
    def in_windows(self) -> bool:
        """Whether the run reads a longer text in windows, and answers it as one."""
        return self.loaded.inputs.stride is not None and not self.loaded.task.located

    @property
    def labels(self) -> list[str]:
        return self.loaded.labels


def load(path: str | Path) -> Source:
    """The finished run in a folder.

    Raises:
        KftError: the folder holds no whole, finished run.
    """
    runs.open_run(path, finished=False)  # `load_run` also takes an ensemble, which is no one model
    loaded = evaluate.load_run(path)
    if loaded.config.train.precision != "float32":
        loaded = replace(loaded, model=models.load(loaded.run, "float32"))
    return Source(
        loaded=loaded,
        weights=_weights(loaded.model),
        max_length=loaded.inputs.max_length,
        paired=loaded.inputs.paired,
    )


def _weights(model: models.Classifier) -> dict[str, np.ndarray]:
    """See `Source.weights`."""
    architecture, arrays = model.architecture, model.named.arrays()
    scale, mean = np.float32(architecture.score_scale), np.float32(architecture.score_mean)
    kernel, bias = (f"{architecture.head.output}.{part}" for part in ("weight", "bias"))
    return arrays | {kernel: arrays[kernel] * scale, bias: arrays[bias] * scale + mean}
