"""Reports how a long job goes, by a bar or plain lines on stderr, and lets signals stop it."""

import html
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_UPDATES = 0.25  # of a notebook, where each is a message to the browser


class Track(Protocol):
    """What `bar` yields: call it with the steps done and a few words about them."""

    def __call__(self, done: int, words: str = "") -> None: ...


def note(text: str) -> None:
    """One line of talk, as far as anybody listens; a notebook would show stderr as an error."""
    stream = sys.stdout if _in_notebook() else sys.stderr
    if stream is not None:
        with suppress(OSError):
            print(text, file=stream, flush=True)


def duration(seconds: float) -> str:
    """`95` → "1:35"; hours stand in front where there are any."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def bar(title: str, total: int, done: int = 0) -> Iterator[Track]:
    """Shows how far a job of `total` steps is, with rate and time left."""
    console = Console(stderr=True)
    if _in_notebook():
        with _notebook_bar(title, total, done) as track:
            yield track
    elif console.is_terminal:
        with _rich_bar(console, title, total, done) as track:
            yield track
    else:
        yield _plain_lines(title, total, done)


@contextmanager
def _rich_bar(console: Console, title: str, total: int, done: int) -> Iterator[Track]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, completed=done, words="")
        yield lambda done, words="": progress.update(task, completed=done, words=words)


def _in_notebook() -> bool:
    """Whether a notebook's kernel runs this; a terminal's IPython is a terminal."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel")


@contextmanager
def _notebook_bar(title: str, total: int, first: int) -> Iterator[Track]:
    """A bar below the cell, which stays there when the job has ended."""
    from IPython.display import HTML, display  # a kernel has it

    started, now = time.monotonic(), (first, "")

    def drawn() -> HTML:
        done, words = now
        seconds = time.monotonic() - started
        left = seconds / (done - first) * (total - done) if done > first else None
        times = [duration(seconds), *([f"{duration(left)} left"] if left else [])]
        text = " · ".join([f"{done:,}/{total:,}", *times, *([words] if words else [])])
        style = "width: 14em; vertical-align: middle; margin: 0 0.7em"
        progress = f'<progress value="{done}" max="{total}" style="{style}"></progress>'
        return HTML(f"<div>{html.escape(title)}{progress}<small>{html.escape(text)}</small></div>")

    handle = display(drawn(), display_id=True)
    updated = started

    def track(done: int, words: str = "") -> None:
        nonlocal now, updated
        now = (done, words)
        if time.monotonic() - updated >= SECONDS_BETWEEN_UPDATES:
            updated = time.monotonic()
            handle.update(drawn())

    try:
        yield track
    finally:
        handle.update(drawn())


def _plain_lines(title: str, total: int, first: int) -> Track:
    started = last = time.monotonic()

    def track(done: int, words: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES or done == first:
            return
        last = now
        left = (now - started) / (done - first) * (total - done)
        note(f"{title} {done}/{total}, {duration(left)} left{', ' if words else ''}{words}")

    return track


class Stop(threading.Event):
    """An event that asks for a stop.

    Attributes:
        gentle: whether a signal asks to stop after the step; else it raises KeyboardInterrupt, as
            it does while there is nothing to save yet.
    """

    def __init__(self, gentle: bool = True):
        super().__init__()
        self.gentle = gentle


@contextmanager
def stop_signals(gentle: bool = True) -> Iterator[Stop]:
    """An event that SIGTERM or SIGINT sets, instead of ending the process; a second one ends it."""
    stop = Stop(gentle)
    if threading.current_thread() is not threading.main_thread():  # a notebook's worker cannot take signals
        yield stop
        return
    insisted = False

    def ask(number, frame):
        nonlocal insisted
        insisted = stop.is_set()
        stop.set()  # should the exception get lost in a callback of C code
        if insisted or not stop.gentle:
            raise KeyboardInterrupt(signal.Signals(number).name)
        note("stopping after this step …")

    ask.raises = lambda: insisted or not stop.gentle
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def gently(stop: threading.Event) -> Iterator[None]:
    """A signal asks to stop after the step meanwhile, since there is a step to be saved."""
    before, stop.gentle = getattr(stop, "gentle", True), True
    try:
        yield
    finally:
        stop.gentle = before


@contextmanager
def at_once(stop: threading.Event) -> Iterator[threading.Event]:
    """A signal raises KeyboardInterrupt meanwhile."""
    before, stop.gentle = getattr(stop, "gentle", True), False
    try:
        yield stop
    finally:
        stop.gentle = before
