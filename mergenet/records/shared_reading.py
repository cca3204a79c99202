"""Reading many run folders in several processes: each takes the next few folders until none is left.

What further processes do not do, because they cannot be started, fail or are killed, the first one does. They tell
their results as JSON; a value that JSON would not give back exactly is read again by the first one.
"""

import contextlib
import gc
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json, to_json

from mergenet.errors import UserError

FORKED, STARTED = 150, 1200  # runs for each process: where it is a copy of this one, or must be started anew
MOST = 8  # processes
BLOCK, MOST_BLOCKS = 16, 2000  # runs that are taken at once; the numbers of all blocks must fit into a pipe

_NUMBER = struct.Struct("=I")

Read = Callable[[Path], Any]


def read_all(runs: Sequence[Path], read: Read) -> list[Any]:
    """For each run what `read` returns, or the UserError that says why not."""
    found: dict[int, Any] = {}
    further, start = _further(len(runs), read)
    with contextlib.ExitStack() as stack:
        if gc.isenabled():  # what is read has no circles, and to look for them again and again takes some percent
            gc.disable()
            stack.callback(gc.enable)
        if further > 0:
            queue = stack.enter_context(_queue(len(runs)))
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(further)]
            waits: list[Callable[[], object]] = []
            with contextlib.suppress(OSError):  # then there are fewer, or none
                waits.extend(stack.enter_context(start(runs, read, queue, file)) for file in files)
            for place in _taken(queue, len(runs)):
                found[place] = attempt(runs[place], read)
            for wait in waits:
                wait()
            for file in files:
                found |= _told(file)
        return [found[place] if place in found else attempt(run, read) for place, run in enumerate(runs)]


def attempt(run: Path, read: Read) -> Any:
    try:
        return read(run)
    except (UserError, OSError) as error:
        return UserError(str(error))


def as_json(value: Any) -> bytes | None:
    """None if it would not give the value back exactly."""
    try:
        text = to_json(value, inf_nan_mode="constants")
        again = from_json(text)
    except ValueError:
        return None
    return text if again == value or repr(again) == repr(value) else None  # the latter where it holds NaN


def _further(count: int, read: Read) -> tuple[int, Any]:
    """How many further processes are worth it, and what starts one."""
    cores = _free_cores()
    if _may_fork():
        return min(cores, MOST, count // FORKED) - 1, _forked
    importable = "<locals>" not in read.__qualname__
    return min(cores, MOST, count // STARTED) - 1 if importable else 0, _started


def _free_cores() -> int:
    """Those that this process may use, less what others keep busy: beside them two processes take longer than one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, AttributeError):  # no load average is known
        cores -= min(int(os.getloadavg()[0]), _others())
    return cores


def _others() -> int:
    """How many other threads run now: the load average still holds what ended within the last minute."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1
    except (OSError, ValueError, IndexError):  # no Linux
        return sys.maxsize


def _may_fork() -> bool:
    """Whether this process has one thread: a copy of one with several may wait for a lock that nobody will open."""
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 (counts names)
    except OSError:
        return False


@contextlib.contextmanager
def _queue(count: int) -> Iterator[int]:
    """A pipe with the numbers of all blocks; whoever reads a number has that block for itself."""
    queue, entry = os.pipe()
    try:
        os.set_blocking(entry, False)  # what does not fit is left to the first process
        os.write(entry, b"".join(map(_NUMBER.pack, range(-(-count // _block(count))))))
        os.close(entry)
        yield queue
    finally:
        os.close(queue)


def _block(count: int) -> int:
    return max(BLOCK, -(-count // MOST_BLOCKS))


def _taken(queue: int, count: int) -> Iterator[int]:
    """The places of the runs that this process has taken, one after the other."""
    while number := os.read(queue, _NUMBER.size):
        begin = _NUMBER.unpack(number)[0] * _block(count)
        yield from range(begin, min(begin + _block(count), count))


def _tell(runs: Sequence[Path], read: Read, queue: int, file: IO[bytes]) -> None:
    """A further process writes a line for each run: its place, and value or error."""
    for place in _taken(queue, len(runs)):
        value = attempt(runs[place], read)
        told = [place, None, str(value)] if isinstance(value, UserError) else [place, value, None]
        if (text := as_json(told)) is not None:
            file.write(text + b"\n")
    file.flush()


def _told(file: IO[bytes]) -> dict[int, Any]:
    """What a further process has written; the last line may be torn."""
    file.seek(0)
    lines = [from_json(line) for line in file if line.endswith(b"\n")]
    return {place: value if error is None else UserError(error) for place, value, error in lines}


@contextlib.contextmanager
def _forked(runs: Sequence[Path], read: Read, queue: int, file: IO[bytes]) -> Iterator[Callable[[], object]]:
    """A copy of this process; the function waits for it."""
    process = os.fork()
    if not process:
        try:
            _tell(runs, read, queue, file)
        finally:
            os._exit(0)  # without what this process does at its end; whether all is done is seen from the file
    ended = False

    def wait() -> None:
        nonlocal ended
        if not ended:
            ended = True
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process, 0)

    try:
        yield wait
    finally:
        if not ended:
            os.kill(process, 9)
        wait()


@contextlib.contextmanager
def _started(runs: Sequence[Path], read: Read, queue: int, file: IO[bytes]) -> Iterator[Callable[[], object]]:
    """A new process, that gets the folders by a file and the reader by its name; the function waits for it."""
    code = f"from {__name__} import help_reading; help_reading()"
    command = [sys.executable, "-P", "-c", code, read.__module__, read.__qualname__, str(queue)]
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    with tempfile.TemporaryFile() as asked:
        asked.write(b"\0".join(map(os.fsencode, runs)))
        asked.seek(0)
        process = subprocess.Popen(
            command,
            stdin=asked,
            stdout=file,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
            pass_fds=[queue],
        )
    try:
        yield process.wait
    finally:
        process.kill()
        process.wait()


def help_reading() -> None:
    """What a new process does."""
    module, name, queue = sys.argv[1:]
    runs = [Path(os.fsdecode(run)) for run in sys.stdin.buffer.read().split(b"\0")]
    _tell(runs, getattr(import_module(module), name), int(queue), sys.stdout.buffer)
