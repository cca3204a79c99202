"""In the driver: whether Ray's workers are forked, and what Ray is told.

Ray starts a worker by a command line, which a runtime environment may change (`py_executable`); ours is the client's.
"""

import contextlib
import json
import os
import secrets
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mergenet.errors import ConfigError
from sweeps.execution.forkserver.client import DRIVER, connected, folder_of

START_METHOD = "MERGENET_START_METHOD"
METHODS = ("forkserver", "spawn")  # the names of multiprocessing
# a node without our packages starts the worker, which then says what is missing
CLIENT = """
import os, sys
try:
    from sweeps.execution.forkserver.client import main
except ImportError:
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
main()
"""
# in bash: the Python by which the raylet that asks, its parent, starts its workers
THEIRS = (
    r""""$({ tr '\0' '\n' < /proc/$PPID/cmdline | sed -n -e 's/^--python_worker_command="\([^"]*\)" .*/\1/p' """
    r'''-e 's/^--python_worker_command=\([^" ]*\) .*/\1/p'; echo python3; } | head -n 1)"'''
)


class Token:
    """Names the folder of a driver's server; another one as soon as nobody is inside `fork_server`.

    A server is for the workers of one raylet, whose process they watch: those of an earlier Ray's server would end with
    that.
    """

    def __init__(self) -> None:
        self.name, self.users, self.lock = self.new(), 0, threading.Lock()

    def new(self) -> str:
        return f"{os.getpid()}-{secrets.token_hex(4)}"

    @contextmanager
    def used(self) -> Iterator[str]:
        with self.lock:
            if not self.users:
                self.name = self.new()
            self.users += 1
        try:
            yield self.name
        finally:
            with self.lock:
                self.users -= 1


TOKEN = Token()


def forks() -> bool:
    """Whether workers are forked. Raises ConfigError for a start method that is none."""
    method = os.environ.get(START_METHOD, METHODS[0])
    if method not in METHODS:
        raise ConfigError(f"{START_METHOD} must be {' or '.join(METHODS)}, got {method[:60]!r}; unset it for the first")
    return method == "forkserver" and sys.platform == "linux" and not job_environment()


def job_environment() -> dict[str, Any]:
    """The runtime environment of the job that this driver was submitted as: it may bring another Python."""
    with contextlib.suppress(ValueError, AttributeError):
        return dict(json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env") or {})
    return {}


def runtime_env(here: bool) -> dict[str, Any]:
    """The part of Ray's runtime environment by which workers are forked.

    here: by this machine's only raylet, inside `fork_server`; otherwise by each of a cluster's, with its own server.
    """
    if not forks():
        return {}
    python, token = (shlex.quote(sys.executable), TOKEN.name) if here else (THEIRS, f"{TOKEN.name}-$PPID")
    return {"py_executable": f"{python} -P -c {shlex.quote(CLIENT)} {token}"}


@contextmanager
def fork_server() -> Iterator[None]:
    """Inside, this machine has a server, which loads beside what is done here.

    Without one, for whatever reason, the first worker starts it. Where this process has a Ray already, that starts its
    workers as it was told.
    """
    ray = sys.modules.get("ray")
    with contextlib.ExitStack() as exits:
        if forks() and not (ray is not None and ray.is_initialized()):
            token = exits.enter_context(TOKEN.used())
            with contextlib.suppress(OSError):
                exits.enter_context(connected(folder_of(token))).sendall(DRIVER)
        yield
