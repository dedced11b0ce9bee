"""A preset and what is to be answered → a model to train."""

from dataclasses import dataclass, replace

import numpy as np

from kft import backend
from kft.errors import KftError
from kft.models import adapters, presets
from kft.models.architecture import Architecture, head_kind
from kft.models.blocks import ACTIVATIONS
from kft.models.classifier import Classifier
from kft.models.families import DECODER
from kft.models.low_rank import Lora
from kft.models.presets import Preset
from kft.models.saving import load, new_backbone
from kft.models.weights import Weights
from kft.runs import RunDir

backend.select()

import keras  # noqa: E402


@dataclass(frozen=True)
class Goal:
    """What a model is to answer, and what of an example it reads.

    Attributes:
        task: a key of `TASKS`.
        outputs: C, units of the head.
        labels: label names in id order; of tasks that have them.
        pooling: "cls" or "mean".
        score_mean, score_scale, spans, windows: see `Architecture`.
    """

    task: str
    outputs: int
    labels: tuple[str, ...] = ()
    pooling: str = "cls"
    score_mean: float = 0.0
    score_scale: float = 1.0
    spans: int = 0
    windows: str = "mean"


@dataclass(frozen=True)
class Start:
    """What a model starts from and which of its weights train.

    Attributes:
        dropout: rate everywhere; None keeps the checkpoint's rates.
        freeze_layers: the embeddings and this many of the lowest layers keep their weights.
        reinit_layers: this many of the top layers, and the pooler, start anew; see
            `adapters.reinitialise`.
        lora: low-rank adapters; a saved model has them merged into its kernels.
        r_drop_alpha: see `Classifier`.
    """

    dropout: float | None = None
    freeze_layers: int = 0
    reinit_layers: int = 0
    lora: Lora | None = None
    r_drop_alpha: float = 0.0


def build(
    preset: Preset, goal: Goal, start: Start = Start(), precision: str = "float32", seed: int = 0
) -> Classifier:
    """A pretrained encoder with a head.

    The head is new, drawn from `seed`, unless the preset is a fine-tuned classifier with the same
    label names (in any order): then its head is kept, its units in the order of the labels.

    Args:
        preset: from `presets.locate`.
        goal: what it answers.
        start: what trains, and from which values.
        precision: "float32" or "mixed_bfloat16".
        seed: of the head and of dropout.

    Raises:
        KftError: the weights cannot be read, there are fewer layers than are to be frozen, or no
        dropout for R-Drop.
    """
    _check_family(preset)
    _check_layers(preset, start)
    architecture = _architecture(preset, goal, start)
    backbone, trained = _pretrained(preset, architecture, precision, seed)
    model = Classifier(architecture, backbone, seed, start.r_drop_alpha)
    kept = _kept(trained, goal, preset, model)
    model.named.assign(kept)
    model.drawn = _drawn(kept, preset, model)
    layers = preset.family.own_layers(preset.sizes)
    adapters.reinitialise(model, layers - start.reinit_layers, seed)
    adapters.freeze(model, start.freeze_layers)
    if start.lora is not None:
        adapters.add_lora(model, start.lora, seed)
    return model


def keeps_head(preset: Preset, labels: tuple[str, ...] | list[str], architecture: Architecture) -> bool:
    """Whether training starts with the preset's own head, which reads and answers the same."""
    if preset.head is None or architecture.pooling != "cls" or architecture.spans:
        return False
    if preset.head.kind != head_kind(architecture.task):
        return False
    names = preset.head.labels
    return len(names) == architecture.outputs and (not labels or sorted(names) == sorted(labels))


def _check_family(preset: Preset) -> None:
    if preset.family.shape == DECODER:
        raise KftError(
            f"{preset.name}: is a decoder ({preset.family.name}), which `kft train` does not fine-tune",
            "take an encoder, such as bert_base_en_uncased",
        )


