"""Reading many run folders: only those that have changed since the last look.

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
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from mergenet.records.atomic import beside, remove
from mergenet.records.shared_reading import as_json, read_all

FEWEST = 100  # runs that are worth a file
SETTLED = 2.0  # seconds without a change; two changes within less may have one time where clocks are coarse
WORTH = 0.02  # share of the runs that must have been read anew for the file to be written again
KEPT = 32  # files, of as many folders; the oldest go first

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
    same = {run: known[run.name] for run in runs if run.name in known and known[run.name].stamp == stamps[run]}
    new = [run for run in runs if run not in same]
    found = {run: remembered.value for run, remembered in same.items()}
    found |= dict(zip(new, read_all(new, reader.read), strict=True))
    if file is not None and len(new) > WORTH * len(runs):
        settled = [run for run in new if _settled(stamps[run], now) and _stamp(run, reader.files) == stamps[run]]
        lines = [as_json([run.name, stamps[run], found[run]]) for run in settled]
        file.save([*(remembered.line for remembered in same.values()), *(line for line in lines if line is not None)])
    return [found[run] for run in runs]


class Remembered(NamedTuple):
    stamp: Stamp
    value: Any
    line: bytes  # of the file


class CacheFile:
    """What is remembered of the runs of one folder: a title, and a line of JSON for each run, [name, stamp, value]."""

    def __init__(self, parent: Path, reader: Reader) -> None:
        self.what = f"{reader.what} of {os.path.abspath(parent)}"  # noqa: PTH100 (does not follow links)
        self.code = _code_hash((*reader.code, __package__, f"{__package__}.quick"))
        name = hashlib.sha256(self.what.encode(errors="surrogateescape")).hexdigest()[:32]
        self.path = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mergenet" / f"runs-{name}.json"

    def load(self) -> dict[str, Remembered]:
        """By the name of the run."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # the last where the user has no home
            title, _, body = self.path.expanduser().read_bytes().partition(b"\n")
            if from_json(title) == self._title(body):
                lines = body.split(b"\n")
                values = from_json(b"[%s]" % b",".join(lines))
                return {
                    name: Remembered(stamp, value, line)
                    for (name, stamp, value), line in zip(values, lines, strict=True)
                }
        return {}

    def save(self, lines: Sequence[bytes]) -> None:
        """Writes the file, and deletes what too many other folders have left there."""
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # the last where a folder's name is no text
            path, body = self.path.expanduser(), b"\n".join(lines)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                beside(path).write_bytes(to_json(self._title(body)) + b"\n" + body)
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
