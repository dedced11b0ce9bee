"""How much memory a training step takes, how much there is, and the largest batch that fits."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from kft import backend, batches, models
from kft.config import TrainConfig

backend.select()

LARGEST_BATCH = 256
FEWEST_STEPS = 32  # of an epoch that a batch found automatically leaves: fewer updates train badly
SMALLEST_CAP = 8
# Share of the free memory that a step as XLA plans it may take. On a CPU a running process grew by
# up to 2.5 times the planned activations (all-MiniLM, 8 to 128 examples), since the C library keeps
# freed blocks, and it compiles in the same memory.
ACCELERATOR_SHARE, CPU_SHARE = 0.8, 0.4


def batch_sizes(units: int) -> Iterator[int]:
    """The batch sizes that "auto" tries for so many examples or questions, largest first."""
    cap = max(min(LARGEST_BATCH, units // FEWEST_STEPS), SMALLEST_CAP)
    yield from (2**n for n in reversed(range(cap.bit_length())))


def largest_batch(
    sizes: Iterator[int], room: float, estimated: Callable[[int], int], compiled: Callable[[int], int | None]
) -> int:
    """The first batch size whose step fits, or the smallest.

    Args:
        sizes: largest first.
        room: bytes that a step may take, of `room_bytes`.
        estimated: batch size → about the bytes of a step; a size that does not fit by this is not
            compiled.
        compiled: batch size → bytes of its compiled step; None where only a run would show it.
    """
    for size in sizes:
        if estimated(size) <= room and (compiled(size) or 0) <= room:
            break
    return size


def room_bytes() -> float:
    """The free memory that a step may take: of the fullest device, or of machine or container."""
    limits = list(_accelerator_bytes())
    if limits:
        return ACCELERATOR_SHARE * min(limits)
    return CPU_SHARE * min(psutil.virtual_memory().available, *_container_bytes(), 2**62)


def _accelerator_bytes() -> Iterator[int]:
    if not backend.on_accelerator():
        return
    if backend.select() == "jax":
        import jax

        for device in jax.local_devices():
            stats = device.memory_stats() or {}
            if "bytes_limit" in stats:
                yield stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    elif backend.select() == "torch":
        import torch

        yield torch.cuda.mem_get_info()[0]


def _container_bytes() -> Iterator[int]:
    """What the control groups of a container or a batch system (cgroup v2, v1) leave."""
    root = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            yield int((root / limit).read_text()) - int((root / used).read_text())
        except (OSError, ValueError):  # none, or "max"
            continue


def estimate(model: models.Classifier, plan: batches.Plan, devices: int, settings: TrainConfig) -> int:
    """About the bytes that training takes: weights, gradient, optimizer's state, activations."""
    sizes = model.architecture.sizes
    counts = models.parameter_counts(model)
    tokens_in_step = plan.packed_rows * plan.length / devices
    copies = 1 + _state_copies(settings)
    passes = 2 if model.r_drop_alpha else 1
    # Kept for the backward pass, per token and layer: about 12 vectors of the hidden size, 3 of the
    # intermediate size, and 3 attention maps.
    kept = 12 * sizes.hidden_size + 3 * sizes.intermediate_size + 3 * sizes.num_heads * plan.length
    activations = passes * tokens_in_step * kept * sizes.num_layers
    return int(4 * (counts["total"] + copies * counts["trainable"] + activations))


def _state_copies(settings: TrainConfig) -> int:
    """How many values an optimizer keeps for each weight that trains."""
    moments = int(settings.momentum > 0) if settings.optimizer == "sgd" else 2
    return moments + (settings.gradient_accumulation_steps > 1) + (settings.ema_momentum is not None)


def compiled_bytes(model: models.Classifier, batch: tuple[Any, ...]) -> int | None:
    """Bytes of a device that a compiled step takes, as XLA plans it; None on others than JAX.

    The step is the one that `fit` runs, so compiling it here takes no time from `fit`: it finds it
    in the cache.
    """
    if backend.select() != "jax":
        return None
    import jax
    import keras

    spread = keras.distribution.distribution()

    def described(array):
        layout = spread.get_data_layout(array.shape).backend_layout if spread else None
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=layout)

    state = tuple(
        [v.value for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    step = jax.jit(model.train_step, donate_argnums=0)
    planned = step.lower(state, jax.tree.map(described, batch)).compile().memory_analysis()
    if planned is None:
        return None
    arguments = planned.argument_size_in_bytes + planned.output_size_in_bytes - planned.alias_size_in_bytes
    return arguments + planned.temp_size_in_bytes
