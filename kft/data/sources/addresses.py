"""Files by address (https://, hf://): fetched once into the user's cache, whole or not at all."""

import glob
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kft import backend, runs
from kft.errors import KftError
from kft.progress import note

SCHEMES = ("https", "http", "hf")
ORIGIN = "origin.json"  # beside a fetched file: its address, size and tag
MATCHES = "matches.json"  # of a pattern
TAGS = ("ETag", "Content-MD5", "Digest", "Last-Modified", "blob_id")  # what changes with a file, best first
# Names of the classes that fsspec's clients and huggingface_hub raise without a network.
OFFLINE = (
    "ConnectionError",
    "ClientConnectionError",
    "TransportError",
    "TimeoutError",
    "OfflineModeIsEnabled",
)
PATH_HINT = "or fetch it in another way, and give the file's path"


def is_address(name: str | Path) -> bool:
    return "://" in str(name)


def name_in(address: str) -> str:
    """The file's name in an address."""
    return Path(unquote(urlsplit(address).path)).name


def address_of(path: Path) -> str | None:
    """The address that a file in the cache came from; None of any other file."""
    origin = path.parent / ORIGIN
    if path.parent.parent != _folder() or not origin.is_file():
        return None
    return json.loads(origin.read_text("utf-8"))["address"]


def fetched(address: str) -> list[Path]:
    """The files in the cache that an address or pattern names, sorted.

    A file is fetched again where its size or tag (ETag, hash, time of change) is another one. Where
    there is no network the copy of last time stands for it, with a note.

    Raises:
        KftError: there is no such file, no network and no copy, or the download broke off.
    """
    scheme, _, rest = address.partition("://")
    if scheme not in SCHEMES:
        raise KftError(
            f"{address}: is an address of a kind that is not read",
            f"those that are begin with {', '.join(f'{known}://' for known in SCHEMES)}; fetch it, and give the file's path",
        )
    system = _hub(address) if scheme == "hf" else _web(address)
    if scheme != "hf" or not glob.has_magic(rest):
        return [_fetch(system, rest if scheme == "hf" else address, address)]
    matches = _matches(system, rest, address)
    if not matches:
        raise KftError(
            f"{address}: no file has a name like this", "look at the data set's page for its files"
        )
    return [_fetch(system, match, f"hf://{match}") for match in matches]


def _folder() -> Path:
    return backend.cache_dir() / "downloads"


def _place(address: str) -> Path:
    """The folder in the cache that an address has for itself."""
    return _folder() / hashlib.sha256(address.encode()).hexdigest()[:24]


def _matches(system: Any, pattern: str, address: str) -> list[str]:
    """The names that a pattern stands for; without a network those of last time."""
    file = _place(address) / MATCHES
    try:
        names = _answer_of(address, lambda: sorted(system.glob(pattern)))
    except _Unreachable:
        if not file.is_file():
            raise
        return json.loads(file.read_text("utf-8"))
    if names:
        runs.write_text(file, json.dumps(names))
    return names


def _web(address: str) -> Any:
    for package in ("fsspec", "aiohttp"):
        if importlib.util.find_spec(package) is None:
            raise KftError(
                f"{address}: reading from the web needs the package {package}", "pip install 'kft[remote]'"
            )
    import aiohttp  # an extra
    import fsspec

    # No limit for a whole file, which may be large: a minute in which nothing comes is one.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    settings = {"timeout": timeout, "trust_env": True}  # with the proxies of the environment
    return fsspec.filesystem("http", client_kwargs=settings, skip_instance_cache=True)


def _hub(address: str) -> Any:
    if not address.startswith("hf://datasets/") or len(address.split("/")) < 6:
        raise KftError(
            f"{address}: is not the address of a data file",
            "one looks like hf://datasets/ORG/NAME/data/train.csv, or …/NAME@REVISION/data/train-*.parquet",
        )
    import huggingface_hub  # only downloads need it

    return huggingface_hub.HfFileSystem(skip_instance_cache=True)


def _fetch(system: Any, path: str, address: str) -> Path:
    folder = _place(address)
    file, origin = folder / (name_in(address) or "file"), folder / ORIGIN
    known = json.loads(origin.read_text("utf-8")) if origin.is_file() and file.is_file() else None
    try:
        info = _answer_of(address, lambda: system.info(path))
    except _Unreachable as error:
        if known is None:
            raise
        note(f"{error.message}: the copy of last time is read")
        return file
    if info.get("type") == "directory":
        raise KftError(f"{address}: is a folder", f"name its files by a pattern, such as {address}/*.parquet")
    now = {"address": address, "size": info.get("size"), "tag": _tag(info)}
    if (
        known == now
        and now["tag"] is not None
        and file.stat().st_size == (now["size"] or file.stat().st_size)
    ):
        return file
    size = "" if now["size"] is None else f" ({now['size'] / 2**20:,.1f} MiB)"
    note(f"fetching {address}{size}")
    runs.write_whole(file, lambda aside: _download(system, path, aside, now))
    runs.write_text(origin, json.dumps(now))
    return file


def _download(system: Any, path: str, aside: Path, wanted: dict[str, Any]) -> None:
    address = wanted["address"]
    try:
        _answer_of(address, lambda: system.get_file(path, os.fspath(aside)))
    except _Unreachable:
        raise KftError(f"{address}: the download broke off", f"try again, {PATH_HINT}") from None
    length = aside.stat().st_size
    if wanted["size"] not in (None, length):
        raise KftError(
            f"{address}: the download broke off after {length:,} of {wanted['size']:,} bytes",
            f"try again, {PATH_HINT}",
        )


def _tag(info: dict[str, Any]) -> str | None:
    """What changes whenever a file does; None where the server says nothing of the kind."""
    large = info.get("lfs") or {}
    return large.get("sha256") or next((info[name] for name in TAGS if info.get(name)), None)


class _Unreachable(KftError):
    """There is no network, or no server at the address."""


def _answer_of(address: str, ask: Callable[[], Any]) -> Any:
    """What a client answers; its errors as mistakes that name the address."""
    try:
        return ask()
    except KftError:
        raise
    except Exception as error:  # each client has its own errors for the same few reasons
        cause = error.__cause__ or error  # fsspec takes any error of a client for a missing file
        kinds = {kind.__name__ for kind in (*type(error).__mro__, *type(cause).__mro__)}
        if "ClientPayloadError" in kinds or "Consistency check failed" in str(error):
            raise KftError(f"{address}: the download broke off", f"try again, {PATH_HINT}") from None
        status = getattr(cause, "status", None) or getattr(
            getattr(cause, "response", None), "status_code", None
        )
        if status is None and kinds & set(OFFLINE):
            hint = f"check the network and the name, {PATH_HINT}"
            raise _Unreachable(f"{address}: cannot be reached", hint) from None
        if status in (401, 403):
            hint = "a data set of the Hub may need `hf auth login`, or its terms accepted"
            raise KftError(f"{address}: may not be read (status {status})", f"{hint}; {PATH_HINT}") from None
        if status == 404 or (status is None and isinstance(error, FileNotFoundError)):
            hint = "check the address; a private data set needs a sign-in"
            raise KftError(f"{address}: no such file", hint) from None
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise KftError(f"{address}: cannot be fetched: {reason}", f"try again later, {PATH_HINT}") from None
