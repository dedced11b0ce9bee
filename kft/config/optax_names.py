"""Which optimizers optax has, and which settings each takes."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from kft.errors import closest, did_you_mean

# These need the loss, a random key or a rate that never changes; the last two are parts of others.
UNFIT = {"lbfgs", "noisy_sgd", "optimistic_adam", "rprop", "sm3", "scale_by_learning_rate", "scale_by_rprop"}
MASKS = ("mask", "weight_decay_mask")  # which weights decay
OWN = {"learning_rate", "trust_ratio_mask", *MASKS}  # arguments that are no settings


def optimizers() -> dict[str, Callable]:
    """Name → constructor of the optimizers that need only gradients and weights for an update."""
    import optax  # brings JAX along, so only for configs that name one of its optimizers

    makers = {name: getattr(optax, name) for name in dir(optax) if name not in UNFIT and name[0] != "_"}
    return {
        name: make for name, make in makers.items() if next(iter(_parameters(make)), "") == "learning_rate"
    }


def takes(name: str) -> dict[str, inspect.Parameter]:
    """The settings of an optimizer."""
    return {key: value for key, value in _parameters(optimizers()[name]).items() if key not in OWN}


def masks(name: str) -> list[str]:
    """The arguments of an optimizer that say which weights decay."""
    return [key for key in MASKS if key in _parameters(optimizers()[name])]


def _parameters(make: Any) -> dict[str, inspect.Parameter]:
    """What a function takes; nothing where it is none."""
    if inspect.isclass(make) or not callable(make):
        return {}
    try:
        return dict(inspect.signature(make).parameters)
    except ValueError:
        return {}


def problems(name: str, settings: dict[str, Any], weight_decay: float | None) -> Iterator[str]:
    """Mistakes in `train.optimizer` = "optax:NAME", `train.optax` and `train.weight_decay`."""
    known = optimizers()
    if name not in known:
        near = closest(name, known)
        hint = f", did you mean `optax:{near}`?" if near else f"; it has {', '.join(known)}"
        yield f"`train.optimizer`: optax has no optimizer {name!r} that fits here{hint}"
        return
    accepted = takes(name)
    accepts = f"optax:{name} takes {', '.join(accepted) or 'no settings'}"
    for key in (key for key in settings if key not in accepted):
        yield f"`train.optax.{key}` is not a setting{did_you_mean(key, accepted)}: {accepts}"
    if weight_decay is not None and "weight_decay" in settings:
        yield "`train.weight_decay` and `train.optax.weight_decay` are one setting: leave one of them out"
    elif weight_decay and "weight_decay" not in accepted:
        yield f"`train.weight_decay` is not for this optimizer: {accepts}"
