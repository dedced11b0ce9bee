"""Tells on stderr how a long job goes (a bar on a terminal, plain lines elsewhere), and lets signals stop it."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 15.0


class Track(Protocol):
    """What `bar` yields: call it with the steps done and a few words about them."""

    def __call__(self, done: int, words: str = "") -> None: ...


def note(text: str) -> None:
    """One line of talk."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """`95` → "1:35"; hours stand in front where there are any."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def bar(title: str, total: int, done: int = 0) -> Iterator[Track]:
    """Shows how far a job of `total` steps is, with rate and time left."""
    console = Console(stderr=True)
    if console.is_terminal:
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
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(title, total=total, completed=done, words="")
        yield lambda done, words="": shown.update(task, completed=done, words=words)


def _plain_lines(title: str, total: int, first: int) -> Track:
    started = told = time.monotonic()

    def track(done: int, words: str = "") -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < SECONDS_BETWEEN_LINES or done == first:
            return
        told = now
        left = (now - started) / (done - first) * (total - done)
        note(f"{title} {done}/{total}, {duration(left)} left{', ' if words else ''}{words}")

    return track


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets, instead of ending the process; a second one ends it."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # a notebook's worker cannot take signals
        yield stop
        return

    def ask(number, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        note("stopping after this step …")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
