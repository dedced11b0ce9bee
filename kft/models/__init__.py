"""Preset, handle or folder → backbone and dense head; save it in a run, load it from one."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kft import backend, runs, tasks
from kft.errors import KftError
from kft.models import adapters
from kft.models.encoder import ACTIVATIONS, Dropout, Encoding, encode_first_tokens
from kft.models.presets import MULTIPLE_CHOICE, Preset, head_weights
from kft.runs import RunDir
from kft.text import BERT, Template

backend.select()

import keras  # noqa: E402

_BACKBONE = (
    "vocabulary_size",
    "num_layers",
    "num_heads",
    "hidden_dim",
    "intermediate_dim",
    "max_sequence_length",
    "num_segments",
)


@dataclass(frozen=True)
class Architecture:
    """What rebuilds a model without its preset; with the weights and the vocabulary it is the whole model.

    Attributes:
        task: "classification", "regression" or "choice".
        backbone: arguments of `keras_hub.models.BertBackbone`.
        encoding: activation, epsilon, dropout rates of the encoder.
        head_dropout: rate before the head.
        pooling: "cls" or "mean".
        outputs: C, units of the head.
        score_mean, score_scale: a regression's value is `logit * score_scale + score_mean`.
        spans: P, marked words of an example that the head reads beside it.
    """

    task: str
    backbone: dict[str, int]
    encoding: Encoding
    head_dropout: float
    pooling: str
    outputs: int
    score_mean: float = 0.0
    score_scale: float = 1.0
    spans: int = 0

    @property
    def template(self) -> Template:
        """What stands around the texts of an example."""
        return BERT


class Classifier(keras.Model):
    """A BERT backbone and a dense head over packed rows: inputs as `batches` makes them → logits float32 [R, K, C].

    With `r_drop_alpha` it trains by R-Drop (Liang et al. 2021): on the mean loss of two passes, whose dropout differs, and
    alpha times the divergence of their predictions. Any other use sees one pass.
    """

    def __init__(self, architecture: Architecture, backbone, seed: int = 0, r_drop_alpha: float = 0.0):
        super().__init__(name="classifier")
        self.architecture = architecture
        self.r_drop_alpha = r_drop_alpha
        self.backbone = backbone
        initializer = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)  # BERT's own
        self.head = keras.layers.Dense(
            architecture.outputs, kernel_initializer=initializer, dtype="float32", name="head"
        )
        self.head.build((None, (1 + architecture.spans) * backbone.hidden_dim))
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        dropout = Dropout(self.seed_generator if training else None)
        architecture = self.architecture
        x = encode_first_tokens(self.backbone, inputs, architecture.encoding, architecture.pooling, dropout)
        return self.head(dropout(keras.ops.cast(x, "float32"), architecture.head_dropout))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not (training and self.r_drop_alpha):
            return loss
        again = self(x, training=True)
        loss = (loss + super().compute_loss(x, y, again, sample_weight, training)) / 2
        apart = tasks.TASKS[self.architecture.task].divergence(y, y_pred, again)  # [R, K]
        mean = keras.ops.divide_no_nan(keras.ops.sum(apart * sample_weight), keras.ops.sum(sample_weight))
        return loss + self.r_drop_alpha * mean


def build(
    preset: Preset,
    task: str,
    labels: list[str],
    outputs: int,
    *,
    pooling: str = "cls",
    dropout: float | None = None,
    freeze_layers: int = 0,
    reinit_layers: int = 0,
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    lora_targets: list[str] | None = None,
    r_drop_alpha: float = 0.0,
    precision: str = "float32",
    seed: int = 0,
    score_mean: float = 0.0,
    score_scale: float = 1.0,
    spans: int = 0,
) -> Classifier:
    """A pretrained backbone with a dense head.

    The head is new, drawn from `seed`, unless the preset is a fine-tuned classifier with the same label names (in any
    order): then its head is kept, its units in the order of `labels`.

    Args:
        preset: from `presets.locate`.
        task: "classification", "regression" or "choice".
        labels: label names in id order; for classification only.
        outputs: C, units of the head.
        pooling: "cls" or "mean".
        dropout: rate everywhere; None keeps the checkpoint's rates.
        freeze_layers: the embeddings and this many of the lowest layers keep their weights.
        reinit_layers: this many of the top layers, and the pooler, start anew; see `adapters.reinitialise`.
        lora_rank, lora_alpha, lora_targets: see `adapters.add_lora`; a saved model has them merged into its kernels.
        r_drop_alpha: see `Classifier`.
        precision: "float32" or "mixed_bfloat16".
        seed: of the head and of dropout.
        score_mean, score_scale, spans: see `Architecture`.

    Raises:
        KftError: the weights cannot be read, there are fewer layers than are to be frozen, or no dropout for R-Drop.
    """
    backbone = _load_backbone(preset, precision)
    if freeze_layers > backbone.num_layers:
        raise KftError(
            f"`model.freeze_layers` is {freeze_layers}, {preset.name} has {backbone.num_layers} layers",
            f"freeze at most {backbone.num_layers}",
        )
    if freeze_layers + reinit_layers > backbone.num_layers:
        raise KftError(
            f"`model.reinit_layers` is {reinit_layers} and `model.freeze_layers` {freeze_layers}, "
            f"{preset.name} has {backbone.num_layers} layers",
            "new layers must train: lower one of them",
        )
    if preset.activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise KftError(
            f"{preset.name}: activation {preset.activation!r} is not supported", f"supported: {known}"
        )
    rates = (preset.dropout, preset.attention_dropout) if dropout is None else (dropout, dropout)
    head_rate = (
        preset.classifier_dropout if dropout is None and preset.classifier_dropout is not None else rates[0]
    )
    architecture = Architecture(
        task=task,
        backbone={key: int(getattr(backbone, key)) for key in _BACKBONE},
        encoding=Encoding(preset.activation, preset.epsilon, *rates),
        head_dropout=head_rate,
        pooling=pooling,
        outputs=outputs,
        score_mean=score_mean,
        score_scale=score_scale,
        spans=spans,
    )
    if r_drop_alpha and not any((*rates, head_rate)):
        raise KftError(
            f"`train.r_drop_alpha` compares two dropout masks, and {preset.name} has no dropout",
            "--set model.dropout=0.1",
        )
    model = Classifier(architecture, backbone, seed, r_drop_alpha)
    kept = _matching_head(preset, labels, architecture)
    if kept is not None:
        model.head.set_weights(kept)
    adapters.reinitialise(backbone, reinit_layers, seed)
    _freeze(backbone, freeze_layers)
    if lora_rank is not None:
        alpha = lora_rank if lora_alpha is None else lora_alpha
        adapters.add_lora(backbone, lora_rank, alpha, lora_targets or ["query", "value"], seed)
    return model


def parameter_counts(model: Classifier) -> dict[str, int]:
    """{"total", "trainable"} numbers of weights; the pooler does not count as trainable where the head skips it."""
    count = {"total": model.weights, "trainable": model.trainable_weights}
    return {
        name: int(sum(np.prod(w.shape) for w in weights if "seed" not in w.name))
        for name, weights in count.items()
    }


def architecture_file(architecture: Architecture, **more: Any) -> dict[str, Any]:
    """The content of model.json: the architecture, the run's format and what else is given."""
    return {"format": runs.FORMAT, **asdict(architecture), **more}


