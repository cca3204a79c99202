"""Whatever is killed at whatever moment, a resumed sweep ends with the table of one that nobody disturbed.

The trials are real trainings on digits, drawn at random, none stopped early, so that nothing depends on timing. A kill
is SIGKILL to a process of the sweep chosen at random: the driver with all that hangs on it, a training worker, the
process that builds a slot, or the queue. After the death of the driver the next one resumes; everything else the
running driver must survive, or end with a line that says how to go on. After the death of all that belonged to it,
the folder is moved.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest

from mergenet.records.run_record import read_run
from sweeps.config.loading import dump_sweep
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import COMMAND

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3000)]

KILLS = int(os.environ.get("MERGENET_CHAOS_KILLS", "30"))
SEED = int(os.environ.get("MERGENET_CHAOS_SEED", "0"))
SEARCH = {
    "target.optimizer.lr": {"float": [0.01, 0.1], "log": True},
    "transfer.adapter.rank": {"int": [2, 12]},
}
VICTIMS = {"worker": "ray::RayTrainWorker", "controller": "ray::TrainController", "queue": "ray::JobQueue"}


def sweep_file(folder: Path, num_trials: int, epochs: int, seeds: int) -> Path:
    folder.mkdir()
    write_base(folder)
    sweep = sweep_config(
        SEARCH,
        num_trials=num_trials,
        seeds_per_trial=seeds,
        confirm_seeds=2,
        sampler="random",
        scheduler="none",
        set={"epochs": epochs},
    )
    (folder / "tiny.yaml").write_text(dump_sweep(sweep))
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    out = (folder / "out.txt").open("a")
    command = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, stdout=out, stderr=out, text=True
    )


def family(driver: int) -> dict[int, str]:
    """The driver and all that descend from it: process number -> command line."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    found = {driver}
    while len(more := found | {int(pid) for pid, parent, *_ in rows if int(parent) in found}) > len(found):
        found = more
    return {int(row[0]): row[2] if len(row) > 2 else "" for row in rows if int(row[0]) in found}


def kill(driver: int, kind: str, rng: random.Random) -> bool:
    """SIGKILL to one process of that kind; with the driver all of its Ray, as when a machine goes down."""
    alive = family(driver)
    of_kind = [driver] if kind == "driver" else sorted(pid for pid, line in alive.items() if VICTIMS[kind] in line)
    if not of_kind:
        return False
    for pid in alive if kind == "driver" else [rng.choice(of_kind)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return True


def table(folder: Path) -> list[dict[str, Any]]:
    """What must not depend on disturbances: all trials and confirmations with their values, the best, the gain."""
    summary = json.loads((folder / "summary.json").read_text())
    trials = [{k: t[k] for k in ("trial_id", "params", "epochs", "value", "state")} for t in summary["trials"]]
    return [*trials, summary["baseline"], summary["best"], summary["confirmation"]]


def check_whole(folder: Path, num_trials: int, epochs: int, seeds: int) -> None:
    """No trial is lost, duplicated or told twice; no epoch is recorded twice."""
    runs = sorted((folder / "trials").iterdir())
    assert len(runs) == (num_trials + 1) * seeds + 4
    for run in runs:
        record = read_run(run)
        assert record.result["status"] == "finished"
        assert [row["epoch"] for row in record.epochs] == list(range(1, epochs + 1))
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'study.db'}")
    told = [t for t in study.trials if "index" in t.user_attrs]
    assert sorted(t.user_attrs["index"] for t in told) == list(range(num_trials))
    assert {t.state for t in told} == {optuna.trial.TrialState.COMPLETE}
    for trial in told:
        name = trial.user_attrs["trial_id"]
        names = [name, *(f"{name}-seed-{place}" for place in range(2, seeds + 1))]
        records = [read_run(folder / "trials" / name) for name in names]
        assert trial.value == fmean(max(row["target_val_top1"] for row in record.epochs) for record in records)


def disturb(folder: Path, kills: int, rng: random.Random) -> tuple[Path, Counter[str]]:
    """Runs the sweep to its end with that many kills in between; where it ended, and what was killed how often."""
    sweep, killed = folder / "sweep-results/tiny", Counter[str]()
    driver = start(folder, "run", "tiny.yaml")
    while driver.poll() is None or killed.total() < kills:
        if driver.poll() is not None:  # it was killed, or gave up with a line that says how to go on
            if status(sweep) == "finished":
                break
            if driver.returncode == -signal.SIGKILL and sweep.exists():
                sweep = sweep.rename(folder / f"moved-{killed.total()}")
            driver = start(folder, *again(sweep))
        time.sleep(rng.uniform(0.5, 14))
        if killed.total() < kills and driver.poll() is None:
            kind = rng.choice(["driver", "worker", "worker", "controller", "queue"])
            killed[kind] += kill(driver.pid, kind, rng)
    while driver.wait() != 0:
        driver = start(folder, *again(sweep))
    return sweep, killed


def status(sweep: Path) -> str:
    path = sweep / "sweep.json"
    return str(json.loads(path.read_text())["status"]) if path.exists() else "not begun"


def again(sweep: Path) -> tuple[str, ...]:
    return ("resume", str(sweep)) if (sweep / "sweep.json").exists() else ("run", "tiny.yaml", "--dir", str(sweep))


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
