"""The fork server: a process that has loaded Ray, torch and our packages, and forks Ray's workers from that.

A worker that is started afresh loads them for seconds and keeps hundreds of MiB for itself. A forked one is there at
once, and shares the memory until it writes to it. multiprocessing's own fork server runs functions; Ray starts scripts,
with an environment and files of their own.

It ends with the driver that is connected as long as its sweep runs; where none is, on the other nodes of a cluster,
once no client, which is as long as its worker, has been connected for a while.
"""

import contextlib
import gc
import json
import os
import random
import re
import resource
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweeps.execution.forkserver.client import DRIVER, LENGTH, REFUSED, is_own, locked
from sweeps.execution.forkserver.loading import AT_ONCE, WITH_ENVIRONMENT, CannotFork, check_draws, load

IDLE = 5.0  # seconds without a connection after which the server ends
TICK = 0.2  # seconds between two looks for workers that have ended
READ_WHEN_LOADED = "RAY_([a-z]|AUTH_|ENABLE_|REDIS_|TLS_|USE_TLS|RAYLET_PID)"
FIXED = ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD")  # read when a process starts, so a forked one has the server's


@dataclass(frozen=True)
class Worker:
    """What a process that has been forked is to become. files: its standard input, output and errors."""

    command: list[str]
    environment: dict[str, str]
    folder: str
    oom_score_adj: str
    open_files: tuple[int, int]
    files: list[int]


def main() -> None:
    """Arguments: the number of a socket that listens, and the folder to tidy at the end."""
    listener, folder = socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2])
    with contextlib.suppress(OSError, ValueError):  # each client is a file
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536) if most > 0 else 65536, most))
    try:
        gc.disable()  # in a worker it would write to every object, and so copy its memory
        worker = ForkServer(listener, folder, load(AT_ONCE)).serve()
    except CannotFork as error:
        (folder / REFUSED).write_text(f"{error}\n")
        raise
    if worker is not None:
        become(worker)


class Go:
    """What a forked process waits for before it becomes a worker: that the client has been told of it.

    Otherwise, if the server were killed in between, the client would start the same worker once more.
    """

    def __init__(self) -> None:
        self.ends: tuple[int, ...] = ()

    def open(self) -> None:
        self.ends = os.pipe()

    def wait(self) -> None:
        """In the forked process."""
        reader, writer = self.ends
        os.close(writer)
        if not os.read(reader, 1):  # the server has been killed
            os._exit(1)
        os.close(reader)

    def give(self) -> None:
        if self.ends:
            reader, writer = self.ends
            os.close(reader)
            with contextlib.suppress(OSError):  # the process has been killed
                os.write(writer, b".")
            os.close(writer)


