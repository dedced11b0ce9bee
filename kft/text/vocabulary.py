"""The vocabulary file of a run."""

from collections.abc import Iterable
from pathlib import Path

from kft import runs
from kft.errors import KftError


def save_vocabulary(vocabulary: Iterable[str], path: str | Path) -> None:
    """Writes one token a line.

    Raises:
        KftError: a token holds a line feed, or the file cannot be written.
    """
    vocabulary = list(vocabulary)
    broken = [i for i, token in enumerate(vocabulary) if "\n" in token]
    if broken:
        raise KftError(
            f"token {broken[0]} of the vocabulary holds a line feed: {vocabulary[broken[0]]!r}",
            "mend the vocabulary of the preset, or take another one",
        )
    # Bytes: text mode would turn line ends into the platform's.
    content = "".join(token + "\n" for token in vocabulary).encode()
    runs.write_whole(Path(path), lambda aside: aside.write_bytes(content))


def read_vocabulary(path: str | Path) -> list[str]:
    """The tokens that `save_vocabulary` wrote: lines end at "\\n" alone, since some tokens are other line breaks.

    Raises:
        KftError: the file is missing or damaged.
    """
    try:
        content = Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise KftError(f"{path}: is missing", "copy the whole run folder, or train again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KftError(f"{path}: is damaged: {error}", "copy the run folder again, or train again") from None
    if not content.endswith("\n"):
        raise KftError(
            f"{path}: is damaged: its last line is cut", "copy the run folder again, or train again"
        )
    return content[:-1].split("\n")
