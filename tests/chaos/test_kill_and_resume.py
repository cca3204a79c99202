"""Whatever is killed at whatever moment, a resumed sweep ends with the table of one that nobody disturbed.

The trials are real trainings on digits, drawn at random, none stopped early, so that nothing depends on timing. A kill
is SIGKILL to a process of the sweep chosen at random: the driver with all that hangs on it, a training worker, the
process that builds a slot, the queue, the fork server, a client of it, or one of Ray. After the death of the driver,
which dies with its Ray, the next one resumes; everything else the running driver must survive, or end with a line that
says how to go on. After the death of all that belonged to it, the folder is moved.
"""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mergenet.records.sealed import read_record
from tests.chaos.victims import VICTIMS, again, check_whole, kill, start, status, sweep_file

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3000)]

KILLS = int(os.environ.get("MERGENET_CHAOS_KILLS", "30"))
SEED = int(os.environ.get("MERGENET_CHAOS_SEED", "0"))


def table(folder: Path) -> list[dict[str, Any]]:
    """What must not depend on disturbances: all trials and confirmations with their values, the best, the gain."""
    summary = read_record(folder / "summary.json")
    trials = [{k: t[k] for k in ("trial_id", "params", "epochs", "value", "state")} for t in summary["trials"]]
    return [*trials, summary["baseline"], summary["best"], summary["confirmation"]]


def disturb(folder: Path, kills: int, rng: random.Random) -> tuple[Path, Counter[str]]:
    """Runs the sweep to its end with that many kills in between; where it ended, and what was killed how often."""
    sweep, killed = folder / "sweep-results/tiny", Counter[str]()
    driver = start(folder, "run", "tiny.yaml")
    while driver.poll() is None or killed.total() < kills:
        if driver.poll() is not None:  # it was killed, or gave up with a line that says how to go on
            if status(sweep) == "finished":
                break
            if driver.returncode != -signal.SIGKILL:
                last = (folder / "out.txt").read_text().splitlines()[-1]
                assert last.startswith("error: ") and last.endswith("goes on from there"), last
            elif sweep.exists():
                sweep = sweep.rename(folder / f"moved-{killed.total()}")
            driver = start(folder, *again(sweep))
        time.sleep(rng.uniform(0.5, 14))
        if killed.total() < kills and driver.poll() is None:
            kind = rng.choice(["driver", "worker", *VICTIMS])
            killed[kind] += kill(driver.pid, kind, rng)
    while driver.wait() != 0:
        driver = start(folder, *again(sweep))
    return sweep, killed


@pytest.mark.parametrize(("num_trials", "seeds"), [(16, 1), (8, 2)])
def test_a_disturbed_sweep_ends_as_an_undisturbed_one(num_trials: int, seeds: int, tmp_path: Path) -> None:
    epochs = 12
    calm, wild = (sweep_file(tmp_path / name, num_trials, epochs, seeds) for name in ("calm", "wild"))
    assert start(calm, "run", "tiny.yaml").wait() == 0, (calm / "out.txt").read_text()
    sweep, killed = disturb(wild, KILLS, random.Random(SEED))
    print(dict(killed))
    assert killed.total() >= KILLS, f"the sweep ended before it was disturbed enough: {killed}"
    check_whole(sweep, num_trials, epochs, seeds)
    assert table(sweep) == table(calm / "sweep-results/tiny")
    traces = [line for line in (wild / "out.txt").read_text().splitlines() if line.startswith("Traceback")]
    assert not traces