def _check_layers(preset: Preset, start: Start) -> None:
    layers = preset.family.own_layers(preset.sizes)
    if start.freeze_layers > layers:
        raise KftError(
            f"`model.freeze_layers` is {start.freeze_layers}, {preset.name} has {layers} layers",
            f"freeze at most {layers}",
        )
    if start.freeze_layers + start.reinit_layers > layers:
        raise KftError(
            f"`model.reinit_layers` is {start.reinit_layers} and `model.freeze_layers` {start.freeze_layers}, "
            f"{preset.name} has {layers} layers",
            "new layers must train: lower one of them",
        )


def _architecture(preset: Preset, goal: Goal, start: Start) -> Architecture:
    encoding = preset.encoding
    if encoding.activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise KftError(
            f"{preset.name}: activation {encoding.activation!r} is not supported", f"supported: {known}"
        )
    head_rate = encoding.dropout if preset.classifier_dropout is None else preset.classifier_dropout
    if start.dropout is not None:
        head_rate = start.dropout
        encoding = replace(encoding, dropout=start.dropout, attention_dropout=start.dropout)
    if start.r_drop_alpha and not any((encoding.dropout, encoding.attention_dropout, head_rate)):
        raise KftError(
            f"`train.r_drop_alpha` compares two dropout masks, and {preset.name} has no dropout",
            "--set model.dropout=0.1",
        )
    return Architecture(
        task=goal.task,
        family=preset.family.name,
        sizes=preset.sizes,
        encoding=encoding,
        head_dropout=head_rate,
        pooling=goal.pooling,
        outputs=goal.outputs,
        score_mean=goal.score_mean,
        score_scale=goal.score_scale,
        spans=goal.spans,
        windows=goal.windows,
    )


def _pretrained(preset: Preset, architecture: Architecture, precision: str, seed: int):
    """(backbone with the preset's weights, {name: array} of what it has of the head).

    A pooler that the backbone holds and the preset lacks (a masked language model has none) is
    drawn from `seed`.
    """
    family = preset.family
    if preset.kind == "run":
        trained = load(RunDir(preset.path), precision)
        parts = family.parts(trained.backbone)
        own = {name: array for name, array in trained.named.arrays().items() if name not in parts}
        return trained.backbone, own
    own = presets.head_weights(preset, head_kind(architecture.task))
    if preset.kind == "keras":
        return _from_keras_hub(preset, precision), own
    backbone = new_backbone(family, preset.sizes, precision)
    named, arrays = Weights(family.parts(backbone)), presets.encoder_weights(preset)
    named.assign(arrays)
    new = [name for name in named.parts if name not in arrays and name not in own]
    adapters.draw(named, new, family.weights(preset.sizes), seed)
    return backbone, own


def _from_keras_hub(preset: Preset, precision: str):
    kind = getattr(backend.keras_hub().models, preset.family.hub.backbone)
    try:
        backbone = kind.from_preset(str(preset.path), dtype=keras.dtype_policies.DTypePolicy(precision))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise KftError(
            f"{preset.name}: its weights cannot be read: {reason}", "is the folder whole?"
        ) from error
    backbone.trainable = True
    return backbone


def _kept(
    trained: dict[str, np.ndarray], goal: Goal, preset: Preset, model: Classifier
) -> dict[str, np.ndarray]:
    """The weights of the preset's head that fit: its pooler, and outputs that mean the same."""
    layers, parts = model.architecture.head, model.named.parts
    kept = {name: array for name, array in trained.items() if name in parts}
    outputs = {name: kept.pop(name, None) for name in (f"{layers.output}.weight", f"{layers.output}.bias")}
    if keeps_head(preset, goal.labels, model.architecture):
        names = list(preset.head.labels)
        order = [names.index(label) for label in goal.labels] if goal.labels else slice(None)
        kept |= {name: array[..., order] for name, array in outputs.items()}
    return kept


def _drawn(kept: dict[str, np.ndarray], preset: Preset, model: Classifier) -> tuple[str, ...]:
    """The layers of the head that nothing of the preset was assigned to."""
    architecture = model.architecture
    given = set(kept)
    if preset.kind != "huggingface":  # a pooler that the backbone holds came with it
        given |= architecture.kind.parts(model.backbone).keys()
    layers = architecture.head.layers if architecture.pooling == "cls" else (architecture.head.output,)
    return tuple(layer for layer in layers if f"{layer}.weight" not in given)
