"""Whatever is killed at whatever moment, a resumed sweep ends with the table of one that nobody disturbed.

The trials are real trainings on digits, drawn at random, none stopped early, so that nothing depends on timing. A kill
is SIGKILL to a process of the sweep chosen at random: the driver with all that hangs on it, a training worker, the
process that builds a slot, or the mailbox. After the death of the driver the next one resumes; everything else the
running driver must survive, or end with a line that says how to go on.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest

from mergenet.record import read_run
from sweeps.config import dump_sweep
from tests.integration.test_sweep import COMMAND, MARK
from tests.sweeps.base import sweep_config, write_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

KILLS = int(os.environ.get("MERGENET_CHAOS_KILLS", "30"))
SEED = int(os.environ.get("MERGENET_CHAOS_SEED", "0"))
SEARCH = {
    "target.optimizer.lr": {"float": [0.01, 0.1], "log": True},
    "transfer.adapter.rank": {"int": [2, 12]},
}
VICTIMS = {
    "driver": b"from sweeps.cli import sweep",
    "worker": b"RayTrainWorker",
    "controller": b"TrainController",
    "mailbox": b"Mailbox",
}


def sweep_file(folder: Path, num_trials: int, epochs: int) -> Path:
    folder.mkdir()
    write_base(folder)
    sweep = sweep_config(
        SEARCH,
        num_trials=num_trials,
        confirm_seeds=2,
        sampler="random",
        scheduler="none",
        set={"epochs": epochs},
    )
    (folder / "tiny.yaml").write_text(dump_sweep(sweep))
    return folder


def start(folder: Path, mark: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {MARK: mark, "PYTHONPATH": path}
    out = (folder / "out.txt").open("a")
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], cwd=folder, env=environment, stdout=out, stderr=out, text=True
    )


def processes(mark: str) -> dict[int, bytes]:
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes()
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def kill(mark: str, kind: str, rng: random.Random) -> bool:
    """SIGKILL to one process of that kind; with the driver all of its Ray, as when a machine goes down."""
    alive = {pid: line for pid, line in processes(mark).items() if VICTIMS[kind] in line.replace(b"\0", b" ")}
    if not alive:
        return False
    victims = processes(mark) if kind == "driver" else [rng.choice(sorted(alive))]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return True


def table(folder: Path) -> list[dict[str, Any]]:
    """What must not depend on disturbances: all trials and confirmations with their values, the best, the gain."""
    summary = json.loads((folder / "summary.json").read_text())
    trials = [{k: t[k] for k in ("trial_id", "params", "epochs", "value", "state")} for t in summary["trials"]]
    return [*trials, summary["baseline"], summary["best"], summary["confirmation"]]


def check_whole(folder: Path, num_trials: int, epochs: int) -> None:
    """No trial is lost, duplicated or told twice; no epoch is recorded twice."""
    runs = sorted((folder / "trials").iterdir())
    assert len(runs) == num_trials + 1 + 4
    for run in runs:
        record = read_run(run)
        assert record.result["status"] == "finished"
        assert [row["epoch"] for row in record.epochs] == list(range(1, epochs + 1))
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'study.db'}")
    told = [t for t in study.trials if "index" in t.user_attrs]
    assert sorted(t.user_attrs["index"] for t in told) == list(range(num_trials))
    assert {t.state for t in told} == {optuna.trial.TrialState.COMPLETE}
    for trial in told:
        record = read_run(folder / "trials" / trial.user_attrs["trial_id"])
        assert trial.value == max(row["target_val_top1"] for row in record.epochs)


def disturb(folder: Path, kills: int, rng: random.Random) -> Counter[str]:
    """Runs the sweep to its end with that many kills in between; what was killed how often."""
    sweep, killed, mark = folder / "sweep-results/tiny", Counter[str](), uuid.uuid4().hex
    driver = start(folder, mark, "run", "tiny.yaml")
    while driver.poll() is None or killed.total() < kills:
        if driver.poll() is not None:  # it was killed, or gave up with a line
            for pid in processes(mark):  # what a dead driver leaves goes with its machine
                os.kill(pid, signal.SIGKILL)
            if (sweep / "summary.json").exists() and "finished" in (sweep / "sweep.json").read_text():
                break
            again = ("resume", "sweep-results/tiny") if (sweep / "sweep.json").exists() else ("run", "tiny.yaml")
            driver = start(folder, mark, *again)
        time.sleep(rng.uniform(0.5, 14))
        if killed.total() < kills and driver.poll() is None:
            kind = rng.choice(["driver", "driver", "worker", "worker", "controller", "mailbox"])
            killed[kind] += kill(mark, kind, rng)
    while driver.wait() != 0:
        driver = start(folder, mark, "resume", "sweep-results/tiny")
    return killed


def test_a_disturbed_sweep_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    num_trials, epochs = 16, 12
    calm, wild = sweep_file(tmp_path / "calm", num_trials, epochs), sweep_file(tmp_path / "wild", num_trials, epochs)
    assert start(calm, uuid.uuid4().hex, "run", "tiny.yaml").wait() == 0, (calm / "out.txt").read_text()
    killed = disturb(wild, KILLS, random.Random(SEED))
    print(dict(killed))
    assert killed.total() >= KILLS, f"the sweep ended before it was disturbed enough: {killed}"
    check_whole(wild / "sweep-results/tiny", num_trials, epochs)
    assert table(wild / "sweep-results/tiny") == table(calm / "sweep-results/tiny")
    traces = [line for line in (wild / "out.txt").read_text().splitlines() if line.startswith("Traceback")]
    assert not traces
