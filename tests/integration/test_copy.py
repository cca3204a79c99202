"""A machine is lost with its sweep folder; the sweep goes on elsewhere from its copy in S3."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mergenet.records.run_record import read_run
from sweeps.config.loading import dump_sweep
from sweeps.tracking.remote_copy import MANIFEST, filesystem, sizes, stamps
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.s3 import BUCKET, KEYS, S3
from tests.sweeps.sweep_command import CANARY, COMMAND, holding, sweep_command, sweep_environment

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}, "transfer.adapter.rank": {"int": [2, 8]}}
TRIALS, EPOCHS = 4, 2


def test_a_sweep_goes_on_from_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_base(tmp_path)
    settings = {"num_trials": TRIALS, "confirm_seeds": 0, "sampler": "random", "scheduler": "none", "slots": 1}
    (tmp_path / "tiny.yaml").write_text(dump_sweep(sweep_config(SEARCH, **settings)))
    folder, url = tmp_path / "sweep-results/tiny", f"s3://{BUCKET}/tiny"
    with S3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "run", "tiny.yaml", "--copy-to", url],
            cwd=tmp_path,
            env=sweep_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 400
            while "trials/trial-000/trial.json" not in sizes(filesystem(url)):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        copied = json.loads(filesystem(url).open_input_stream("trials/trial-000/trial.json").read())
        time.sleep(5)  # workers of the driver that was killed notice, and no longer write
        shutil.rmtree(folder)
        resumed, _ = sweep_command(tmp_path, "resume", url)
        assert (resumed.returncode, resumed.stderr) == (0, ""), resumed.stdout
        assert "copy:" not in resumed.stdout
        assert sizes(filesystem(url)).keys() == stamps(folder).keys() | {MANIFEST}
    summary = json.loads((folder / "summary.json").read_text())
    assert [trial["state"] for trial in summary["trials"]] == ["complete"] * TRIALS
    assert summary["trials"][0]["params"] == copied["params"]
    for trial in summary["trials"]:
        record = read_run(folder / "trials" / trial["trial_id"])
        assert [row["epoch"] for row in record.epochs] == list(range(1, EPOCHS + 1))
    files, bad = holding([folder], [CANARY, *(KEYS[name] for name in KEYS if "KEY" in name)])
    assert files
    assert bad == []
