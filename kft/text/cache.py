"""Keeps the tokens of texts on disk, so that the same texts are tokenized once.

A file is one int32 array: [TOKENS_FORMAT, N, crc32 of the rest, 0 | lengths [N] |
    second_starts [N] | full_lengths [N] | ids],
and of located tokens their characters [ids, 2].
"""

import functools
import hashlib
import logging
import os
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tokenizers

from kft import backend
from kft.text.rows import Tokens, encode, offsets_of
from kft.text.templates import Frame, Template
from kft.text.tokenizers import Tokenizer

TOKENS_FORMAT = 2  # raised whenever the same texts would give other arrays
CACHE_BYTES = 2 * 2**30  # all files together; the ones unused for longest go first

log = logging.getLogger(__name__)


def encode_cached(
    tokenizer: Tokenizer,
    template: Template,
    texts: list[str],
    pairs: list[str] | None,
    max_length: int,
    cache_dir: str | Path | None = None,
    *,
    located: bool = False,
) -> Tokens:
    """`encode`, its arrays kept on disk and memory-mapped when the same texts are asked for again.

    Args:
        cache_dir: the folder of the cached files; the user's cache folder by default. Where it
            cannot be written or belongs to somebody else, nothing is kept.
    """
    cache = _private_folder(Path(cache_dir) if cache_dir else backend.cache_dir() / "tokens")
    if cache is None:
        return encode(tokenizer, template, texts, pairs, max_length, located=located)
    parts = tokenizer.frame(template, pairs is not None)
    file = cache / f"{_key(tokenizer, parts, texts, pairs, (max_length, located))}.npy"
    if file.exists():
        cached = _read(file, len(texts), located)
        if cached is not None:
            return cached
        log.warning("%s: is damaged, the texts are tokenized again", file)
    tokens = encode(tokenizer, template, texts, pairs, max_length, located=located)
    _write(file, tokens)
    return tokens


def _private_folder(folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        log.warning("%s: cannot be used (%s), tokens are not kept", folder, error.strerror)
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _key(
    tokenizer: Tokenizer, parts: Frame, texts: list[str], pairs: list[str] | None, settings: tuple
) -> str:
    digest = hashlib.sha256()
    digest.update(repr((TOKENS_FORMAT, tokenizers.__version__, parts, settings, pairs is None)).encode())
    for strings in ([tokenizer.content], texts, pairs or []):
        for chunk in _chunks(strings, 10_000):
            encoded = [string.encode("utf-8", "surrogatepass") for string in chunk]
            digest.update(
                np.array([len(encoded), *map(len, encoded)], np.int64)
            )  # else "ab", "c" is "a", "bc"
            digest.update(b"".join(encoded))
    return digest.hexdigest()


def _chunks(items: list | tuple, size: int) -> Iterator[list | tuple]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _read(file: Path, count: int, located: bool) -> Tokens | None:
    try:
        stored = np.load(file, mmap_mode="r")
        if stored.dtype != np.int32 or stored.ndim != 1 or len(stored) < 4 + 3 * count:
            return None
        if stored[:3].tolist() != [TOKENS_FORMAT, count, _checksum(stored[4:])]:
            return None
        os.utime(file)  # used just now
    except (OSError, ValueError, EOFError):
        return None
    lengths, starts, full = stored[4 : 4 + 3 * count].reshape(3, count)
    rest, offsets = stored[4 + 3 * count :], offsets_of(lengths)
    if len(rest) != offsets[-1] * (3 if located else 1):
        return None
    ids, characters = rest[: offsets[-1]], rest[offsets[-1] :].reshape(-1, 2)
    return Tokens(ids, offsets, starts, full, characters if located else None)


def _write(file: Path, tokens: Tokens) -> None:
    parts = [np.diff(tokens.offsets).astype(np.int32), tokens.second_starts, tokens.full_lengths, tokens.ids]
    parts += [] if tokens.characters is None else [tokens.characters.reshape(-1)]
    size = 4 + sum(map(len, parts))
    if 4 * size > CACHE_BYTES:
        return
    start = np.array([TOKENS_FORMAT, len(tokens.second_starts), _checksum(*parts), 0], np.int32)
    aside = file.with_name(f".{uuid.uuid4().hex}.npy")
    try:
        _make_room(file.parent, CACHE_BYTES - 4 * size)
        with aside.open("xb") as opened:  # not memory-mapped: a full disk would end the process
            np.lib.format.write_array_header_1_0(
                opened, {"descr": "<i4", "fortran_order": False, "shape": (size,)}
            )
            for part in (start, *parts):
                opened.write(part.data)
        aside.replace(file)
    except OSError as error:
        log.warning("%s: cannot be written (%s), these tokens are not kept", file, error.strerror)
    finally:
        aside.unlink(missing_ok=True)


def _make_room(folder: Path, room: int) -> None:
    """Removes the files unused for longest until `room` bytes hold the rest."""
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        room -= file.stat().st_size
        if room < 0:
            file.unlink(missing_ok=True)


def _checksum(*arrays: np.ndarray) -> int:
    return functools.reduce(lambda crc, numbers: zlib.crc32(numbers, crc), arrays, 0) - 2**31  # as int32
