"""One writer at a time in a folder: a lock that ends with its process, over networks too.

The lock is the operating system's (`flock`) on a small file, which also says who holds it:

    {"process", "host", "since", "machine", "namespace", "started", "inode", "token"}

The system's lock ends with the process, however that dies. Some network file systems keep it to one
machine, and some have none: hence the holder also touches the file every few seconds, and another
machine waits for such a sign of life before it takes over a lock that the system gave it. A record
in a copied folder is nobody's: its file has another number.
"""

import contextlib
import errno
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kft.errors import KftError
from kft.progress import note
from kft.runs.files import cannot_write

LOCK = ".lock"
IN_USE_HINT = "wait for it, or choose another folder with --run"
BEAT_SECONDS = 8.0  # between two signs of life
DEAD_SECONDS = 25.0  # without one, after which another machine takes a lock over
READ_TRIES = 10  # of a record whose holder is just writing it
UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@contextlib.contextmanager
def only_writer(folder: str | Path, hint: str = IN_USE_HINT, file: Path | None = None) -> Iterator[None]:
    """Keeps other processes, and other threads, from writing in a folder meanwhile.

    Args:
        folder: what is written; created with its parents if it is missing, unless `file` is
            given.
        hint: what else to do, should the folder be in use.
        file: of the lock, where it is not in the folder.

    Raises:
        KftError: another process writes in the folder, or the lock cannot be written.
    """
    file = file or Path(os.path.realpath(os.path.expanduser(folder))) / LOCK  # noqa: PTH111 (as for runs)
    if file.parent.exists() and not file.parent.is_dir():
        raise KftError(f"{folder}: is a file, not a folder", hint)
    token = uuid.uuid4().hex
    opened = _take(file, folder, hint, token)
    over = threading.Event()
    threading.Thread(target=_beat, args=(opened, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        if _is_same_file(opened, file) and (_read(file) or {}).get("token") == token:
            with contextlib.suppress(OSError):
                file.unlink()
        opened.close()


def user_of(folder: Path) -> str | None:
    """Who writes in a folder just now, in words; None for nobody, as far as one sees unlocked."""
    record = _read(folder / LOCK)
    with contextlib.suppress(OSError):
        if record and _lives(record, folder / LOCK, watched=False):
            return _words(record)
    return None


def try_lock(opened: IO, shared: bool = False, wait: bool = False) -> bool | None:
    """The system's lock on an open file, until that is closed; None if the disk has no locks."""
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(opened, kind)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            return False
        if error.errno in UNSUPPORTED:
            return None
        raise
    return True


def _take(file: Path, folder: str | Path, hint: str, token: str) -> IO:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            opened = file.open("a+", encoding="utf-8")
        except OSError as error:
            raise cannot_write(folder, error) from None
        try:
            locked = try_lock(opened)
            if locked is False:
                raise _in_use(folder, hint, _wait_for_record(file))
            if not _is_same_file(opened, file):  # its last holder has just removed it
                opened.close()
                continue
            record = _read(file)
            if record and _lives(record, file, watched=True, locked=bool(locked)):
                raise _in_use(folder, hint, record)
            _write(opened, token)
            if locked is None and (_read(file) or {}).get("token") != token:
                raise _in_use(folder, hint, _read(file))
        except OSError as error:
            with contextlib.suppress(OSError):  # it writes once more what found no space
                opened.close()
            raise cannot_write(folder, error) from None
        except BaseException:
            opened.close()
            raise
        return opened


def _in_use(folder: str | Path, hint: str, record: dict[str, Any] | None) -> KftError:
    return KftError(f"{folder}: is in use by {_words(record) if record else 'another process'}", hint)


def _words(record: dict[str, Any]) -> str:
    return f"process {record.get('process')} on {record.get('host')} since {record.get('since')}"


def _write(opened: IO, token: str) -> None:
    record = _here() | {"inode": os.fstat(opened.fileno()).st_ino, "token": token}
    opened.seek(0)
    opened.truncate()
    opened.write(json.dumps(record) + "\n")
    opened.flush()
    os.fsync(opened.fileno())


def _here() -> dict[str, Any]:
    """What distinguishes this process from every other one."""
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": _first_line("/proc/sys/kernel/random/boot_id") or platform.node(),
        "namespace": _namespace(),
        "started": _started(os.getpid()),
    }


def _lives(record: dict[str, Any], file: Path, watched: bool, locked: bool = False) -> bool:
    """Whether the process of a record goes on.

    Args:
        record: of the lock's file.
        file: of the lock.
        watched: whether to wait for its next sign of life, where the last one is fresh and nothing
            else decides.
        locked: whether the system gave its lock to this process.
    """
    here = _here()
    if record.get("inode") != file.stat().st_ino:
        return False
    if record.get("machine") == here["machine"]:
        if record.get("namespace") == here["namespace"]:
            other = record.get("process")
            if other == os.getpid():  # to another thread of it, as the system says
                return not watched
            return _started(other) is not None and _started(other) == record.get("started")
        if locked:  # another container of this machine: one kernel has all its locks
            return False
    last = _touched(file)
    if _now(file.parent) - last > DEAD_SECONDS:
        return False
    if not watched:
        return True
    note(f"{file.parent}: was in use by {_words(record)}; waiting for a sign of life …")
    deadline = time.monotonic() + DEAD_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, BEAT_SECONDS))
        if _touched(file) != last:
            return True
    return False


def _beat(opened: IO, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError, ValueError):
            os.utime(opened.fileno())


def _touched(file: Path) -> float:
    with file.open("rb") as opened:  # opening asks a file server anew, where `stat` may answer from a cache
        return os.fstat(opened.fileno()).st_mtime


def _now(folder: Path) -> float:
    """The time by the clock that stamps the folder's files, which may be a server's."""
    probe = folder / f"{LOCK}.{uuid.uuid4().hex[:8]}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _is_same_file(opened: IO, file: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(opened.fileno()), file.stat())
    return False


def _wait_for_record(file: Path) -> dict[str, Any] | None:
    for _ in range(READ_TRIES):
        if record := _read(file):
            return record
        time.sleep(0.1)
    return None


def _read(file: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(file.read_text("utf-8"))
        return record if isinstance(record, dict) else None
    return None


def _started(process: Any) -> str | None:
    """When a process of this machine began, in ticks; None where there is none of that number."""
    line = _first_line(f"/proc/{process}/stat")
    if line is not None:
        state, *rest = line.rsplit(")", 1)[-1].split()
        return None if state in "ZX" else rest[18]
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, TypeError, ValueError):
        return None
    except OSError:
        pass
    return "unknown"


def _namespace() -> str:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (it is no path)
    return ""


def _first_line(file: str) -> str | None:
    with contextlib.suppress(OSError):
        return Path(file).read_text("utf-8", "replace").split("\n", 1)[0].strip()
    return None
