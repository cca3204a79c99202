"""Folders for Ray's own files while a sweep runs, deleted with it; those of killed drivers are deleted by the next.

A driver holds a lock on its folders, and a lock goes with its process, whatever ends it.
"""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRATCH = ".mergenet-ray-"
LOCK = ".lock"


@contextmanager
def scratch_folder(place: Path | None) -> Iterator[Path]:
    """A new folder, deleted at the end. place: the sweep folder, which all nodes see; None: this machine's own."""
    place = Path(tempfile.gettempdir()) if place is None else place
    clear_scratch(place)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / LOCK).open("w") as lock:
            with contextlib.suppress(OSError):  # a file system without locks: only its own sweep deletes it
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def clear_scratch(place: Path) -> None:
    """Delete the folders in a place that no driver on this machine holds any more, and that this user may delete."""
    for folder in place.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError), (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
