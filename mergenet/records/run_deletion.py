"""Deleting a run such that what a kill leaves of it is no run for a reader, or still known as one."""

import errno
import shutil
from pathlib import Path

from mergenet.records.run_record import CONFIG_FILE, PROVENANCE_FILE

DELETED = ".deleted-"  # what a kill leaves of a run that was being deleted


def delete_run(folder: Path, place: Path) -> None:
    """At once, for a reader: it goes to `place`, under a name that none looks at; then its files. A run that lies on
    another disk is deleted where it is.
    """
    deleted = place / f"{DELETED}{folder.name}"
    if deleted.exists():
        shutil.rmtree(deleted)
    try:
        folder.rename(deleted)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        empty_run(folder)
        folder.rmdir()
    else:
        shutil.rmtree(deleted)


def clear_deleted(place: Path) -> None:
    """Delete what a kill has left of runs that were being deleted."""
    for deleted in place.glob(f"{DELETED}*"):
        shutil.rmtree(deleted)


def empty_run(folder: Path) -> None:
    """config.yaml goes last: what a kill leaves of the folder is still known as a run's."""
    for path in sorted(folder.iterdir(), key=lambda path: (path.name == CONFIG_FILE, path.name == PROVENANCE_FILE)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
