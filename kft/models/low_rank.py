"""Low-rank adapters as plain arrays: their scale, how they merge into a kernel, their file.

Nothing here imports Keras.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kft import runs
from kft.errors import KftError

ALL = "all"  # as a target: every dense layer that the family names


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021): x · kernel becomes x · kernel + scale · x · A · B.

    Attributes:
        rank: r, columns of A [inputs, r] and rows of B [r, outputs].
        alpha: the scale is alpha / r.
        targets: keys of `Family.adapters`, or ALL alone.
        rank_stabilised: the scale is alpha / sqrt(r) instead (Kalajdzievski 2023).
        dropout: rate on x before A.
        dora: the kernel's columns are scaled to trained lengths besides (Liu et al. 2024).
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = ("query", "value")
    rank_stabilised: bool = False
    dropout: float = 0.0
    dora: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


@dataclass(frozen=True, eq=False)
class Factors:
    """The adapter of one dense layer, float32.

    Attributes:
        a: [inputs, r].
        b: [r, outputs].
        magnitude: [outputs], of DoRA the lengths of the merged kernel's columns; else None.
    """

    a: np.ndarray
    b: np.ndarray
    magnitude: np.ndarray | None = None


def merge(kernel: np.ndarray, factors: Factors, scale: float) -> np.ndarray:
    """The kernel [inputs, outputs] that alone does what kernel and adapter do together, float32."""
    merged = kernel + np.float32(scale) * (factors.a @ factors.b)
    if factors.magnitude is None:
        return merged
    return merged * (factors.magnitude / np.linalg.norm(merged, axis=0))


def save(path: Path, lora: Lora, adapters: dict[str, Factors]) -> None:
    """Writes the adapters of a model, by the names of their dense layers, whole or not at all."""
    arrays = {
        f"{name}.{part}": np.ascontiguousarray(array)
        for name, factors in adapters.items()
        for part, array in vars(factors).items()
        if array is not None
    }
    metadata = {"lora": json.dumps(asdict(lora))}
    runs.write_whole(path, lambda aside: save_file(arrays, aside, metadata=metadata))


def load(path: Path) -> tuple[Lora, dict[str, Factors]]:
    """What `save` wrote.

    Raises:
        KftError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "numpy") as stored:
            settings = json.loads(stored.metadata()["lora"])
            lora = Lora(**settings | {"targets": tuple(settings["targets"])})
            parts: dict[str, dict[str, np.ndarray]] = {}
            for key in stored.keys():  # noqa: SIM118
                name, _, part = key.rpartition(".")
                parts.setdefault(name, {})[part] = stored.get_tensor(key)
        return lora, {name: Factors(**arrays) for name, arrays in parts.items()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise KftError(f"{path}: is missing or damaged: {reason}", "copy the run folder again") from None
