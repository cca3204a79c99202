"""A sweep that version 0.2.0 began and left paused, within a trial: this version ends it, and it comes out the same.

Made by `mergenet sweep run` of 0.2.0 (tests/data/sweep-0.2.0-paused.tar.xz, its sweep.yaml within) and Ctrl-C; the
summary is the one with which 0.2.0 itself ended a copy of it.
"""

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from analysis import best
from analysis.tables import load
from mergenet.config.loading import load_config
from mergenet.records.provenance import provenance
from mergenet.records.run_record import read_provenance, read_run
from mergenet.records.sealed import read_record
from sweeps.config.loading import load_sweep
from tests.sweeps.sweep_command import COMMAND, sweep_environment

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1000)]
DATA = Path(__file__).parents[1] / "data"
READ = ("baseline", "trial-000")  # had ended; all else trains here


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("older")
    with tarfile.open(DATA / "sweep-0.2.0-paused.tar.xz") as archive:
        archive.extractall(place, filter="data")
    run = [sys.executable, "-c", COMMAND, "resume", "kept"]
    done = subprocess.run(run, cwd=place, env=sweep_environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "kept"


def same_machine(folder: Path) -> bool:
    """Whether the last bits must agree: the CPU and torch are those that began the sweep."""
    then = read_provenance(folder / "trials/trial-000")
    now = provenance(load_config(str(folder / "base.yaml")), {})
    return (
        all(then[key] == now[key] for key in ("cpu", "device"))
        and then["versions"]["torch"] == now["versions"]["torch"]
    )


def test_it_ends_as_it_would_have(ended: Path) -> None:
    then = read_record(DATA / "sweep-0.2.0-summary.json")
    now = read_record(ended / "summary.json")

    def shown(summary: dict[str, Any], key: str) -> list[Any]:
        return [trial[key] for trial in summary["trials"]]

    for key in ("trial_id", "state", "params", "epochs"):
        assert shown(now, key) == shown(then, key)
    assert now["baseline"]["value"] == then["baseline"]["value"]
    assert now["trials"][0]["test"] == then["trials"][0]["test"], "it was only read"
    slack = 0 if same_machine(ended) else 0.1
    assert shown(now, "value") == pytest.approx(shown(then, "value"), abs=slack)
    for metric in ("target_val_top1", "target_test_top1"):
        for side in ("best", "none"):
            values = now["confirmation"][metric][side]
            assert values == pytest.approx(then["confirmation"][metric][side], abs=slack)


def test_the_trial_that_was_paused_went_on_where_it_was(ended: Path) -> None:
    record = read_run(ended / "trials/trial-001")
    assert [entry["epochs_done"] for entry in record.provenance["resumed"]] == [10]
    assert "resumed" not in read_run(ended / "trials/trial-000").provenance


def test_it_is_analysed_and_its_best_exported(ended: Path, tmp_path: Path) -> None:
    table = load.load_trials(ended)
    assert set(table["role"]) == {"trial", "baseline", "confirm_best", "confirm_none", "confirm_noise"}
    assert len(table) == 4 + 1 + 6
    row = best.write_best(ended, tmp_path / "best.yaml")
    config = load_config(str(tmp_path / "best.yaml"))
    assert (config.source.kind, config.transfer.t_cycle) == ("live", row["transfer.t_cycle"])
    assert load_sweep(str(ended / "sweep.yaml")).adapter_seeds == 0
