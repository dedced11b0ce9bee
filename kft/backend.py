"""Chooses the Keras backend, caches, devices and log noise before Keras is imported."""

import ctypes
import gc
import importlib.abc
import importlib.metadata
import importlib.util
import os
import platform
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import platformdirs

from kft.errors import KftError

_preloading: threading.Thread | None = None
BACKENDS = ("jax", "torch", "tensorflow")
COLLECT_AFTER = 200_000  # new objects between two collections of garbage; Python's own default is 700
_PACKAGES = (
    "kft",
    "keras",
    "keras-hub",
    "jax",
    "torch",
    "tensorflow",
    "tensorflow-text",
    "optax",
    "scikit-learn",
)


def select(name: str | None = None) -> str:
    """The backend that Keras runs on from now on; call it before anything imports Keras.

    Without a name: what Keras already runs on, else the environment's KERAS_BACKEND, else jax.

    Raises:
        KftError: there is no such backend, its package is missing, or Keras already runs on another
        one.
    """
    running = _running()
    name = name or running or os.environ.get("KERAS_BACKEND") or "jax"
    if name not in BACKENDS:
        raise KftError(
            f"backend must be one of {', '.join(BACKENDS)}, got: {name!r}",
            "pass one of them, or none for jax",
        )
    if running and running != name:
        raise KftError(
            f"Keras already runs on {running} in this process, {name} was asked for",
            f"start a new process (or notebook kernel) with KERAS_BACKEND={name}",
        )
    if not running:
        need(name, name, f"the {name} backend")
        os.environ["KERAS_BACKEND"] = name
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        _keep_freed_memory()
        # In a notebook tqdm asks for widgets, which kft's own bar does not need.
        warnings.filterwarnings("ignore", "IProgress not found")
        if name == "jax":
            _cache_compilations()
    return name


def import_keras() -> None:
    """Imports Keras without the optional packages that it takes along, half of its time.

    They are for drawing images, for reading tables, and for scikit-learn to use it.

    Garbage is collected less often from then on: else the collector walks all that lives again and
    again while thousands of modules come in.

    For commands alone: other code of a process of its own may want Keras with them. Not for torch,
    whose compiler searches for them and takes an exception for a fault.
    """
    if "keras" in sys.modules or os.environ.get("KERAS_BACKEND") == "torch":
        return
    gc.set_threshold(COLLECT_AFTER)
    finder = _Unseen()
    sys.meta_path.insert(0, finder)
    try:
        import keras  # noqa: F401
    finally:
        sys.meta_path.remove(finder)


class _Unseen(importlib.abc.MetaPathFinder):
    """Says of some packages that they are not installed."""

    packages = ("IPython", "matplotlib", "pandas", "sklearn")

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name.partition(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def need(package: str, extra: str, purpose: str = "this") -> None:
    """Raises KftError: a package that an extra of kft brings is not installed."""
    if importlib.util.find_spec(package) is None:
        raise KftError(
            f"{purpose} needs the package {package.replace('_', '-')}", f"pip install 'kft[{extra}]'"
        )


def preload() -> None:
    """Begins to import TensorFlow and KerasHub in a thread, while the caller reads its data.

    Call it when everything else is imported: two threads that import the same modules wait for each
    other.
    """
    global _preloading
    if _preloading is None and "keras_hub" not in sys.modules:
        _preloading = threading.Thread(target=_import_quietly, name="kft-preload")
        _preloading.start()


def _import_quietly() -> None:
    with suppress(Exception):  # whoever needs them imports them again, and sees the error
        keras_hub()


def tensorflow() -> ModuleType:
    """The module tensorflow, kept off the accelerators that another backend uses."""
    select()
    if _preloading is not None and threading.current_thread() is not _preloading:
        _preloading.join()
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with without_stderr():
        import tensorflow as tf
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
    tf.get_logger().setLevel("ERROR")
    return tf


def keras_hub() -> ModuleType:
    """The module keras_hub, which imports TensorFlow whatever the backend is."""
    tensorflow()
    import keras_hub

    return keras_hub


def distribute() -> int:
    """Shares batches over all JAX devices by Keras's data parallelism; returns their number.

    Call it before the model is built. Other backends use one device.
    """
    devices = device_count()
    if devices > 1:
        import keras

        listed = keras.distribution.list_devices()
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=listed, auto_shard_dataset=False)
        )
    return devices


def device_count() -> int:
    """Devices that batches are shared over."""
    if select() != "jax":
        return 1
    import jax

    return jax.device_count()


def on_accelerator() -> bool:
    """Whether the model runs on a GPU or TPU."""
    return not all(device.startswith("cpu") for device in _devices())


def describe() -> dict[str, Any]:
    """Versions and machine, for environment.json."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "backend": os.environ.get("KERAS_BACKEND"),
        "devices": _devices(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "versions": versions,
    }


def cache_dir() -> Path:
    """The user's private folder for compiled programs and tokens."""
    path = Path(os.environ.get("KFT_CACHE_DIR") or platformdirs.user_cache_dir("kft"))
    with suppress(OSError):  # a read-only home: everything works without a cache, slower
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


@contextmanager
def without_stderr() -> Iterator[None]:
    """Hides what TensorFlow's C++ code greets with on stderr; what Python writes comes through."""
    before, kept, null = sys.stderr, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    own = None
    with suppress(OSError, ValueError, AttributeError):  # no stream, or one that is no file
        before.flush()
        if before.fileno() == 2:
            own = os.fdopen(os.dup(kept), "w", encoding=before.encoding, errors=before.errors, buffering=1)
            sys.stderr = own
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
        if own is not None:
            if sys.stderr is own:
                sys.stderr = before
            own.flush()  # not closed: another thread may just write to it


def _running() -> str | None:
    keras = sys.modules.get("keras")
    return keras.backend.backend() if keras is not None and hasattr(keras, "backend") else None


def _cache_compilations() -> None:
    # On a full or read-only disk everything works without the cache, slower, and JAX would say so
    # at each program.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    # JAX reads these when it is imported: before the first array, as the cache demands.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    if "jax" in sys.modules:
        import jax

        if jax.config.jax_compilation_cache_dir is None:
            jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _keep_freed_memory() -> None:
    """Lets glibc hand a step's buffers to the next step instead of giving them back to the system.

    A step on a CPU asks for hundreds of megabytes. By default glibc maps and unmaps them, and the
    page faults take a quarter of a step of a small model on JAX, half of one on torch.
    """
    settings = {"M_TRIM_THRESHOLD": (-1, -1), "M_MMAP_MAX": (-4, 0), "M_ARENA_MAX": (-8, 1)}  # from malloc.h
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for name, (option, value) in settings.items():
            if f"MALLOC_{name.removeprefix('M_')}_" not in os.environ:
                mallopt(option, value)


def _devices() -> list[str]:
    name = os.environ.get("KERAS_BACKEND")
    if name == "jax":
        import jax

        return [f"{d.platform}: {d.device_kind}" for d in jax.devices()]
    if name == "torch":
        import torch

        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"]
    return ["cpu"]
