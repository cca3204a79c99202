"""What Ray starts in place of a worker: it has the fork server of its node fork the worker, and waits for its end.

It lives as long as the worker, and if it is killed so is the worker, so that Ray sees what it would see of a worker
that it has started itself. It waits as a shell, which takes less than a MiB. Whatever goes wrong before the worker has
been forked, the worker is started as ever.

The server of a node is started by the first client that finds none. Its folder is in Ray's own for temporary files, for
this user alone, because whoever may write to its socket has it run code.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SOCKET = "socket"
REFUSED = "refused"  # a file that says why a server could not be: nobody tries again
LENGTH = struct.Struct("!I")  # of a request, in front of it
# an answer is a line: first the worker's process, at last its exit status
WAIT = "read -r status; exit ${status:-1}  # forkserver.client of worker "
PATIENCE = 30.0  # seconds for the server to load what workers need; Ray gives up on a worker after 60
OLD = 60.0  # seconds after which a folder without a server is no longer about to have one
SERVE = "from sweeps.execution.forkserver.server import main; main()"


def main() -> None:
    """Arguments: the sweep's token, then the worker's script and its arguments."""
    token, *worker = sys.argv[1:]
    try:
        connection = connected(folder_of(place_in(worker), token))
        process = asked(connection, worker)
    except (OSError, ValueError):
        os.execv(sys.executable, [sys.executable, *worker])
    os.dup2(connection.fileno(), 0)
    os.execv("/bin/sh", ["sh", "-c", f"{WAIT}{process}"])


def place_in(worker: Sequence[str]) -> Path:
    """Ray's folder for temporary files on this node. Raises ValueError if the worker's arguments name none."""
    place = next((word.partition("=")[2] for word in worker if word.startswith("--temp-dir=")), "")
    if not place:
        raise ValueError("no --temp-dir")
    return Path(place)


def folder_of(place: Path, token: str) -> Path:
    """The folder of a sweep's fork server, made if need be. Raises OSError if somebody else could write there."""
    shared = place / f"forks-{os.geteuid()}"
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = shared.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{shared} must be a folder of this user alone")
    folder = shared / token
    folder.mkdir(exist_ok=True)
    return folder


def connected(folder: Path) -> socket.socket:
    """A connection to the server, which is started if there is none. Raises OSError."""
    with contextlib.suppress(OSError):
        return connect(folder)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):  # another client was faster
            return connect(folder)
        if (folder / REFUSED).exists():
            raise ConnectionRefusedError("a server could not be")
        start(folder)
        return connect(folder)


def connect(folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(folder / SOCKET))
        if not is_own(connection):
            raise PermissionError(f"{folder / SOCKET} is another user's")
    except OSError:
        connection.close()
        raise
    return connection


def is_own(connection: socket.socket) -> bool:
    """Whether this user's process is at the other end. It is sent the environment, or runs what it is sent."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(user == os.geteuid())


def start(folder: Path) -> None:
    """Starts a server. It is given a socket that listens already, so that nobody has to wait before connecting."""
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    tidy(folder.parent)
    with socket.socket(socket.AF_UNIX) as listener, (folder / "log").open("w") as log:
        listener.bind(str(path))
        listener.listen(4096)
        subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE, str(listener.fileno()), str(folder)],
            pass_fds=[listener.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def tidy(shared: Path) -> None:
    """Deletes what servers that were killed have left."""
    for folder in shared.iterdir():
        with contextlib.suppress(OSError):
            if time.time() > folder.stat().st_mtime + OLD and not serves(folder):
                shutil.rmtree(folder, ignore_errors=True)


def serves(folder: Path) -> bool:
    try:
        connect(folder).close()
    except OSError:
        return False
    return True


def asked(connection: socket.socket, worker: Sequence[str]) -> int:
    """The process that the server has forked to be this worker. Raises OSError if it has not."""
    request = {
        "command": list(worker),
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text(),  # Ray raises that of its workers
    }
    data = json.dumps(request).encode()
    connection.settimeout(PATIENCE)
    socket.send_fds(connection, [LENGTH.pack(len(data))], [0, 1, 2])
    connection.sendall(data)
    answer = connection.recv(32)
    if not answer.strip().isdigit():
        connection.close()
        raise ConnectionAbortedError("nothing was forked")
    connection.settimeout(None)
    return int(answer)
