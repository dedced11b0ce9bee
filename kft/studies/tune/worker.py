"""`python -m kft.studies.tune.worker`: trains trials of a study until its standard input ends."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from kft import backend
from kft.errors import KftError
from kft.progress import stop_signals
from kft.studies.tune import storage
from kft.studies.tune.launching import EXIT_STOPPED


def main() -> None:
    request = json.loads(sys.stdin.readline())
    with stop_signals() as stop:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            opened = storage.open_study(Path(request["folder"]), request["url"])
            backend.select(opened.config.backend)
            from kft.studies.tune import working  # only now: the backend is chosen before Keras is imported

            working.work(opened, stop, wait=False)
        except KftError as error:
            sys.exit(f"Error: {error}")
        sys.exit(EXIT_STOPPED if stop.is_set() else 0)


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
