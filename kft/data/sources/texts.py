"""The text of a file: decompressed, decoded, without its byte-order mark."""

import codecs
import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable
from encodings.aliases import aliases
from functools import partial
from pathlib import Path

from kft.config import DataConfig
from kft.errors import KftError, did_you_mean
from kft.progress import note

# Beginnings of files that people rename to .csv.
SIGNATURES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "gzip-compressed (name it .gz)",
    b"PAR1": 'Parquet (`data.format = "parquet"` reads it)',
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"SQLite format 3": "an SQLite database",
}
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
ENCODING_HINT = (
    "set `data.encoding` to the file's encoding, for example cp1252 (Western Windows), latin-1, gb18030 (Chinese) or "
    "utf-16, or save the file as UTF-8"
)
Place = Callable[[str], str]  # the text before a mistake → where it ends, in words


def line(before: str) -> str:
    """The `Place` of a text without rows."""
    return f"line {before.count(chr(10)) + 1}"


def read_bytes(path: Path, name: str) -> bytes:
    """The bytes of a file; those of a .gz file decompressed."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise KftError(
            f"{name}: is not a whole gzip file: {error}", "copy or compress the file again"
        ) from None
    except OSError as error:
        raise KftError(f"{name}: cannot be read: {error.strerror}", "check the file's permissions") from None


def read_text(path: Path, name: str, data: DataConfig, place: Place = line, hint: str = ENCODING_HINT) -> str:
    """The text of a file that holds something.

    Raises:
        KftError: nothing is in it, or what `decode` raises.
    """
    raw = read_bytes(path, name)
    if not raw.strip():
        raise KftError(f"{name}: is empty", "write the file again, it may have been cut while it was copied")
    text = decode(raw, name, data.encoding, place, hint)
    _note_utf8([raw], name, data.encoding)
    return text


def of_json(path: Path, data: DataConfig) -> DataConfig:
    """The settings for a JSON file: its encoding is UTF-8 whatever they say (RFC 8259), or what its first bytes tell."""
    start = read_start(path)
    encoding = json.detect_encoding(start) if start.startswith(WIDE) else "utf-8"
    return data.model_copy(update={"encoding": encoding})


def read_start(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, those of a .gz file decompressed as far as that can be."""
    open_file = gzip.open if path.suffix.lower() == ".gz" else open
    with contextlib.suppress(OSError, EOFError, zlib.error), open_file(path, "rb") as raw:
        return raw.read(size)
    return b""


def _note_utf8(pieces: Iterable[bytes], name: str, encoding: str) -> None:
    """Says that a file is UTF-8 beyond ASCII, though an encoding of one byte a character decodes it without an error."""
    if (
        len(b"\xc3\xa9\x82\xa0".decode(encoding, "replace")) != 4
    ):  # two characters or three where some have two bytes
        return
    decoder, beyond = codecs.getincrementaldecoder("utf-8")(), False
    try:
        for piece in pieces:
            beyond |= not piece.isascii()
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return
    if beyond:
        note(
            f"{name}: is UTF-8 text, and is read as {encoding} (`data.encoding`); for this file "
            "--set data.encoding=utf-8"
        )


def open_text(path: Path, name: str, data: DataConfig, newline: str) -> io.TextIOWrapper:
    """The same text, read while it is iterated over, in lines as `newline` says (see `open`).

    What is amiss further on raises what Python's own readers raise.

    Raises:
        KftError: unknown encoding, or a binary file.
    """
    check_encoding(data.encoding)
    raw = gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # noqa: SIM115 (the text closes it)
    _refuse_binary(raw.peek(4096), name, data.encoding)
    if data.encoding != "utf-8":
        _note_utf8(iter(partial(raw.read, 2**20), b""), name, data.encoding)
        raw.seek(0)
    text = io.TextIOWrapper(raw, data.encoding, newline=newline)
    if text.read(1) != "\ufeff":
        text.seek(0)
    return text


def decode(raw: bytes, name: str, encoding: str, place: Place = line, hint: str = ENCODING_HINT) -> str:
    """The text without its byte-order mark.

    Raises:
        KftError: unknown encoding, a binary file, or a byte that the encoding does not have.
    """
    check_encoding(encoding)
    _refuse_binary(raw, name, encoding)
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        start = min(getattr(error, "start", 0), len(raw) - 1)
        before = raw[:start].decode(encoding, "ignore").removeprefix("\ufeff")
        raise KftError(
            f"{name}, {place(before)}: byte 0x{raw[start]:02x} (number {start} of the file) is not {encoding} text",
            hint,
        ) from None


def check_encoding(encoding: str) -> None:
    """Raises KftError: there is no such encoding."""
    try:
        " ".encode(encoding)
    except (LookupError, ValueError):
        known = sorted({alias.replace("_", "-") for alias in aliases.values()})
        raise KftError(
            f"`data.encoding`: there is no encoding `{encoding}`{did_you_mean(encoding, known)}",
            "common ones are utf-8, utf-16, cp1252 (Western Windows), latin-1, gb18030 (Chinese), shift_jis",
        ) from None


def _refuse_binary(raw: bytes, name: str, encoding: str) -> None:
    for signature, what in SIGNATURES.items():
        if raw.startswith(signature):
            raise KftError(f"{name}: is {what}, not text", "save it as CSV, JSONL or Parquet")
    if encoding.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32", "u16", "u32")):
        return
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise KftError(f"{name}: is not {encoding} text but UTF-16", 'set `data.encoding = "utf-16"`')
    if b"\0" in raw[:4096]:
        raise KftError(
            f"{name}: is a binary file (it holds NUL bytes), not text",
            'save it as CSV, JSONL or Parquet; if it is UTF-16 text, set `data.encoding = "utf-16"`',
        )
