"""The settings of a server and their defaults; light enough for `kft --help`."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from kft.errors import KftError

TOKEN_VARIABLE = "KFT_SERVE_TOKEN"
PACKAGES = ("httptools", "prometheus_client", "starlette", "uvicorn")


@dataclass(frozen=True)
class Settings:
    """How a model is served.

    Attributes:
        host, port: where to listen; port 0 takes a free one.
        name: of the model in URLs; None is the folder's own.
        max_batch_size: texts of one model call.
        max_delay_ms: how long a lone text waits for others while the model is idle.
        queue_size: texts that wait for the model at most; more are refused with 503.
        max_body_bytes: of a request; more is refused with 413.
        max_texts: of a request; more are refused with 413.
        timeout_seconds: for reading a request (408) and answering it (504).
        poll_seconds: between two looks for a new version.
        token: that callers must bring, or None.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    name: str | None = None
    max_batch_size: int = 64
    max_delay_ms: float = 2.0
    queue_size: int = 2048
    max_body_bytes: int = 2 * 2**20
    max_texts: int = 512
    timeout_seconds: float = 30.0
    poll_seconds: float = 2.0
    token: str | None = None

    def __post_init__(self) -> None:
        if self.max_texts > self.queue_size:
            raise KftError(
                f"a request of {self.max_texts} texts would never fit a queue of {self.queue_size}",
                "let --queue-size be at least --max-texts",
            )
        if self.token is not None and not self.token.isascii():
            raise KftError(f"{TOKEN_VARIABLE} holds characters that are not ASCII", "choose another token")
        if self.token is not None and not self.token:
            raise KftError(
                f"{TOKEN_VARIABLE} is empty", "unset it, or set it to the token that callers bring"
            )


def token() -> str | None:
    """What the environment says that callers must bring; None: nothing."""
    value = os.environ.get(TOKEN_VARIABLE)
    return None if value is None else value.strip()


def check_packages() -> None:
    """Raises KftError: the extra `serve` is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise KftError(f"serving needs {', '.join(missing)}", "pip install 'kft[serve]'")


def model_name(folder: Path, name: str | None) -> str:
    """The model's name in URLs.

    Raises:
        KftError: it cannot stand in one.
    """
    name = name or folder.expanduser().resolve().name
    if not name or set(name) & set("/:?#%"):
        raise KftError(f"{name!r} cannot be the name of a model in a URL", "choose one with --name")
    return name
