"""In the driver: whether Ray's workers are forked, and what Ray is told.

Ray starts a worker by a command line, which a runtime environment may change (`py_executable`); ours is the client's.
"""

import contextlib
import json
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mergenet.errors import ConfigError
from sweeps.execution.forkserver.client import DRIVER, connected, folder_of

START_METHOD = "MERGENET_START_METHOD"
METHODS = ("forkserver", "spawn")  # the names of multiprocessing
TOKEN = f"{os.getpid()}-{secrets.token_hex(4)}"  # names the folder of this driver's servers on each node
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
    """The part of Ray's runtime environment by which workers are forked. here: on this machine only."""
    if not forks():
        return {}
    python = shlex.quote(sys.executable) if here else THEIRS
    return {"py_executable": f"{python} -P -c {shlex.quote(CLIENT)} {TOKEN}"}


@contextmanager
def fork_server() -> Iterator[None]:
    """Inside, this machine has a server, which loads beside what is done here.

    Without one, for whatever reason, the first worker starts it. Where this process has a Ray already, that starts its
    workers as it was told.
    """
    ray = sys.modules.get("ray")
    with contextlib.ExitStack() as exits:
        if forks() and not (ray is not None and ray.is_initialized()):
            with contextlib.suppress(OSError):
                exits.enter_context(connected(folder_of(TOKEN))).sendall(DRIVER)
        yield