def save(model: Classifier, file: Path) -> None:
    """Writes the weights of a model as a Keras `.weights.h5` file, whole or not at all."""
    runs.write_whole(file, _without_optimizer(model).save_weights)


def load_weights(model: Classifier, file: Path) -> None:
    """Puts the weights of a file that `save` wrote into a model.

    Raises:
        KftError: the file is missing, damaged or of another model.
    """
    try:
        _without_optimizer(model).load_weights(file)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise KftError(
            f"{file}: is damaged or of another model: {reason}", "copy the run folder again"
        ) from None


def load(run: RunDir, precision: str = "float32") -> Classifier:
    """The model of a run, with its trained weights.

    Raises:
        KftError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    architecture = read_architecture(run)
    backbone = _make_backbone(architecture.backbone, precision)
    model = Classifier(architecture, backbone)
    try:
        model.load_weights(run.weights)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise KftError(
            f"{run.weights}: is damaged or of another model: {reason}", "copy the run folder again"
        ) from None
    return model


def read_architecture(run: RunDir) -> Architecture:
    """Raises KftError: model.json is missing, damaged or edited."""
    content = {"spans": 0} | runs.read_json(run.model)  # runs from before there were spans
    try:
        fields = {key: content[key] for key in Architecture.__dataclass_fields__}
        return Architecture(**(fields | {"encoding": Encoding(**fields["encoding"])}))
    except (KeyError, TypeError) as error:
        raise KftError(f"{run.model}: is damaged: {error}", "copy the run folder again") from None


def _without_optimizer(model: Classifier) -> Classifier:
    """The same layers in a model that is not compiled: Keras saves a compiled model's moments with it, 3 times the size."""
    bare = Classifier(model.architecture, model.backbone)
    bare.head = model.head
    return bare


def _load_backbone(preset: Preset, precision: str):
    if preset.kind == "run":
        return load(RunDir(preset.path), precision).backbone
    try:
        backbone = backend.keras_hub().models.BertBackbone.from_preset(
            str(preset.path), dtype=_policy(precision), **_segments(preset)
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise KftError(
            f"{preset.name}: its weights cannot be read: {reason}", "is the folder whole?"
        ) from error
    backbone.trainable = True
    return backbone


def _segments(preset: Preset) -> dict[str, int]:
    # KerasHub's reader of Hugging Face folders takes 2 segments for granted.
    return {"num_segments": preset.num_segments} if preset.kind == "huggingface" else {}


def _make_backbone(arguments: dict[str, int], precision: str):
    return backend.keras_hub().models.BertBackbone(**arguments, dtype=_policy(precision))


def _policy(precision: str):
    return keras.dtype_policies.DTypePolicy(precision)


def _matching_head(preset: Preset, labels: list[str], architecture: Architecture) -> list[np.ndarray] | None:
    """Kernel [H, C] and bias [C] of the preset's own head in the order of `labels`, or None where it does not fit."""
    if not keeps_head(preset, labels, architecture):
        return None
    names = list(preset.head.labels)
    kernel, bias = _run_head(preset) if preset.kind == "run" else head_weights(preset)
    order = [names.index(label) for label in labels] if labels else slice(None)
    return [kernel[:, order], bias[order]]


def keeps_head(preset: Preset, labels: list[str], architecture: Architecture) -> bool:
    """Whether training starts with the preset's own head: it reads the same, and has the same label names in any order."""
    if preset.head is None or architecture.pooling != "cls" or architecture.spans:
        return False
    if (preset.head.problem_type == MULTIPLE_CHOICE) != (architecture.task == "choice"):
        return False
    names = preset.head.labels
    return len(names) == architecture.outputs and (not labels or sorted(names) == sorted(labels))


def _run_head(preset: Preset) -> tuple[np.ndarray, np.ndarray]:
    return tuple(load(RunDir(preset.path)).head.get_weights())


def _freeze(backbone, layers: int) -> None:
    if not layers:
        return
    for part in (
        backbone.token_embedding,
        backbone.position_embedding,
        backbone.segment_embedding,
        backbone.embeddings_layer_norm,
        *backbone.transformer_layers[:layers],
    ):
        part.trainable = False
