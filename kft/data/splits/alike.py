"""What people and models take for equal: Unicode forms, invisible characters, spaces, case."""

import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

import polars as pl

# Characters without a shape. White space and the signs of marked words, NUL and private characters,
# stay.
INVISIBLE = r"[\p{Default_Ignorable_Code_Point}\p{Cf}\x01-\x08\x0E-\x1F\x7F-\x84\x86-\x9F]"


def normalized(text: pl.Series) -> pl.Series:
    """The texts in NFKC, small letters and single spaces, without invisible characters."""
    text = text.str.normalize("NFKC").str.replace_all(INVISIBLE, "")
    return text.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def alike(labels: Iterable[str]) -> list[list[str]]:
    """Lists of two or more labels that are equal once normalized, or as numbers, in order."""
    names = list(labels)
    forms = normalized(pl.Series(names, dtype=pl.String)).to_list()
    groups: dict[str | Decimal, list[str]] = {}
    for name, form in zip(names, forms, strict=True):
        groups.setdefault(_number(form), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def visible(label: str) -> str:
    """A label in quotes, with escapes for what cannot be seen or is in another form than usual."""
    composed = unicodedata.normalize("NFC", label) == label
    characters = (c if _is_plain(c) or (composed and c.isprintable()) else _escaped(c) for c in label)
    return '"' + "".join(characters) + '"'


def plainly(label: str) -> str:
    """A label as it stands, but `visible` where something in it cannot be seen."""
    spelled = visible(label)
    return label if spelled == f'"{label}"' else spelled


def _is_plain(character: str) -> bool:
    return character.isprintable() and not unicodedata.combining(character)


def _escaped(character: str) -> str:
    # As TOML writes them, so that they can be copied into `data.label_names`.
    number = ord(character)
    return f"\\u{number:04x}" if number < 2**16 else f"\\U{number:08x}"


def _number(form: str) -> str | Decimal:
    try:
        number = Decimal(form)
    except InvalidOperation:
        return form
    return number if number.is_finite() else form
