"""What rebuilds a model without its preset, and its form in model.json."""

from dataclasses import asdict, dataclass
from typing import Any

from kft import runs, tasks
from kft.models.families import FAMILIES, Encoding, Family, HeadLayers, Sizes, kind_of
from kft.runs import RunDir


@dataclass(frozen=True)
class Architecture:
    """With the weights and the tokenizer it is the whole model.

    Attributes:
        task: a key of `TASKS`.
        family: a key of `FAMILIES`.
        sizes, encoding: of the encoder.
        head_dropout: rate before the head.
        pooling: "cls" or "mean".
        outputs: C, units of the head.
        score_mean, score_scale: a regression's value is `logit * score_scale + score_mean`.
        spans: P, marked words of an example that the head reads beside it.
        windows: "mean" or "max": what the outputs for the windows of one example become.
    """

    task: str
    family: str
    sizes: Sizes
    encoding: Encoding
    head_dropout: float
    pooling: str
    outputs: int
    score_mean: float = 0.0
    score_scale: float = 1.0
    spans: int = 0
    windows: str = "mean"

    @property
    def kind(self) -> Family:
        return FAMILIES[self.family]

    @property
    def head(self) -> HeadLayers:
        return self.kind.heads[head_kind(self.task)]


def head_kind(task: str) -> str:
    """The kind of head, a key of `Family.heads`, that a task has."""
    return kind_of(tasks.TASKS.rules[task].problem)


def model_fields(architecture: Architecture) -> dict[str, Any]:
    """What model.json says of an architecture."""
    sizes = asdict(architecture.sizes)
    if not sizes["more"]:
        del sizes["more"]
    return {
        "family": architecture.family,
        "sizes": sizes,
        "encoding": asdict(architecture.encoding),
        "task": architecture.task,
        "head": {
            "outputs": architecture.outputs,
            "pooling": architecture.pooling,
            "dropout": architecture.head_dropout,
        },
    }


def read_architecture(run: RunDir) -> Architecture:
    """Raises KftError: model.json is missing, damaged or edited."""
    content = runs.read_model(run)
    try:
        head, learned = content["head"], content["learned"]
        return Architecture(
            task=content["task"],
            family=FAMILIES[content["family"]].name,
            sizes=Sizes(**content["sizes"]),
            encoding=Encoding(**content["encoding"]),
            head_dropout=head["dropout"],
            pooling=head["pooling"],
            outputs=head["outputs"],
            score_mean=learned["mean"],
            score_scale=learned["scale"],
            spans=len(content["inputs"]["spans"]),
            windows=content["inputs"].get("windows", "mean"),
        )
    except (KeyError, TypeError) as error:
        raise runs.damaged(run, error) from None
