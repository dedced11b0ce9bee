"""Processes of this machine that train a study's trials together."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from kft.errors import KftError
from kft.progress import note

POLL_SECONDS = 0.5
EXIT_STOPPED = 75


def run_workers(folder: Path, url: str | None, count: int, stop: threading.Event) -> None:
    """Starts workers and waits for them; what a worker leaves that dies is left to the caller.

    Args:
        folder: of a study that has begun.
        url: of its storage; None where that is in the folder.
        count: of workers.
        stop: lets them save their trials and end.
    """
    request = json.dumps({"folder": str(folder.resolve()), "url": url}) + "\n"
    workers = [_start(request) for _ in range(count)]
    stopping = False
    try:
        while any(worker.poll() is None for worker in workers):
            if stop.is_set() and not stopping:
                stopping = True
                for worker in workers:
                    worker.terminate()
            time.sleep(POLL_SECONDS)
    finally:
        for worker in workers:
            worker.stdin.close()  # a worker ends when nobody holds its standard input any more
    for worker in workers:
        if worker.returncode not in (0, EXIT_STOPPED):
            note(f"a worker ended with status {worker.returncode}; its trial is taken over")


def _start(request: str) -> subprocess.Popen:
    # A session of its own: Ctrl-C reaches the parent alone, which then asks each worker once.
    try:
        worker = subprocess.Popen(
            [sys.executable, "-m", "kft.studies.tune.worker"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise KftError(f"a worker cannot be started: {error.strerror}", "fewer --workers") from None
    worker.stdin.write(request)
    worker.stdin.flush()
    return worker
