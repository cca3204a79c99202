"""Sweeps that are killed: each a process of its own, of which a part is chosen; and what must be whole at the end."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import optuna

from mergenet.records.run_record import read_run
from sweeps.config.loading import dump_sweep
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import COMMAND

SEARCH = {
    "target.optimizer.lr": {"float": [0.01, 0.1], "log": True},
    "transfer.adapter.rank": {"int": [2, 12]},
}
VICTIMS = {
    "worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "queue": "ray::JobQueue",
    "raylet": "src/ray/raylet/raylet --",
    "gcs": "src/ray/gcs/gcs_server --",
}


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
    table = subprocess.run(["ps", "-eww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
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


def check_whole(folder: Path, num_trials: int, epochs: int, seeds: int) -> None:
    """No trial is lost, duplicated or told twice; no epoch is recorded twice."""
    runs = sorted((folder / "trials").iterdir())
    assert len(runs) == (num_trials + 1) * seeds + 4
    for run in runs:
        record = read_run(run)
        assert record.result["status"] == "finished"
        assert [row["epoch"] for row in record.epochs] == list(range(1, epochs + 1))
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'study.db'}")
    failed = optuna.trial.TrialState.FAIL  # an attempt that was retried stays in the study beside the one that ended
    told = [t for t in study.trials if "index" in t.user_attrs and t.state != failed]
    assert sorted(t.user_attrs["index"] for t in told) == list(range(num_trials))
    assert {t.state for t in told} == {optuna.trial.TrialState.COMPLETE}
    for trial in told:
        name = trial.user_attrs["trial_id"]
        names = [name, *(f"{name}-seed-{place}" for place in range(2, seeds + 1))]
        records = [read_run(folder / "trials" / name) for name in names]
        assert trial.value == fmean(max(row["target_val_top1"] for row in record.epochs) for record in records)


def status(sweep: Path) -> str:
    path = sweep / "sweep.json"
    return str(json.loads(path.read_text())["status"]) if path.exists() else "not begun"


def again(sweep: Path) -> tuple[str, ...]:
    return ("resume", str(sweep)) if (sweep / "sweep.json").exists() else ("run", "tiny.yaml", "--dir", str(sweep))
