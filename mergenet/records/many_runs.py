"""Reading many run folders: only those that have changed since the last look, and in two processes if they are many.

A run is remembered together with size, times, inode and device of each of its files, if they were the same before and
after it was read and had not changed for a while. Whatever is edited, damaged, cut off, replaced or put back later
differs in one of them: no program sets ctime, the time of a file's last change. Such a run is read again, and so is one
that could not be read.

What is remembered lies in the user's cache folder, XDG_CACHE_HOME/mergenet or else ~/.cache/mergenet, never among the
records, and may be deleted at any time. It is JSON with a checksum, of values that JSON gives back exactly; nothing in
it is executed. A file that is missing, damaged, of another folder or written by other code is as good as none; one that
cannot be written is not written.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json, to_json

from mergenet.errors import UserError
from mergenet.records.atomic import beside, remove

FEWEST = 100  # runs that are worth a file
SETTLED = 2.0  # seconds without a change; two changes within less may have one time where clocks are coarse
WORTH = 0.02  # share of the runs that must have been read anew for the file to be written again
KEPT = 32  # files, of as many folders; the oldest go first
SHARED, STARTING = 800, 300  # runs to read that are worth a second process; those that are read while it starts

Stamp = list[list[int] | None]  # of each file; None if it is missing


@dataclass(frozen=True)
class Reader:
    """What reads a run folder, and all that decides what it returns.

    read: raises UserError or OSError; its values are not changed by those who get them. files: those that it looks at.
    what: tells readers of the same folder apart. code: packages whose code decides, beside this one.
    """

    read: Callable[[Path], Any]
    files: tuple[str, ...]
    what: str
    code: tuple[str, ...]


def read_many(runs: Sequence[Path], reader: Reader, cache: bool = True) -> list[Any]:
    """For each folder, all of one parent folder, what `reader.read` returns, or the UserError that says why not."""
    now, stamps = time.time(), {run: _stamp(run, reader.files) for run in runs}
    file = CacheFile(runs[0].parent, reader) if cache and len(runs) >= FEWEST else None
    known = {} if file is None else file.load()
    found = {run: known[run.name][1] for run in runs if run.name in known and known[run.name][0] == stamps[run]}
    new = [run for run in runs if run not in found]
    found |= dict(zip(new, _read(new, reader), strict=True))
    if file is not None and len(new) > WORTH * len(runs):
        changing = {run for run in new if not _settled(stamps[run], now) or _stamp(run, reader.files) != stamps[run]}
        file.save({run.name: [stamps[run], found[run]] for run in runs if run not in changing})
    return [found[run] for run in runs]


class CacheFile:
    """What is remembered of the runs of one folder: [stamp, value] by the run's name."""

    def __init__(self, parent: Path, reader: Reader) -> None:
        self.what = f"{reader.what} of {os.path.abspath(parent)}"  # noqa: PTH100 (does not follow links)
        self.code = _code_hash((*reader.code, __package__))
        name = hashlib.sha256(self.what.encode(errors="surrogateescape")).hexdigest()[:32]
        self.path = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mergenet" / f"runs-{name}.json"

    def load(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # the last where the user has no home
            title, _, body = self.path.expanduser().read_bytes().partition(b"\n")
            if from_json(title) == self._title(body):
                return dict(from_json(body))
        return {}

    def save(self, runs: dict[str, Any]) -> None:
        """Writes those that JSON gives back, and deletes what too many other folders have left there."""
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # the last where a folder's name is no text
            body = _json({name: found for name, found in runs.items() if _comes_back(found)})
            path = self.path.expanduser()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                beside(path).write_bytes(_json(self._title(body)) + b"\n" + body)
                beside(path).replace(path)
            finally:
                remove(beside(path))
            files = sorted(path.parent.glob("*runs-*.json"), key=lambda other: other.stat().st_mtime_ns)
            for other in files[:-KEPT]:
                remove(other)

    def _title(self, body: bytes) -> dict[str, str]:
        return {"what": self.what, "code": self.code, "sha256": hashlib.sha256(body).hexdigest()}


def _stamp(run: Path, files: Iterable[str]) -> Stamp:
    stamp: Stamp = []
    for name in files:
        try:
            found = os.stat(f"{run}/{name}")  # noqa: PTH116 (a Path takes as long again, for each file of each run)
        except OSError:
            stamp.append(None)
        else:
            stamp.append([found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev])
    return stamp


def _settled(stamp: Stamp, now: float) -> bool:
    """Whether no file has changed within SETTLED seconds, nor lies in the future."""
    return all(max(file[1:3]) < (now - SETTLED) * 1e9 for file in stamp if file is not None)


def _code_hash(packages: Iterable[str]) -> str:
    """Of this Python and of the code in the folders of these packages."""
    digest = hashlib.sha256(sys.version.encode())
    for package in packages:
        for path in sorted(Path(import_module(package).__file__ or "").parent.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _json(value: Any) -> bytes:
    return to_json(value, inf_nan_mode="constants")


def _comes_back(value: Any) -> bool:
    """Whether JSON gives the value back exactly."""
    try:
        again = from_json(_json(value))
    except ValueError:
        return False
    return bool(again == value) or repr(again) == repr(value)  # the latter where it holds NaN


def _read(runs: Sequence[Path], reader: Reader) -> list[Any]:
    """In two processes if they are many; in this one where the other has not done its part."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = len(runs) >= SHARED and cores > 1 and "<locals>" not in reader.read.__qualname__
    mine = (len(runs) + STARTING) // 2 if shared else len(runs)
    with _helper(runs[mine:], reader) as their_part:
        found = [_attempt(run, reader.read) for run in runs[:mine]]
        for run, told in zip_longest(runs[mine:], their_part()):
            value, error = told or (_attempt(run, reader.read), None)
            found.append(value if error is None else UserError(error))
    return found


def _attempt(run: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(run)
    except (UserError, OSError) as error:
        return UserError(str(error))


@contextlib.contextmanager
def _helper(runs: Sequence[Path], reader: Reader) -> Iterator[Callable[[], list[Any]]]:
    """A second process that reads runs; the function waits for it and returns what it wrote, nothing if it failed.

    It is started anew, not forked, because a process with threads must not be forked; it gets and tells bytes and JSON.
    """
    started = None
    with contextlib.suppress(OSError):
        started = _start(runs, reader) if runs else None
    if started is None:
        yield list
        return
    process, told = started

    def wait() -> list[Any]:
        if process.wait():
            return []
        told.seek(0)
        return list(from_json(told.read()))

    try:
        yield wait
    finally:
        process.kill()
        process.wait()
        told.close()


def _start(runs: Sequence[Path], reader: Reader) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """The process, and the file that it writes to."""
    code = f"from {__name__} import help_reading; help_reading()"
    command = [sys.executable, "-P", "-c", code, reader.read.__module__, reader.read.__qualname__]
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    with tempfile.TemporaryFile() as asked:
        asked.write(b"\0".join(map(os.fsencode, runs)))
        asked.seek(0)
        told, environment = tempfile.TemporaryFile(), {**os.environ, "PYTHONPATH": paths}  # noqa: SIM115 (_helper closes it)
        return subprocess.Popen(command, stdin=asked, stdout=told, stderr=subprocess.DEVNULL, env=environment), told


def help_reading() -> None:
    """The second process. It tells [value, error] of each run, null where JSON would not give the value back."""
    module, name = sys.argv[1:]
    read = getattr(import_module(module), name)
    found = [_attempt(Path(os.fsdecode(run)), read) for run in sys.stdin.buffer.read().split(b"\0")]
    told = [[None, str(value)] if isinstance(value, UserError) else [value, None] for value in found]
    sys.stdout.buffer.write(_json([pair if _comes_back(pair) else None for pair in told]))
