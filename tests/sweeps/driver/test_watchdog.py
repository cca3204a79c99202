"""However a driver ends, its last line says what happened: by an exception its own, else that of the watchdog."""

import signal
import subprocess
import sys

import pytest

DRIVER = """
import os, signal, sys, time
from sweeps.driver.watchdog import watched
try:
    with watched("error: killed; go on"):
        exec(sys.argv[1])
except BaseException as error:
    print(f"error: {type(error).__name__}", file=sys.stderr)
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("ending", "code", "last"),
    [
        ("pass", 0, ""),
        ("raise ValueError", 3, "error: ValueError\n"),
        ("sys.exit(1)", 3, "error: SystemExit\n"),
        ("os._exit(1)", 1, "error: killed; go on\n"),  # as Ray does
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "error: killed; go on\n"),
        ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP, "error: killed; go on\n"),
        ("os.abort()", -signal.SIGABRT, "error: killed; go on\n"),
    ],
)
def test_the_last_line(ending: str, code: int, last: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, ending], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code
    assert done.stderr == last
