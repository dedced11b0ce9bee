"""The text of a file: decompressed, decoded, without its byte-order mark."""

import codecs
import contextlib
import io
import json
from collections.abc import Callable, Iterable
from encodings.aliases import aliases
from functools import partial
from pathlib import Path

from kft.config import DataConfig
from kft.data.sources import compressed
from kft.data.sources.binary import refuse_binary, refuse_wide
from kft.errors import KftError, did_you_mean
from kft.progress import note

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
    """The bytes of a file, decompressed as its ending says."""
    try:
        with compressed.open_bytes(path) as raw:
            return raw.read()
    except (*compressed.DAMAGES, OSError) as error:
        if compressed.is_compressed(path) and (isinstance(error, compressed.DAMAGES) or error.errno is None):
            kind = {".gz": "gzip", ".bz2": "bzip2"}.get(path.suffix.lower(), path.suffix.lower()[1:])
            raise KftError(
                f"{name}: is not a whole {kind} file: {error}", "copy or compress the file again"
            ) from None
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
    """The settings for a JSON file: always UTF-8 (RFC 8259), or what its first bytes say."""
    start = read_start(path)
    encoding = json.detect_encoding(start) if start.startswith(WIDE) else "utf-8"
    return data.model_copy(update={"encoding": encoding})


def read_start(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, decompressed as far as that can be."""
    with contextlib.suppress(OSError, *compressed.DAMAGES), compressed.open_bytes(path) as raw:
        return raw.read(size)
    return b""


def _note_utf8(pieces: Iterable[bytes], name: str, encoding: str) -> None:
    """Notes that a file is UTF-8 beyond ASCII, though a one-byte encoding decodes it too."""
    # Two characters, or three, where some have two bytes.
    if len(b"\xc3\xa9\x82\xa0".decode(encoding, "replace")) != 4:
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
    raw = compressed.open_bytes(path)  # the text closes it
    _refuse_other(raw.peek(4096), name, data.encoding)
    if data.encoding != "utf-8":
        _note_utf8(iter(partial(raw.read, 2**20), b""), name, data.encoding)
        raw.seek(0)
    text = _Text(raw, data.encoding, newline=newline)
    if text.read(1) != "\ufeff":
        text.seek(0)
    return text


def decode(raw: bytes, name: str, encoding: str, place: Place = line, hint: str = ENCODING_HINT) -> str:
    """The text without its byte-order mark.

    Raises:
        KftError: unknown encoding, a binary file, or a byte that the encoding does not have.
    """
    check_encoding(encoding)
    _refuse_other(raw, name, encoding)
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        start = min(getattr(error, "start", 0), len(raw) - 1)
        before = raw[:start].decode(encoding, "ignore").removeprefix("\ufeff")
        raise KftError(
            f"{name}, {place(before)}: byte 0x{raw[start]:02x} (number {start} of the file) is not {encoding} text",
            hint,
        ) from None
    if (start := text.find("\0")) >= 0:
        raise KftError(
            f"{name}, {place(text[:start])}: holds a NUL character",
            "remove such characters: tr -d '\\000' < FILE > NEW",
        )
    return text


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


def _refuse_other(start: bytes, name: str, encoding: str) -> None:
    """Raises KftError: a file is no text of this encoding, by its first bytes."""
    refuse_binary(start, name)
    if not _is_wide(encoding):
        refuse_wide(start[:4096], name, encoding)


def _is_wide(encoding: str) -> bool:
    """Whether characters of an encoding hold NUL bytes."""
    return encoding.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32", "u16", "u32"))


class _Text(io.TextIOWrapper):
    """Lines without NUL characters; one that holds some is a UnicodeError."""

    def __next__(self) -> str:
        content = super().__next__()
        if "\0" in content:
            raise UnicodeError("a NUL character")
        return content
