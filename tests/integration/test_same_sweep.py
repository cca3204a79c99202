"""The same sweep file and seed with one slot: the same trials with the same metrics, stopped at the same epochs.

So it is where a driver is killed after its study knows that a trial was stopped and before its worker has noted that.
"""

from pathlib import Path
from typing import Any

import pytest

from analysis.names import PRUNED, RUNNING
from analysis.trial_file import TRIAL_FILE, trial_folders, trial_of
from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record, write_record
from sweeps.config.loading import dump_sweep
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import sweep_command, without_seconds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEARCH = {
    "target.optimizer.lr": {"float": [0.001, 0.1], "log": True},
    "transfer.adapter.rank": {"int": [2, 12], "log": True},
    "transfer.t_cycle": {"choice": [2, 4]},
}


def run(folder: Path) -> Path:
    """Runs the sweep. Returns its folder."""
    write_base(folder)
    sweep = sweep_config(SEARCH, num_trials=6, slots=1, confirm_seeds=0, grace_epochs=1, set={"epochs": 4})
    (folder / "tiny.yaml").write_text(dump_sweep(sweep))
    process, _ = sweep_command(folder, "run", "tiny.yaml")
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "sweep-results/tiny"


def trials_of(sweep: Path) -> dict[str, Any]:
    """What each trial drew and every number that it measured, but seconds."""
    found = {}
    for path in sorted((sweep / "trials").iterdir()):
        record = read_run(path)
        rows = [without_seconds(row) for row in record.epochs]
        found[path.name] = (record.config["transfer"], record.config["target"]["optimizer"], rows)
    return found


def test_one_slot_repeats_itself(tmp_path: Path) -> None:
    runs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        runs.append(trials_of(run(tmp_path / name)))
    assert len(runs[0]) == 1 + 6  # the baseline
    assert runs[0] == runs[1]
    assert len({len(rows) for _, _, rows in runs[0].values()}) > 1, "some trials are stopped early"
    assert len({transfer["adapter"]["rank"] for transfer, _, _ in runs[0].values()}) > 1, "trials differ"

    sweep = tmp_path / "second/sweep-results/tiny"
    pruned = next(path for path in trial_folders(sweep) if state_of(path) == PRUNED)
    write_record(
        pruned / TRIAL_FILE, dict(read_record(pruned / TRIAL_FILE)) | {"state": RUNNING}
    )  # as killed just then
    process, _ = sweep_command(tmp_path / "second", "resume", "sweep-results/tiny")
    assert process.returncode == 0, process.stdout + process.stderr
    assert pruned.name in process.stdout + process.stderr, "it has trained again"
    assert state_of(pruned) == PRUNED
    assert trials_of(sweep) == runs[0]


def state_of(run: Path) -> str:
    trial = trial_of(run)
    assert trial is not None
    return str(trial["state"])
