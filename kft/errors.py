"""The one exception that a user is meant to read, and nearest-name suggestions."""

import difflib
from collections.abc import Iterable

SHOWN_ROWS = 5


class KftError(Exception):
    """A mistake that the user can mend: what is wrong and where, and a hint what to do.

    Everything else that is raised is a bug and keeps its traceback.
    """

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message if hint is None else f"{message}\n\nhint: {hint}")
        self.message = message
        self.hint = hint


def first_rows(problems: list[str]) -> str:
    """The first of the rows' problems, a line each, and how many more rows there are."""
    more = len(problems) - SHOWN_ROWS
    rest = [f"and {more} more such row{'s' if more > 1 else ''}"] if more > 0 else []
    return "\n".join(problems[:SHOWN_ROWS] + rest)


def clipped(text: str, width: int = 40) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def such(count: int, what: str, name: str) -> str:
    """ " (3 such words in a.csv)" after the first of several, or an empty string."""
    return f" ({count:,} such {what} in {name})" if count > 1 else ""


def closest(name: str, options: Iterable[str]) -> str | None:
    """The option most like `name`, or None when nothing is near."""
    by_folded = {option.lower(): option for option in map(str, options)}
    matches = difflib.get_close_matches(str(name).lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """ ", did you mean `accuracy`?" to end a message with, or an empty string."""
    option = closest(name, options)
    return f", did you mean `{option}`?" if option else ""
