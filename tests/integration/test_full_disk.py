"""A sweep on a disk that fills while it trains: one clear line, and after room was made it ends as if nothing was."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from mergenet.config.loading import dump_yaml
from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record
from sweeps.config.loading import dump_sweep
from tests.sweeps.base import base_config, sweep_config
from tests.sweeps.small_disk import fill, small_disk
from tests.sweeps.sweep_command import COMMAND, sweep_command, sweep_environment

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}, "transfer.adapter.rank": {"int": [2, 8]}}
EPOCHS, TRIALS = 6, 4


def wait_for(done: Callable[[], bool], what: str, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_a_disk_that_fills_pauses_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(dump_yaml(base_config(epochs=EPOCHS)))
    settings = {"num_trials": TRIALS, "confirm_seeds": 0, "sampler": "random", "scheduler": "none", "slots": 2}
    sweep = sweep_config(SEARCH, **settings, wandb={"mode": "offline"})
    (tmp_path / "tiny.yaml").write_text(dump_sweep(sweep))
    with small_disk(tmp_path / "disk", 192) as disk:
        folder = disk / "sweep"
        rows = folder / "trials/trial-001/epochs.jsonl"
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "run", "tiny.yaml", "--dir", str(folder)],
            cwd=tmp_path,
            env=sweep_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: process.poll() is not None or (rows.exists() and bool(rows.read_text())), "it trains")
            ballast = fill(disk)
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode == 1, out + err
        assert len(err.splitlines()) == 1, err
        assert err.startswith(f"error: the sweep paused: {folder}/")
        assert "No space left on device" in err or "disk is full" in err
        assert err.endswith(
            "; nothing is lost: make room, or make it writable, "
            "and `mergenet sweep resume disk/sweep` goes on from there\n"
        )
        states = [json.loads(path.read_text())["state"] for path in folder.glob("trials/*/trial.json")]
        assert "failed" not in states

        again, _ = sweep_command(tmp_path, "resume", str(folder))
        assert again.returncode in (1, 2)
        assert len(again.stderr.splitlines()) == 1, again.stderr
        assert "No space left on device" in again.stderr

        ballast.unlink()
        resumed, _ = sweep_command(tmp_path, "resume", str(folder))
        assert (resumed.returncode, resumed.stderr) == (0, ""), resumed.stdout
        summary = read_record(folder / "summary.json")
        assert [trial["state"] for trial in summary["trials"]] == ["complete"] * TRIALS
        for name in ["baseline", *(f"trial-{number:03d}" for number in range(TRIALS))]:
            assert [row["epoch"] for row in read_run(folder / "trials" / name).epochs] == list(range(1, EPOCHS + 1))
        study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'study.db'}")
        told = {trial.user_attrs.get("trial_id"): trial for trial in study.trials if "index" in trial.user_attrs}
        assert {name: trial.value for name, trial in told.items()} == {
            trial["trial_id"]: trial["value"] for trial in summary["trials"]
        }
        del study
