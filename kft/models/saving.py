"""Weights of a model ↔ the file of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kft import backend, runs
from kft.errors import KftError
from kft.models import low_rank
from kft.models.adapters import factors_of, lora_of, merged
from kft.models.architecture import read_architecture
from kft.models.classifier import Classifier
from kft.models.families import Family, Sizes
from kft.models.holder import Holder
from kft.runs import RunDir

backend.select()

import keras  # noqa: E402

VARIABLE_BYTES, FILE_BYTES = 2**12, 2**14  # what HDF5 needs at most for a variable's groups, and for a file


def parameter_counts(model: Classifier) -> dict[str, int]:
    """{"total", "trainable"} numbers of weights; a pooler that the head skips is not trainable."""
    count = {"total": model.weights, "trainable": model.trainable_weights}
    return {
        name: int(sum(np.prod(w.shape) for w in weights if "seed" not in w.name))
        for name, weights in count.items()
    }


def new_backbone(family: Family, sizes: Sizes, precision: str):
    """The backbone of a family, KerasHub's where it has one; the caller sets each weight.

    Args:
        family, sizes: of the weights in it.
        precision: "float32" or "mixed_bfloat16".
    """
    if family.hub is None:
        return Holder((family.own_weights or family.weights)(sizes), precision)
    kind = getattr(backend.keras_hub().models, family.hub.backbone)
    with _undrawn():
        return kind(**family.hub.arguments(sizes), dtype=keras.dtype_policies.DTypePolicy(precision))


@contextmanager
def _undrawn() -> Iterator[None]:
    """Within it, weights that would be drawn at random are zero.

    KerasHub's classes draw theirs for a second, and take no other initializer.
    """
    kind = keras.initializers.TruncatedNormal
    draw = kind.__call__
    kind.__call__ = lambda self, shape, dtype=None: np.zeros(shape, dtype or keras.config.floatx())
    try:
        yield
    finally:
        kind.__call__ = draw


def save(model: Classifier, file: Path) -> None:
    """Writes the weights of a model as a Keras `.weights.h5` file, whole or not at all.

    Its adapters are merged into them.
    """
    with merged(model):
        bare = _without_optimizer(model)
        size = sum(variable.value.nbytes + VARIABLE_BYTES for variable in bare.variables) + FILE_BYTES
        runs.write_by_library(file, bare.save_weights, size)


def save_adapters(model: Classifier, file: Path) -> None:
    """Writes the adapters of a model by themselves, where it has any."""
    lora = lora_of(model)
    if lora is not None:
        low_rank.save(file, lora, factors_of(model))


def load_weights(model: Classifier, file: Path) -> None:
    """Puts the weights of a file that `save` wrote into a model.

    Raises:
        KftError: the file is missing, damaged or of another model.
    """
    _read_into(_without_optimizer(model), file)


def load(run: RunDir, precision: str = "float32") -> Classifier:
    """The model of a run, with its trained weights.

    Raises:
        KftError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    architecture = read_architecture(run)
    model = Classifier(architecture, new_backbone(architecture.kind, architecture.sizes, precision))
    _read_into(model, run.weights)
    return model


def _read_into(model: Classifier, file: Path) -> None:
    try:
        model.load_weights(file)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise KftError(
            f"{file}: is damaged or of another model: {reason}", "copy the run folder again"
        ) from None


def _without_optimizer(model: Classifier) -> Classifier:
    """The same layers, not compiled: Keras saves moments too, which makes 3 times the size."""
    bare = Classifier(model.architecture, model.backbone)
    for name in ("head", "pooler", "head_norm"):
        if hasattr(model, name):
            setattr(bare, name, getattr(model, name))
    return bare