class ForkServer:
    """Forks a worker for each request, and tells whoever asked of its end. added: variables that imports have set."""

    def __init__(self, listener: socket.socket, folder: Path, added: set[str]) -> None:
        self.listener, self.folder, self.added = listener, folder, added
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.workers: dict[int, socket.socket | None] = {}  # by process its client; None once that has gone
        self.fixed = {name: os.environ.get(name) for name in FIXED}
        self.settings: dict[str, str] | None = None  # of Ray, once it is loaded: it reads them then
        self.drivers = set[socket.socket]()
        self.left = False  # whether a driver has been here and none is

    def serve(self) -> Worker | None:
        """Until nobody needs it any more: None. In each process that it forks: the worker to become."""
        idle_since = time.monotonic()
        while True:
            if (worker := self.look(TICK if self.workers else IDLE / 5)) is not None:
                return worker
            self.reap()
            if self.clients():
                idle_since = time.monotonic()
            elif self.left or time.monotonic() > idle_since + IDLE:
                with contextlib.suppress(OSError), locked(self.folder):
                    if (worker := self.look(0)) is None and not self.clients():  # nobody has come meanwhile
                        self.listener.close()
                        shutil.rmtree(self.folder, ignore_errors=True)
                        return None
                if worker is not None or not self.folder.exists():
                    return worker

    def look(self, seconds: float) -> Worker | None:
        """Answers whoever has written."""
        for key, _ in self.selector.select(seconds):
            if (worker := self.answer(key.fileobj)) is not None:
                return worker
        return None

    def clients(self) -> list[socket.socket]:
        found = [key.fileobj for key in self.selector.get_map().values() if key.fileobj is not self.listener]
        return [one for one in found if isinstance(one, socket.socket)]

    def answer(self, readable: Any) -> Worker | None:
        """A new client, a request, or the end of a client, which takes its worker with it."""
        if readable is self.listener:
            self.accept()
            return None
        try:
            if readable.recv(1, socket.MSG_PEEK) == DRIVER:
                self.drivers.add(readable)
                readable.recv(1)
                return None
            worker = asked(readable)
        except (OSError, ValueError, TypeError):
            worker = None
        if worker is not None:
            return self.fork(readable, worker)
        self.drop(readable)
        return None

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # too many files are open: the client waits, or starts its worker itself
            connection, _ = self.listener.accept()
            if is_own(connection):
                self.selector.register(connection, selectors.EVENT_READ)
            else:
                connection.close()

    def fork(self, client: socket.socket, worker: Worker) -> Worker | None:
        if self.settings is None:
            os.environ.update(worker.environment)
            self.added |= load(WITH_ENVIRONMENT)
            check_draws()
            self.settings = settings_of_ray(worker.environment)
        process, go = -1, Go()
        if self.suits(worker.environment) and waits(client):
            sys.stdout.flush()
            sys.stderr.flush()
            with contextlib.suppress(OSError):  # no more processes, files, or memory for one
                go.open()
                process = os.fork()
        if process == 0:
            go.wait()
            for one in (self.listener, *self.clients()):
                one.close()
            self.selector.close()
            return replace(worker, environment={name: os.environ[name] for name in self.added} | worker.environment)
        for file in worker.files:
            os.close(file)
        if process > 0:
            self.workers[process] = client
        self.tell(client, process if process > 0 else "no")
        go.give()
        return None

    def suits(self, environment: dict[str, str]) -> bool:
        """Whether a process that is forked here is as one that starts with this environment."""
        fixed = {name: environment.get(name) for name in FIXED}
        return fixed == self.fixed and settings_of_ray(environment) == self.settings

    def reap(self) -> None:
        """Tells the clients of workers that have ended."""
        while self.workers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            client = self.workers.pop(process, None)
            if client is not None:
                self.tell(client, os.waitstatus_to_exitcode(status) & 0xFF)
                self.drop(client)

    def tell(self, client: socket.socket, answer: object) -> None:
        with contextlib.suppress(OSError):  # it has gone, which is seen at the next look
            client.sendall(f"{answer}\n".encode())

    def drop(self, client: socket.socket) -> None:
        if client in self.drivers:
            self.drivers.discard(client)
            self.left = not self.drivers
        self.selector.unregister(client)
        client.close()
        for process in [process for process, of in self.workers.items() if of is client]:
            self.workers[process] = None
            os.kill(process, signal.SIGKILL)  # not reaped yet, so it is there


def settings_of_ray(environment: dict[str, str]) -> dict[str, str]:
    """The variables that Ray's core reads when it is loaded.

    Its configuration, in small letters, its token, TLS, and the process of the raylet, with which a worker ends.
    """
    return {name: value for name, value in environment.items() if re.match(READ_WHEN_LOADED, name)}


def asked(connection: socket.socket) -> Worker | None:
    """The worker that a client asks for; None once it has closed. Raises OSError, ValueError."""
    connection.settimeout(10)
    head, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    with contextlib.ExitStack() as exits:
        for file in files:
            exits.callback(os.close, file)
        data = b"" if len(head) < LENGTH.size else received(connection, *LENGTH.unpack(head))
        if not data:
            return None
        worker = Worker(**json.loads(data), files=files)
        exits.pop_all()
    connection.settimeout(None)
    return worker


def received(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (more := connection.recv(length - len(data))):
        data += more
    return bytes(data)


def waits(connection: socket.socket) -> bool:
    """Whether the client is still there: one that has lost patience has started its worker itself."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    finally:
        connection.setblocking(True)


def become(worker: Worker) -> None:
    """In a process that has just been forked: runs the worker's script as a fresh process would.

    It stays in the session of Ray's own processes. Linux gives each session an equal part of the CPUs, and niceness,
    which Ray gives its workers, counts inside one only (man 7 sched, autogroup).
    """
    os.setpgid(0, 0)
    for number, file in enumerate(worker.files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(worker.environment)
    os.chdir(worker.folder)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(worker.oom_score_adj)
    with contextlib.suppress(OSError, ValueError):
        soft, hard = worker.open_files
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    script = worker.command[0]
    sys.argv[:] = worker.command
    sys.path.insert(0, str(Path(script).parent))
    tempfile.tempdir = None  # which an import has looked up
    reseed()
    gc.enable()
    runpy.run_path(script, run_name="__main__")


def reseed() -> None:
    """Forked processes would draw the same numbers; Python's own generator is seeded anew by itself."""
    import numpy as np

    np.random.seed(random.SystemRandom().getrandbits(32))  # noqa: NPY002 (the one that is shared)
