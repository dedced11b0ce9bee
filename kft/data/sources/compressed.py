"""Compressed files, by their endings: gzip, bzip2, xz, Zstandard, and a zip archive of one file."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa

from kft.errors import KftError

ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")
# What a file raises that is not whole, or not compressed as its ending says.
DAMAGES = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, pa.ArrowInvalid)


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def open_bytes(path: Path) -> Any:
    """The file opened for reading, decompressed as its ending says; it can peek and seek."""
    ending = path.suffix.lower()
    if ending == ".zip":
        with zipfile.ZipFile(path) as archive:
            return io.BufferedReader(io.BytesIO(archive.read(_only(archive, path))))
    if ending == ".zst":
        with pa.input_stream(str(path), compression="zstd") as stream:
            return io.BufferedReader(io.BytesIO(stream.read()))
    return {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(ending, open)(path, "rb")


def plain_name(path: Path) -> str:
    """The name of what is compressed, in small letters: of Reviews.csv.gz "reviews.csv".

    Of a zip archive it is the name of its file.
    """
    name = path.name.lower()
    if not is_compressed(path):
        return name
    inner = name.removesuffix(path.suffix.lower())
    if path.suffix.lower() == ".zip" and not Path(inner).suffix and path.is_file():
        try:
            with zipfile.ZipFile(path) as archive:
                return Path(_only(archive, path)).name.lower()
        except (OSError, zipfile.BadZipFile):
            return inner
    return inner


def _only(archive: zipfile.ZipFile, path: Path) -> str:
    """The name of the one file of an archive, what macOS adds aside."""
    names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
    if len(names) != 1:
        listing = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise KftError(
            f"{path.name}: holds {len(names)} files{f' ({listing})' if names else ''}, not one",
            "unpack it, and give the file or folder in it",
        )
    return names[0]
