"""A vocabulary file: one token a line."""

from collections.abc import Iterable
from pathlib import Path

from kft.errors import KftError


def vocabulary_lines(vocabulary: Iterable[str]) -> bytes:
    """The content of a vocabulary file, tokens in id order.

    Raises:
        KftError: a token holds a line feed.
    """
    vocabulary = list(vocabulary)
    broken = [i for i, token in enumerate(vocabulary) if "\n" in token]
    if broken:
        raise KftError(
            f"token {broken[0]} of the vocabulary holds a line feed: {vocabulary[broken[0]]!r}",
            "mend the vocabulary of the preset, or take another one",
        )
    # Bytes: text mode would turn line ends into the platform's.
    return "".join(token + "\n" for token in vocabulary).encode()


def read_vocabulary(path: str | Path) -> list[str]:
    """The tokens of a vocabulary file: lines end at "\\n" alone, some tokens are line breaks.

    Raises:
        KftError: the file is missing or damaged.
    """
    try:
        content = Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise KftError(f"{path}: is missing", "copy the whole folder, or train again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KftError(f"{path}: is damaged: {error}", "copy the folder again, or train again") from None
    if not content.endswith("\n"):
        raise KftError(f"{path}: is damaged: its last line is cut", "copy the folder again, or train again")
    return content[:-1].split("\n")
