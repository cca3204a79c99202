"""A process beside the driver that prints a line if the driver dies without one.

Not every death is an exception: the system ends a process when memory runs out, and Ray ends a driver from within,
without unwinding it, when its own processes are gone. The watchdog holds one end of a pipe and outlives Ctrl-C, so the
last line on the terminal says what happened and how to go on.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# reads until the driver is gone; prints its line unless the last message says that all ended well
PROGRAM = """
import os, sys
told = sys.stdin.buffer.read()
if not told.endswith(b"ended"):
    os.write(2, (sys.argv[1] + "\\n").encode())
"""


@contextmanager
def watched(line: str) -> Iterator[None]:
    """Inside, the line goes to standard error if this process dies other than by an exception."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PROGRAM, line],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(OSError):  # it was killed, too
            process.communicate(b"ended")
