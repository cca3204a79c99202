"""Atomic writes: a killed process, a full disk or a power cut never leaves half a file."""

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mergenet.errors import CheckpointError, WriteError


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk: a rename survives a power cut only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes, mode: str = "wb") -> None:
    """Write or append to a file and flush it to disk; not atomic, raises OSError."""
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def beside(path: Path) -> Path:
    """A name for the unfinished `path`: hidden, in the same folder, this thread's own, same suffix."""
    return path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.tmp{path.suffix}")


def remove(path: Path) -> None:
    """Delete an unfinished file, if it exists and the disk allows it: the error being handled matters more."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a reader sees the old file or the new one, whenever the writer is killed.

    Raises WriteError if the disk refuses (full, read-only, no such folder).
    """
    temporary = beside(path)
    try:
        write_synced(temporary, data)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        remove(temporary)
        raise WriteError(f"{path} could not be written: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, obj: Any) -> None:
    """`write_bytes` of indented JSON; a float that is not finite becomes NaN or Infinity."""
    write_text(path, json.dumps(obj, indent=2) + "\n")


@contextlib.contextmanager
def only_writer(folder: Path, patience: float) -> Iterator[None]:
    """Locks the folder against other processes that call this; the lock ends with the process.

    patience: seconds to wait for a process that holds it; a worker whose driver was killed notices at its epoch's end.
    Raises CheckpointError if it is still held then. On file systems without locks nothing is locked.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CheckpointError(
                        f"{folder} is being written by another process; wait for it, stop it, or choose another folder"
                    ) from None
                time.sleep(0.1)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)


def read_bytes(path: Path) -> bytes:
    """Raises CheckpointError if the file is missing or cannot be read."""
    data = read_if_any(path)
    if data is None:
        raise missing(path)
    return data


def missing(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} could not be read: {os.strerror(errno.ENOENT)}")


def read_if_any(path: Path) -> bytes | None:
    """None if there is no such file. Raises CheckpointError if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a Path takes as long again)
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror}") from error
