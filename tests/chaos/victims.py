"""Sweeps that are killed: each a process of its own, of which a part is chosen; and what must be whole at the end."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from statistics import fmean

import optuna

from mergenet.records.run_record import read_run
from sweeps.config.loading import dump_sweep
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import COMMAND, MARK

SEARCH = {
    "target.optimizer.lr": {"float": [0.01, 0.1], "log": True},
    "transfer.adapter.rank": {"int": [2, 12]},
}
VICTIMS = {
    "worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "queue": "ray::JobQueue",
    "relay": "ray::SweepRelay",
    "raylet": "src/ray/raylet/raylet --",
    "gcs": "src/ray/gcs/gcs_server --",
    "fork server": "forkserver.server",
    "fork client": "forkserver.client",
}


marks = dict[int, str]()  # of each driver: a variable in the environment of all that it starts


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
    command, mark = [sys.executable, "-c", COMMAND, *arguments], uuid.uuid4().hex
    environment = os.environ | {"PYTHONPATH": path, MARK: mark}
    driver = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out, text=True)
    marks[driver.pid] = mark
    return driver


def family(driver: int) -> dict[int, str]:
    """The driver and all that it has started, whoever is its parent by now: process number -> command line."""
    mark = f"{MARK}={marks[driver]}\0".encode()
    found = dict[int, str]()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if int(path.name) == driver or mark in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


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
