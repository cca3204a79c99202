"""What Ray starts in place of a worker: it has the fork server of its node fork the worker, and waits for its end.

It lives as long as the worker, and if it is killed so is the worker, so that Ray sees what it would see of a worker
that it has started itself. It waits as a shell, which takes less than a MiB. Whatever goes wrong before the worker has
been forked, the worker is started as ever.

The server of a node is started by the first client that finds none. Its folder is for this user alone, because whoever
may write to its socket has it run code; /tmp, because nobody can rename there what belongs to others, as they can in
Ray's own folder.
"""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

PLACE = Path("/tmp")
SOCKET = "socket"
REFUSED = "refused"  # a file that says why a server could not be: nobody tries again
DRIVER = b"D"  # what a driver says, which asks for no worker and stays connected
LENGTH = struct.Struct("!I")  # of a request, in front of it; its first byte is 0
# an answer is a line: first the worker's process, at last its exit status
WAIT = "read -r status; exit ${status:-1}  # forkserver.client of worker "
PATIENCE = 30.0  # seconds for the server to load what workers need; Ray gives up on a worker after 60
OLD = 60.0  # seconds after which a folder without a server is no longer about to have one
SERVE = "from sweeps.execution.forkserver.server import main; main()"


def main() -> None:
    """Arguments: the sweep's token, then the worker's script and its arguments."""
    token, *worker = sys.argv[1:]
    try:
        connection = connected(folder_of(token))
        process = asked(connection, worker)
    except (OSError, ValueError) as error:
        print(f"mergenet: a worker starts afresh, without the fork server: {error}", file=sys.stderr, flush=True)
        os.execv(sys.executable, [sys.executable, *worker])
    os.dup2(connection.fileno(), 0)
    try:
        os.execv("/bin/sh", ["sh", "-c", f"{WAIT}{process}"])
    except OSError:
        sys.exit(int(connection.recv(32) or b"1"))


def folder_of(token: str) -> Path:
    """The folder of a sweep's fork server, made if need be. Raises OSError if somebody else could write there.

    Another Python, and a container that shares /tmp with others, have one of their own.
    """
    place = f"{sys.executable} {sys.prefix} {socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    shared = PLACE / f"mergenet-forks-{os.geteuid()}-{zlib.crc32(place.encode()):08x}"
    shared.mkdir(mode=0o700, exist_ok=True)
    found = shared.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{shared} must be a folder of this user alone")
    folder = shared / token
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(folder: Path, flags: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Inside, nobody else starts or ends a server there. Raises OSError."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, flags)
        yield


def connected(folder: Path) -> socket.socket:
    """A connection to the server, which is started if there is none. Raises OSError."""
    with contextlib.suppress(OSError):
        return connect(folder)
    with locked(folder):
        with contextlib.suppress(OSError):  # another client was faster
            return connect(folder)
        if (folder / REFUSED).exists():
            raise ConnectionRefusedError((folder / REFUSED).read_text().strip())
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
    """Starts a server. It is given a socket that listens already, so that nobody has to wait before connecting.

    A worker of Ray's has a thread for each of its CPUs, which is one, where the user's environment says nothing else;
    libraries read that when they are loaded.
    """
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    tidy(folder.parent)
    with socket.socket(socket.AF_UNIX) as listener, (folder / "log").open("w") as log:
        listener.bind(str(path))
        listener.listen(4096)
        subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE, str(listener.fileno()), str(folder)],
            env={"OMP_NUM_THREADS": "1", **os.environ},
            pass_fds=[listener.fileno()],
            process_group=0,  # in the session of Ray's own processes, as its workers
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def tidy(shared: Path) -> None:
    """Deletes what servers that were killed have left."""
    for folder in shared.iterdir():
        with contextlib.suppress(OSError):
            if time.time() > folder.stat().st_mtime + OLD:
                with locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    if not serves(folder):
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
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),  # and the limit of its own processes
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
