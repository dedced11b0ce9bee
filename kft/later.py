"""Functions of heavy packages, which are imported when one is first called."""

import importlib
from collections.abc import Callable
from typing import Any


class Later:
    """Stands for a module; what is called of it is looked up then.

    Training makes its first step without scikit-learn, scipy.stats and Matplotlib, whose import
    takes seconds.
    """

    def __init__(self, module: str):
        self._module = module

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            return getattr(importlib.import_module(self._module), name)(*arguments, **named)

        return call
