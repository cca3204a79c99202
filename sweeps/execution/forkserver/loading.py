"""What the fork server loads before it forks, and whether the process may be forked after that.

A process with an open GPU cannot be forked, and one with other threads of Python should not be. Loading opens none and
starts none; should an import of some package do so, the server ends, and workers start afresh. (Threads of OpenBLAS and
of pyarrow's allocator are there; both libraries see to a fork themselves.)
"""

import contextlib
import gc
import importlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

AT_ONCE = (
    *("pandas", "pyarrow.dataset", "pyarrow.fs", "pyarrow.parquet", "fsspec"),  # what Ray Train loads, see below
    "torch._dynamo",  # an optimizer loads it
    *("mergenet.training.run", "mergenet.transfer.source", "sweeps.execution.worker"),
    "torchvision.models",  # networks of it load it; after mergenet.models, which helps the import
)
# Ray reads its environment when it is imported, and a driver has all of it only once Ray is up: with the first worker.
# Ray Train is left to the workers: a class for actors draws an ID when it is made, and forked processes that go on with
# the same random numbers give the same ID to different tasks.
WITH_ENVIRONMENT = ("ray._private.node", "sweeps.execution.relay")
GPUS = ("/dev/nvidia", "/dev/kfd", "/dev/dri")


class CannotFork(Exception):
    """What has been loaded is not to be forked; or it could not be loaded."""


def load(modules: Sequence[str]) -> set[str]:
    """Imports the modules; returns which environment variables that has set.

    Raises CannotFork if this process is not to be forked afterwards.
    """
    before = set(os.environ)
    try:
        for name in modules:
            importlib.import_module(name)
    except Exception as error:
        raise CannotFork(f"{type(error).__name__}: {error}") from error
    if others := [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]:
        raise CannotFork(f"an import has started threads: {', '.join(others)}")
    if gpus := [name for name in open_files() if name.startswith(GPUS)]:
        raise CannotFork(f"an import has opened {gpus[0]}")
    gc.freeze()
    return os.environ.keys() - before


def check_draws() -> None:
    """Raises CannotFork if two forked processes would draw the same IDs."""
    from ray import WorkerID

    drawn = set[bytes]()
    for _ in range(2):
        reader, writer = os.pipe()
        if (process := os.fork()) == 0:
            try:
                os.write(writer, WorkerID.from_random().binary())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            drawn.add(file.read())
        os.waitpid(process, 0)
    if len(drawn) < 2:
        raise CannotFork("an import has drawn random numbers of Ray's")


def open_files() -> list[str]:
    found = list[str]()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the folder itself
            found.append(str(link.readlink()))
    return found
