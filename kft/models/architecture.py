"""What rebuilds a model without its preset, and its form in model.json."""

from dataclasses import asdict, dataclass
from typing import Any

from kft import runs, tasks
from kft.errors import KftError
from kft.models.families import FAMILIES, MULTIPLE_CHOICE, SEQUENCE, Encoding, Family, HeadLayers, Sizes
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

    @property
    def kind(self) -> Family:
        return FAMILIES[self.family]

    @property
    def head(self) -> HeadLayers:
        return self.kind.heads[head_kind(self.task)]


def head_kind(task: str) -> str:
    """The kind of head, a key of `Family.heads`, that a task has."""
    return MULTIPLE_CHOICE if tasks.TASKS[task].grouped else SEQUENCE


def architecture_file(architecture: Architecture, **more: Any) -> dict[str, Any]:
    """The content of model.json: the architecture, the run's format and what else is given."""
    content = asdict(architecture)
    sizes, names = content.pop("sizes"), architecture.kind.hub.sizes
    content["backbone"] = {theirs: sizes[ours] for ours, theirs in names.items()}
    return {"format": runs.FORMAT, **content, **more}


def read_architecture(run: RunDir) -> Architecture:
    """Raises KftError: model.json is missing, damaged or edited."""
    # Runs from before there were families and spans.
    content = {"family": "bert", "spans": 0} | runs.read_json(run.model)
    try:
        names = FAMILIES[content["family"]].hub.sizes
        content["sizes"] = Sizes(**{ours: content["backbone"][theirs] for ours, theirs in names.items()})
        content["encoding"] = Encoding(**content["encoding"])
        return Architecture(**{key: content[key] for key in Architecture.__dataclass_fields__})
    except (KeyError, TypeError) as error:
        raise KftError(f"{run.model}: is damaged: {error}", "copy the run folder again") from None
