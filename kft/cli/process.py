"""The process around a command: its standard streams, the signals that stop it, and how it ends.

It is set up before Click, Keras or JAX are imported, so that no moment is without it. A signal
raises KeyboardInterrupt, which some callbacks of C libraries swallow, and which comes late where
the main thread is inside such a library: a thread of its own then ends the process. While training
goes on, `kft.progress` asks it to stop after a step instead.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

EXIT_MISTAKE = 1
EXIT_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
EXIT_STOPPED = 75  # sysexits.h: EX_TEMPFAIL, try again later
GRACE_SECONDS = 4.0  # between a signal and the end of a process that does not follow it
STOPS = (signal.SIGINT, signal.SIGTERM)
STOPPED = "Error: stopped by {}\n\nhint: the same command starts again\n"

closed: set[str] = set()  # standard streams that the process was started without
_ours = False  # whether this process is the command, and no program that calls it
_status = EXIT_MISTAKE


def begin() -> None:
    """Takes the process over where it is the command: `kft …` or `python -m kft.cli …`."""
    global _ours
    if os.path.basename(sys.argv[0] if sys.argv else "") not in ("kft", "-m"):  # noqa: PTH119 (pathlib is slow)
        return
    _ours = True
    for number in STOPS:
        signal.signal(number, lambda number, _: leave(number))
    _open_streams()
    sys.stdout.reconfigure(errors="replace")


def leave(number: int) -> None:
    """Ends the process at once, where nothing has to be tidied up."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), STOPPED.format(signal.Signals(number).name).encode())
    os._exit(EXIT_MISTAKE)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt meanwhile, or end the process if it is lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in STOPS}
    hook = sys.unraisablehook
    if _ours:
        sys.unraisablehook = _leave_if_swallowed
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def end(status: object) -> None:
    """Ends the process with a status other than 0, before libraries print or crash."""
    global _status
    _status = status if isinstance(status, int) else EXIT_MISTAKE
    if not _ours or not status:
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(_status)


def utf8_output() -> None:
    """JSON is UTF-8 whatever the locale; half a character becomes an escape of JSON."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def need(stream: str, hint: str) -> None:
    """Raises KftError: the process has not the standard stream that the command is about."""
    if stream in closed:
        from kft.errors import KftError

        raise KftError(f"standard {'input' if stream == 'stdin' else 'output'} is closed", hint)


def forget_output() -> None:
    """Nobody reads the output any more, and what is not written yet cannot be."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _leave_if_swallowed(unraisable) -> None:
    """A callback, such as JAX's at a collection of garbage, cannot pass an exception on."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        leave(getattr(signal, str(unraisable.exc_value), signal.SIGINT))
    sys.__unraisablehook__(unraisable)


def _watch(reader: int) -> None:
    while True:
        number = os.read(reader, 1)[0]
        if number not in STOPS or not _raises(number):
            continue
        time.sleep(GRACE_SECONDS)
        if _raises(number):
            if _status == EXIT_MISTAKE:
                leave(number)
            os._exit(_status)


def _raises(number: int) -> bool:
    """Whether the signal ends the command at once; other handlers belong to gentle stops."""
    handler = signal.getsignal(number)
    return handler is _interrupt or bool(getattr(handler, "raises", lambda: False)())


def _open_streams() -> None:
    """Gives a stream that is closed a place where nothing comes from and everything goes."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            closed.add(name)
        if getattr(sys, name) is None:
            closed.add(name)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115, PTH123
