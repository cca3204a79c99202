"""Whole sweeps on the real Ray: processes of a trial's own, two workers a trial, a budget that ends the search."""

from pathlib import Path
from typing import Any

import pytest

from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record
from sweeps.config.loading import dump_sweep
from sweeps.report.status import read_status, status_lines
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import sweep_command

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

SEARCH = {"transfer.adapter.rank": {"int": [2, 12], "log": True}, "transfer.t_cycle": {"choice": [2, 4]}}


def run_sweep(folder: Path, *arguments: str, **changes: Any) -> Path:
    write_base(folder)
    sweep = sweep_config(SEARCH, num_trials=2, **changes)
    (folder / "tiny.yaml").write_text(dump_sweep(sweep))
    process, left_over = sweep_command(folder, "run", "tiny.yaml", *arguments)
    assert process.returncode == 0, process.stdout + process.stderr
    assert left_over == []
    return folder / "sweep-results/tiny"


def check_whole(folder: Path) -> dict[str, Any]:
    summary = dict(read_record(folder / "summary.json"))
    assert {trial["state"] for trial in summary["trials"]} <= {"complete", "pruned"}
    assert len(summary["trials"]) == 2
    assert read_run(folder / "trials" / summary["best"]["trial_id"]).config["source"]["kind"] == "recorded"
    return summary


def test_a_trial_of_its_own_processes(tmp_path: Path) -> None:
    folder = run_sweep(tmp_path, "--executor", "per_trial", confirm_seeds=0)
    check_whole(folder)
    assert "executor: per_trial\n" in (folder / "sweep.yaml").read_text()


def test_two_workers_a_trial(tmp_path: Path) -> None:
    """Both take their half of each batch, of the source's too, and the best can be trained again by two workers."""
    folder = run_sweep(tmp_path, "--workers-per-trial", "2", "--max-concurrent", "1", confirm_seeds=1)
    summary = check_whole(folder)
    assert read_record(folder / "source/recording.json")["epochs"]
    assert summary["baseline"]["finished"]
    assert summary["confirmation"]["seeds"] == [1]


def test_a_budget_ends_the_search_and_the_best_is_confirmed(tmp_path: Path) -> None:
    """Of 20 trials of 2 epochs one after the other: the third is not begun, because 4 epochs are spent."""
    arguments = ("--max-concurrent", "1", "--set", "num_trials=20", "--set", "budget_epochs=4")
    folder = run_sweep(tmp_path, *arguments, confirm_seeds=1, scheduler="none")
    summary = check_whole(folder)
    assert summary["budget"]["search_epochs"] == 4
    assert summary["confirmation"]["seeds"] == [1]
    found = read_status(folder)
    assert (found["status"], found["driver"], found["seconds_left"]) == ("finished", False, 0)
    assert "budget of the search: 4 of 4 epochs" in "\n".join(status_lines(found))
