"""What was read of many run folders, remembered for the next look at them.

A run is remembered together with size, times, inode and device of each of its files, if they were the same before and
after it was read and had not changed for a while. Whatever is edited, damaged, cut off, replaced or put back later
differs in one of them: no program sets ctime, the time of a file's last change. Such a run is read again, and so is one
that could not be read.

The file is JSON with a checksum, of values that JSON gives back exactly; nothing in it is executed. It lies in the
user's cache folder, XDG_CACHE_HOME/mergenet or else ~/.cache/mergenet, never among the records, and may be deleted at
any time. One that is missing, damaged, of another folder or written by other code is as good as none; one that cannot
be written is not written.
"""

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from mergenet.records.atomic import beside, remove

FEWEST = 100  # runs that are worth a file
SETTLED = 2.0  # seconds without a change; two changes within less may have one time where clocks are coarse
WORTH = 0.02  # share of the runs that must have been read anew for the file to be written again
KEPT = 32  # files, of as many folders; the oldest go first

Stamp = list[list[int] | None]  # of each file; None if it is missing


class RunCache:
    """Reads run folders of one parent folder, if they have changed since they were remembered.

    read: what reads one; names: the files that it looks at. What it returns must not be changed by the caller.
    what: tells different readers apart; code: packages whose code decides what they return, beside this one.
    """

    def __init__(
        self, parent: Path, names: Sequence[str], read: Callable[[Path], Any], what: str, code: Sequence[str]
    ) -> None:
        self.names, self.read = names, read
        self.what = f"{what} of {os.path.abspath(parent)}"  # noqa: PTH100 (does not follow links)
        self.path, self.code = _place(self.what), _code_hash((*code, __package__))
        self.known, self.seen = self._load(), dict[str, list[Any]]()  # stamp and value, by the run's name
        self.count = self.new = 0

    def __call__(self, run: Path) -> Any:
        """What `read` returns for this run folder, or raises."""
        now, stamp = time.time(), self._stamp(run)
        self.count += 1
        found = self.known.get(run.name)
        if found is None or found[0] != stamp:
            self.new += 1
            found = [stamp, self.read(run)]
            if not _settled(stamp, now) or self._stamp(run) != stamp:
                return found[1]
        self.seen[run.name] = found
        return found[1]

    def save(self) -> None:
        """Writes the file if it is worth it, and deletes what too many other folders have left there."""
        if self.path is None or self.count < FEWEST or self.new <= WORTH * self.count:
            return
        body = _json({name: found for name, found in self.seen.items() if _comes_back(found)})
        temporary = beside(self.path)
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(_json(self._title(body)) + b"\n" + body)
            temporary.replace(self.path)
            files = sorted(self.path.parent.glob("*runs-*.json"), key=lambda path: path.stat().st_mtime_ns)
            for path in files[:-KEPT]:
                remove(path)
        remove(temporary)

    def _load(self) -> dict[str, Any]:
        if self.path is None:
            return {}
        with contextlib.suppress(OSError, ValueError):
            title, _, body = self.path.read_bytes().partition(b"\n")
            if from_json(title) == self._title(body):
                return dict(from_json(body))
        return {}

    def _title(self, body: bytes) -> dict[str, str]:
        return {"what": self.what, "code": self.code, "sha256": hashlib.sha256(body).hexdigest()}

    def _stamp(self, run: Path) -> Stamp:
        return [_file_stamp(f"{run}/{name}") for name in self.names]


def _file_stamp(path: str) -> list[int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (a Path takes as long again, for each file of each run)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def _settled(stamp: Stamp, now: float) -> bool:
    """Whether no file has changed within SETTLED seconds, nor lies in the future."""
    return all(max(file[1:3]) < (now - SETTLED) * 1e9 for file in stamp if file is not None)


def _comes_back(value: Any) -> bool:
    """Whether JSON gives the value back exactly."""
    try:
        again = from_json(_json(value))
    except ValueError:
        return False
    return bool(again == value) or repr(again) == repr(value)  # the latter where it holds NaN


def _json(value: Any) -> bytes:
    return to_json(value, inf_nan_mode="constants")


def _place(what: str) -> Path | None:
    """The file; None where the user has no cache folder."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    with contextlib.suppress(RuntimeError):  # no home
        name = hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:32]
        return root.expanduser() / "mergenet" / f"runs-{name}.json"
    return None


def _code_hash(packages: Sequence[str]) -> str:
    """Of this Python and of the code in the folders of these packages."""
    digest = hashlib.sha256(sys.version.encode())
    for package in packages:
        for path in sorted(Path(sys.modules[package].__file__ or "").parent.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
