"""The folder of a Ray that is started here, for sockets and logs; Ray's messages say little if it is unusable."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sweeps.trials.errors import RayFailed

ROOM_BYTES = 16 * 1024**2  # free space in Ray's folder, below which it does not start
SOCKET = "session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store"  # the longest that Ray makes in its folder
SOCKET_BYTES = 107  # Linux's limit on a socket's path


@contextmanager
def ray_folder() -> Iterator[None]:
    """Inside, Ray has a folder for its sockets and logs whose name is short enough, and that can be written.

    A socket's path is limited to 107 bytes, and clusters like to set a long TMPDIR: then it is /tmp.
    Raises RayFailed if the folder is too long or cannot be written, OSError if its disk is full.
    """
    too_long = len(os.fsencode(place_of_ray() / SOCKET)) > SOCKET_BYTES
    if too_long and "RAY_TMPDIR" in os.environ:
        limit = SOCKET_BYTES - len(SOCKET) - len("/ray/")
        raise RayFailed(
            f"RAY_TMPDIR must have at most {limit} bytes, got {os.environ['RAY_TMPDIR']}; /tmp is the default"
        )
    with environment({"RAY_TMPDIR": "/tmp"} if too_long else {}):
        place = place_of_ray()
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RayFailed(
                f"Ray's folder {place} must be writable, got {error.strerror}; set RAY_TMPDIR to another"
            ) from None
        check_room(place)
        yield


def place_of_ray() -> Path:
    """Where a Ray that is started here writes: as ray._common.utils.get_default_ray_temp_dir."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"


def check_room(place: Path) -> None:
    """Raises OSError, which pauses a sweep, if the disk of Ray's folder is full: Ray itself would wait for a minute."""
    if shutil.disk_usage(place).free < ROOM_BYTES:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}; Ray needs it, or RAY_TMPDIR on another disk", str(place)
        )


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
