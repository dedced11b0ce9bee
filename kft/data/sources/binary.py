"""Files that are no text: what they are by their first bytes, and what to do with them."""

from kft.errors import KftError

TABLE_HINT = "save it as CSV, JSONL or Parquet"
# First bytes → what the file is, and what to do.
SIGNATURES = {
    b"\x1f\x8b": ("compressed with gzip", "give its name the ending .gz, or unpack it: gunzip FILE"),
    b"BZh": ("compressed with bzip2", "give its name the ending .bz2, or unpack it: bunzip2 FILE"),
    b"\x28\xb5\x2f\xfd": (
        "compressed with Zstandard",
        "give its name the ending .zst, or unpack it: unzstd FILE",
    ),
    b"\xfd7zXZ\0": ("compressed with xz", "give its name the ending .xz, or unpack it: unxz FILE"),
    b"\x04\x22\x4d\x18": ("compressed with LZ4", "unpack it: unlz4 FILE"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it: 7z x FILE"),
    b"Rar!": ("a rar archive", "unpack it, and give a file in it"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "in Excel, save it as CSV UTF-8"),
    b"PAR1": ("Parquet", '`data.format = "parquet"` reads it'),
    b"ARROW1": ("an Arrow file", '`data.format = "arrow"` reads it'),
    b"\x89HDF\r\n": ("an HDF5 file", TABLE_HINT),
    b"\x93NUMPY": ("a NumPy array", TABLE_HINT),
    b"\x80\x04": ("a Python pickle", TABLE_HINT),
    b"\x80\x05": ("a Python pickle", TABLE_HINT),
    b"Obj\x01": ("an Avro file", TABLE_HINT),
    b"ORC": ("an ORC file", TABLE_HINT),
    b"%PDF": ("a PDF document", TABLE_HINT),
    b"\x89PNG": ("a PNG image", TABLE_HINT),
    b"SQLite format 3\0": ("an SQLite database", TABLE_HINT),
    b"version https://git-lfs": (
        "a pointer of Git LFS, in place of the file",
        "fetch the file: git lfs pull",
    ),
}
WORKBOOK = ("an Excel workbook", 'give its name the ending .xlsx, or `data.format = "excel"` reads it')
ZIP = ("a zip archive", "unpack it, and give a file in it")
TAR = ("a tar archive", "unpack it: tar -xf FILE, and give a file in it")
PAGE = ("a web page (HTML), perhaps in place of a download", "download the file itself")
PAGES = (b"<!doctype html", b"<html")
NUL_SHARE, CONTROL_SHARE = 0.3, 0.1  # of the first bytes, from which a file is no text
CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))  # that hardly stand in texts


def what_it_is(start: bytes) -> tuple[str, str] | None:
    """What a file is that is no text, and what to do with it; None for any other first bytes."""
    if start.startswith(b"PK\x03\x04"):
        return WORKBOOK if b"xl/" in start or b"[Content_Types].xml" in start else ZIP
    if start[257:262] == b"ustar":
        return TAR
    if start.lstrip()[:14].lower().startswith(PAGES):
        return PAGE
    return next(
        (description for signature, description in SIGNATURES.items() if start.startswith(signature)), None
    )


def refuse_binary(start: bytes, name: str) -> None:
    """Raises KftError: a file is something else than text, by its first bytes."""
    if description := what_it_is(start):
        what, hint = description
        raise KftError(f"{name}: is {what}, not text", hint.replace("FILE", name))


def refuse_wide(start: bytes, name: str, encoding: str) -> None:
    """Raises KftError: a file is UTF-16, or has too many NUL bytes or control characters."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise KftError(f"{name}: is not {encoding} text but UTF-16", 'set `data.encoding = "utf-16"`')
    strange = len(start) - len(start.translate(None, CONTROLS))
    wide = start.count(b"\0") > NUL_SHARE * len(start)
    if wide or (b"\0" in start and len(start) >= 64 and strange > CONTROL_SHARE * len(start)):
        raise KftError(
            f"{name}: is a binary file (it holds NUL bytes), not text",
            f'{TABLE_HINT}; if it is UTF-16 text, set `data.encoding = "utf-16"`',
        )
