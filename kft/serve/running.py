"""Starts a server, and stops it so that every accepted request is answered."""

import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from kft.errors import KftError
from kft.progress import note
from kft.serve import versions as versioning
from kft.serve.app import Service, build
from kft.serve.heads import protocol
from kft.serve.settings import Settings, model_name
from kft.serve.versions import Versions

# While it drains, the server goes on to listen for so long, so that callers with an open connection
# hear 503 and close it instead of finding it cut.
LINGER_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048


def serve(folder: str | Path, settings: Settings) -> None:
    """Serves the newest version in a folder of exported versions until SIGTERM or SIGINT.

    Raises:
        KftError: the folder holds nothing that loads, or the port is taken.
    """
    folder = Path(folder).expanduser()
    versioning.check(folder)
    name = model_name(folder, settings.name)
    _log_to_stderr()
    listening = _bind(settings.host, settings.port)
    note(f"loading {folder} …")
    versions = Versions(folder, name)
    with _ended_by_sigterm():
        versions.refresh()
    if versions.current is None:
        raise KftError(f"{folder}: no version of it loads", "export it again: kft export RUN --to savedmodel")
    app, service = build(settings, versions)
    config = uvicorn.Config(
        app,
        http=protocol(settings.timeout_seconds),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    listening.listen(_BACKLOG)  # from here on, who reads the address can connect
    note(
        f"{name} at {_address(listening)}, TensorFlow Serving's REST interface at {_address(listening)}/v1/models/{name}"
    )
    _Server(config, service).run(sockets=[listening])
    note("stopped")


class _Server(uvicorn.Server):
    """A uvicorn that answers what it has accepted before a signal ends it, with status 0."""

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame) -> None:
        if self._service.draining is not None:  # asked twice
            self.should_exit = self.force_exit = True
        else:
            self._service.draining = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        since = self._service.draining
        if since is not None and not self._service.answering and time.monotonic() - since >= LINGER_SECONDS:
            self.should_exit = True
        return await super().on_tick(counter)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the process meanwhile, even the first of a container, which needs a handler."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket: a port in use is reported before the model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio turns Nagle's algorithm off only where the protocol is named; with it, an answer
        # takes 40 ms more.
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise KftError(
            f"cannot listen on {host}:{port}: {error.strerror}", "choose others with --host and --port"
        ) from None
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log_to_stderr() -> None:
    log = logging.getLogger("kft.serve")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
