"""A sweep whose terminal closes pauses; one whose Ray is killed ends with a line; and both go on to the end."""

import contextlib
import os
import pty
import random
import select
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.victims import again, check_whole, kill, start, status, sweep_file
from tests.sweeps.sweep_command import COMMAND, sweep_environment

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3000)]

EPOCHS, TRIALS = 40, 2


def trained(sweep: Path) -> int:
    """Epochs of all runs together."""
    return sum(len(path.read_text().splitlines()) for path in sweep.glob("trials/*/epochs.jsonl"))


def close_its_terminal(folder: Path, sweep: Path) -> None:
    """Starts the sweep in a terminal, which closes once it trains; waits for its end."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-c", COMMAND, "run", "tiny.yaml"], sweep_environment())
    while trained(sweep) < 3:
        if select.select([terminal], [], [], 1)[0]:
            with contextlib.suppress(OSError):
                os.read(terminal, 2**16)
    os.close(terminal)
    os.waitpid(pid, 0)


def test_however_a_sweep_ends_it_goes_on(tmp_path: Path) -> None:
    folder = sweep_file(tmp_path / "place", TRIALS, EPOCHS, 1)
    sweep = folder / "sweep-results/tiny"
    close_its_terminal(folder, sweep)
    assert status(sweep) == "stopped"
    for kind in ("raylet", "gcs"):
        before = trained(sweep)
        driver = start(folder, *again(sweep))
        while trained(sweep) < before + 3:
            assert driver.poll() is None
            time.sleep(0.2)
        assert kill(driver.pid, kind, random.Random(0))
        assert driver.wait(200) not in (0, None)
        last = (folder / "out.txt").read_text().splitlines()[-1]
        assert last.startswith("error: the sweep's driver was killed, or processes of Ray that it needs were")
        assert last.endswith("`mergenet sweep resume sweep-results/tiny` goes on from there")
    assert start(folder, *again(sweep)).wait() == 0
    check_whole(sweep, TRIALS, EPOCHS, 1)
